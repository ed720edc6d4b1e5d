//! Tests the watcher on a real etcd that is away for a time.

use std::sync::Arc;

use lock_core::Error;
use testkit::fixtures::etcd::Node;
use testkit::waiting::SOON;
use tokio::sync::{mpsc, oneshot};

use super::reopening::Reopening;
use super::stream::Target;
use super::watcher::{Change, Command, Waiting, Watcher};
use super::{Watched, Watches};
use crate::config::Config;
use crate::transport::Transport;

/// A watch that was asked for.
struct Asked {
    confirmed: oneshot::Receiver<i64>,
    _change: oneshot::Receiver<Change>,
}

async fn ask(watcher: &mut Watcher, key: &[u8]) -> Result<Asked, Error> {
    let (confirmation, confirmed) = oneshot::channel();
    let (change, receiver) = oneshot::channel();
    let waiting = Waiting {
        serial: 1,
        after: 0,
        change,
    };
    let added = watcher
        .add(Target::Key(key.into()), waiting, confirmation)
        .await;
    added.map_err(|failure| failure.error)?;
    Ok(Asked {
        confirmed,
        _change: receiver,
    })
}

#[tokio::test]
async fn a_new_stream_carries_all_watches_that_wait_for_one() {
    let mut node = Node::start().await;
    let config = Config::tcp([node.address()]).expect("a valid address");
    let transport = Transport::new(config).expect("a valid configuration");
    let (_commands, queue) = mpsc::unbounded_channel::<Command>();
    let mut watcher = Watcher::new(transport, queue);
    node.kill();
    // The second one finds out that the first has just failed.
    let first = ask(&mut watcher, b"a").await.expect("it waits");
    let second = ask(&mut watcher, b"b").await.expect("it waits");
    assert!(node.resume().await, "it starts again");
    // The pause is over, and nothing has noticed it yet.
    watcher.reopening = Reopening::default();
    let third = ask(&mut watcher, b"c").await.expect("it is asked for");
    let running = tokio::spawn(watcher.run());
    for asked in [first, second, third] {
        asked.confirmed.await.expect("the server has confirmed it");
    }
    running.abort();
}

#[tokio::test]
async fn a_watch_on_a_range_reports_keys_that_are_made_or_deleted() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let config = Config::tcp([node.address()]).expect("a valid address");
    let watches = Watches::new(Transport::new(config).expect("a valid configuration"));
    let range = Target::Range(Arc::new((b"q/".to_vec(), b"q0".to_vec())));
    let mut seen = 0;
    for (puts, deleted) in [
        (&["q/a"][..], None),
        (&["q/a", "q/b"], None),
        (&["q/b"], Some("q/a")),
    ] {
        let watched = watches.watch(range.clone(), seen).await.expect("it begins");
        let Watched::Since(_, mut watch) = watched else {
            panic!("nothing has changed: {watched:?}");
        };
        let mut last = 0;
        for key in puts {
            let put = client.put(*key, "", None).await.expect("written");
            last = put.header().expect("a header").revision();
        }
        if let Some(key) = deleted {
            let deleted = client.delete(key, None).await.expect("deleted");
            last = deleted.header().expect("a header").revision();
        }
        // The last step is a change, and no other is.
        let change = tokio::time::timeout(SOON, watch.wait_for_change()).await;
        seen = change.expect("it is reported").expect("the watch is good");
        assert_eq!(seen, last, "after {puts:?} and the end of {deleted:?}");
    }
}

//! Tests the watcher on a real etcd that is away for a time.

use lock_core::Error;
use testkit::fixtures::etcd::Node;
use tokio::sync::{mpsc, oneshot};

use super::reopening::Reopening;
use super::stream::Target;
use super::watcher::{Change, Command, Waiting, Watcher};
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

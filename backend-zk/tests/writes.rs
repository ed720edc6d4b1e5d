//! The values of holders in a real ZooKeeper, when requests and replies get lost.

mod support;

use std::time::Duration;

use conformance::Proxy;
use lock_core::{Guard, Locks, Release};
use support::{acquire, eventually, locks, name, soon};
use testkit::fixtures::zk::{Ensemble, Settings};

const TTL: Duration = Duration::from_secs(20);

/// The size of a value. It makes a put longer than all other requests.
const VALUE_BYTES: usize = 10_000;

async fn holder(ensemble: &Ensemble) -> (Proxy, Locks, Guard) {
    let url = ensemble.url();
    let proxy = Proxy::start(url.trim_start_matches("zk://"));
    let locks = locks(&format!("zk://{}", proxy.address()), TTL);
    let guard = acquire(&locks, &name("a")).await;
    guard.put("k", "before").await.expect("ours");
    (proxy, locks, guard)
}

async fn value(locks: &Locks) -> String {
    let value = locks.get("k").await.expect("an answer");
    String::from_utf8(value.expect("there is a value")).expect("text")
}

#[tokio::test]
async fn a_put_whose_reply_is_lost_is_sent_again() {
    let ensemble = Ensemble::start(Settings::default());
    let others = locks(&ensemble.url(), TTL);
    let (proxy, _locks, guard) = holder(&ensemble).await;
    proxy.mute();
    soon("the put", guard.put("k", "one")).await.expect("ours");
    assert_eq!(value(&others).await, "one");
    proxy.mute();
    soon("the removal", guard.delete("k")).await.expect("ours");
    assert_eq!(others.get("k").await.expect("an answer"), None);
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
}

#[tokio::test]
async fn a_put_that_arrives_late_never_follows_a_later_one() {
    let ensemble = Ensemble::start(Settings::default());
    let others = locks(&ensemble.url(), TTL);
    let (proxy, _locks, guard) = holder(&ensemble).await;
    proxy.hold();
    let cut = async {
        eventually("the request", async || proxy.held_bytes() >= VALUE_BYTES).await;
        proxy.cut();
    };
    let long = "x".repeat(VALUE_BYTES);
    let (put, ()) = tokio::join!(soon("the put", guard.put("k", &long)), cut);
    put.expect("ours");
    assert_eq!(value(&others).await, long, "by the second try");
    soon("a put", guard.put("k", "last")).await.expect("ours");
    proxy.deliver();
    // The requests of the old connection have been executed, or dropped with it, before this one.
    assert_eq!(
        guard.get("k").await.expect("ours").as_deref(),
        Some(&b"last"[..])
    );
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    assert_eq!(value(&others).await, "last");
}

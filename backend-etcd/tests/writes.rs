//! The values of holders in a real etcd, when requests and replies get lost.

mod support;

use std::future::Future;
use std::time::Duration;

use conformance::Proxy;
use lock_core::{Error, Guard, Locks, Release};
use support::{Node, backend, deliver, locks, locks_of};
use testkit::waiting::{soon, wait_until};

const TTL: Duration = Duration::from_secs(10);

/// The size of a value. It makes a put longer than all other requests.
const VALUE_BYTES: usize = 1000;

/// Starts a holder behind a proxy, whose requests time out after half a second.
async fn holder(etcd: &Node) -> (Proxy, Locks, Guard) {
    let proxy = Proxy::start(etcd.address());
    let url = format!("etcd://{}?request_timeout=500ms", proxy.address());
    let locks = locks(backend(&url), TTL);
    let lock = locks.mutex("a").expect("valid");
    let guard = soon("the lock", lock.acquire()).await.expect("free");
    guard.put("k", "before").await.expect("ours");
    (proxy, locks, guard)
}

/// Lets a put reach the socket of a server that stands still, and drops its future.
async fn strand(proxy: &Proxy, put: impl Future<Output = Result<(), Error>>) {
    proxy.hold();
    {
        let mut put = std::pin::pin!(put);
        while proxy.held_bytes() < VALUE_BYTES {
            let slice = Duration::from_millis(5);
            let polled = tokio::time::timeout(slice, put.as_mut()).await;
            assert!(polled.is_err(), "nobody can have answered");
        }
    }
    proxy.cut();
}

async fn value(locks: &Locks) -> String {
    let value = locks.get("k").await.expect("an answer");
    String::from_utf8(value.expect("there is a value")).expect("text")
}

#[tokio::test]
async fn a_put_whose_reply_is_lost_is_sent_again() {
    let etcd = Node::start().await;
    let others = locks_of(&etcd, TTL);
    let (proxy, _locks, guard) = holder(&etcd).await;
    for text in ["one", "two"] {
        proxy.mute();
        soon("the put", guard.put("k", text)).await.expect("ours");
        assert_eq!(value(&others).await, text);
    }
    proxy.mute();
    soon("the removal", guard.delete("k")).await.expect("ours");
    assert_eq!(others.get("k").await.expect("an answer"), None);
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
}

#[tokio::test]
async fn a_put_that_arrives_late_never_follows_a_later_one() {
    let etcd = Node::start().await;
    let others = locks_of(&etcd, TTL);
    let (proxy, _locks, guard) = holder(&etcd).await;
    strand(&proxy, guard.put("k", vec![b'x'; VALUE_BYTES])).await;
    soon("the put", guard.put("k", "later"))
        .await
        .expect("ours");
    deliver(&proxy).await;
    assert_eq!(value(&others).await, "later");
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
}

#[tokio::test]
async fn a_put_that_arrives_late_never_follows_a_read() {
    let etcd = Node::start().await;
    let (proxy, _locks, guard) = holder(&etcd).await;
    strand(&proxy, guard.put("k", vec![b'x'; VALUE_BYTES])).await;
    let read = || async { soon("the read", guard.get("k")).await.expect("ours") };
    let found = read().await;
    assert_eq!(found.as_deref(), Some(&b"before"[..]));
    deliver(&proxy).await;
    assert_eq!(read().await, found);
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
}

#[tokio::test]
async fn a_put_that_arrives_after_the_release_changes_nothing() {
    let etcd = Node::start().await;
    let others = locks_of(&etcd, TTL);
    let (proxy, _locks, guard) = holder(&etcd).await;
    strand(&proxy, guard.put("k", vec![b'x'; VALUE_BYTES])).await;
    let released = soon("the release", guard.release())
        .await
        .expect("an answer");
    assert_eq!(released, Release::Released);
    deliver(&proxy).await;
    assert_eq!(value(&others).await, "before");
}

#[tokio::test]
async fn an_interrupted_put_is_sent_again_before_it_arrives_late() {
    let etcd = Node::start().await;
    let others = locks_of(&etcd, TTL);
    let (proxy, _locks, guard) = holder(&etcd).await;
    proxy.hold();
    let cut = async {
        wait_until("the request", || proxy.held_bytes() >= VALUE_BYTES).await;
        proxy.cut();
    };
    let long = vec![b'x'; VALUE_BYTES];
    let (put, ()) = tokio::join!(soon("the put", guard.put("k", &long)), cut);
    put.expect("ours");
    soon("a put", guard.put("k", "last")).await.expect("ours");
    deliver(&proxy).await;
    assert_eq!(value(&others).await, "last");
}

//! How soon a loss is reported, measured from when the server knows of it.

mod support;

use std::future::Future;
use std::time::{Duration, Instant};

use conformance::Proxy;
use etcd_client::{EventType, WatchOptions};
use lock_core::{ErrorKind, LossReason, Release, State};
use support::{Node, backend, locks, locks_of};
use testkit::waiting::soon;

/// So long that no renewal can be the one to report the loss.
const LONG: Duration = Duration::from_secs(600);
const ROUNDS: usize = 7;

/// Returns the median of the times, which a limit is for. The machine may be busy in some rounds.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    println!("told after {times:?}");
    times[times.len() / 2]
}

/// Waits until the server has this many watches. The watches on held entries, and on the own
/// entries of waiters, begin a moment after the grant and the wait.
async fn watched(etcd: &Node, count: u64) {
    let counted = async {
        while etcd.watches().await != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the watches", counted).await;
}

#[tokio::test]
async fn a_revoked_lease_reaches_holder_and_waiter_within_100_ms() {
    let etcd = Node::start().await;
    let mut client = etcd.client().await;
    let (mut held, mut waited) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        let (holder, waiter) = (locks_of(&etcd, LONG), locks_of(&etcd, LONG));
        let mutex = holder.mutex("x").expect("valid");
        let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
        let mutex = waiter.mutex("x").expect("valid");
        let waiting = tokio::spawn(async move { mutex.acquire().await });
        etcd.wait_keys("turnlock/x/", 2).await;
        // The holder watches its entry. The waiter watches that entry and its own.
        watched(&etcd, 3).await;

        let revoke = waiter.session_id().expect("a session").0;
        client.lease_revoke(revoke).await.expect("revoked");
        let revoked = Instant::now();
        let failed = soon("the waiter's loss", waiting).await.expect("no panic");
        waited.push(revoked.elapsed());
        let kind = failed.expect_err("nothing was granted").kind();
        assert_eq!(kind, ErrorKind::SessionLost(LossReason::SessionGone));

        let revoke = holder.session_id().expect("a session").0;
        client.lease_revoke(revoke).await.expect("revoked");
        let revoked = Instant::now();
        soon("the holder's loss", guard.lost()).await;
        held.push(revoked.elapsed());
        assert!(matches!(guard.state(), State::Lost(_)));
        assert_eq!(
            guard.release().await.expect("an answer"),
            Release::AlreadyGone
        );
    }
    assert!(median(held) < Duration::from_millis(100));
    assert!(median(waited) < Duration::from_millis(100));
}

#[tokio::test]
async fn a_deleted_key_reaches_holder_and_waiter_within_100_ms() {
    let etcd = Node::start().await;
    let mut client = etcd.client().await;
    let (mut held, mut waited) = (vec![], vec![]);
    let (holder, waiter) = (locks_of(&etcd, LONG), locks_of(&etcd, LONG));
    for round in 0..ROUNDS {
        let name = format!("x{round}");
        let mutex = holder.mutex(name.as_str()).expect("valid");
        let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
        let mutex = waiter.mutex(name.as_str()).expect("valid");
        let waiting = tokio::spawn(async move { mutex.acquire().await });
        let keys = etcd.wait_keys(&format!("turnlock/{name}/"), 2).await;
        // The watches of the previous round stay for a moment, too.
        watched(&etcd, 3).await;

        client.delete(keys[1].clone(), None).await.expect("deleted");
        let deleted = Instant::now();
        let failed = soon("the waiter's loss", waiting).await.expect("no panic");
        waited.push(deleted.elapsed());
        let kind = failed.expect_err("nothing was granted").kind();
        assert_eq!(kind, ErrorKind::Evicted);

        client.delete(keys[0].clone(), None).await.expect("deleted");
        let deleted = Instant::now();
        let reason = soon("the holder's loss", guard.lost()).await;
        held.push(deleted.elapsed());
        assert_eq!(reason, LossReason::EntryGone);
        assert_eq!(guard.state(), State::Lost(LossReason::EntryGone));
        assert_eq!(
            guard.release().await.expect("an answer"),
            Release::AlreadyGone
        );
    }
    assert!(median(held) < Duration::from_millis(100));
    assert!(median(waited) < Duration::from_millis(100));
    // The sessions themselves live on.
    let mutex = holder.mutex("x0").expect("valid");
    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
    assert_eq!(guard.state(), State::Held);
}

/// Waits until the server deletes the first key under the prefix. Returns when it did.
async fn deletion(etcd: &Node, prefix: &str) -> impl Future<Output = Instant> + use<> {
    let mut client = etcd.client().await;
    let options = WatchOptions::new().with_prefix();
    let mut watch = client.watch(prefix, Some(options)).await.expect("watched");
    async move {
        loop {
            let answer = watch.message().await.expect("etcd serves");
            let answer = answer.expect("the watch goes on");
            if answer
                .events()
                .iter()
                .any(|event| event.event_type() == EventType::Delete)
            {
                return Instant::now();
            }
        }
    }
}

#[tokio::test]
async fn a_holder_behind_a_silent_link_loses_before_the_server_frees_the_lock() {
    for seconds in [2, 5] {
        let ttl = Duration::from_secs(seconds);
        let etcd = Node::start().await;
        let proxy = Proxy::start(etcd.address());
        let url = format!("etcd://{}", proxy.address());
        let holder = locks(backend(&url), ttl);
        let mutex = holder.mutex("x").expect("valid");
        let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
        let deleted = deletion(&etcd, "turnlock/x/").await;
        let waiter = locks_of(&etcd, ttl);
        let mutex = waiter.mutex("x").expect("valid");
        let waiting = tokio::spawn(async move {
            let guard = mutex.acquire().await.expect("acquired");
            (Instant::now(), guard)
        });
        etcd.wait_keys("turnlock/x/", 2).await;

        proxy.silence();
        let doubted = async {
            while guard.state() == State::Held {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(guard.state(), State::Jeopardy, "before it is lost");
            Instant::now()
        };
        let doubted = soon("jeopardy", doubted).await;
        let (lost, deleted) = tokio::join!(
            async {
                let reason = soon("the loss", guard.lost()).await;
                assert_eq!(reason, LossReason::Expired);
                Instant::now()
            },
            soon("the server's deletion", deleted)
        );
        let (granted, next) = soon("the next turn", waiting).await.expect("no panic");
        println!(
            "ttl {seconds} s: lost {:?} after jeopardy, deleted {:?} after that, granted {:?} \
             after that",
            lost - doubted,
            deleted.saturating_duration_since(lost),
            granted.saturating_duration_since(deleted)
        );
        assert!(lost < deleted, "the holder knew first");
        assert!(next.token() > guard.token());
    }
}

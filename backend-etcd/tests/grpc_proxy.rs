//! etcd's own `grpc-proxy` between clients and server. It renews when it pleases, gathers watches,
//! confirms them in any order, remembers reads, and answers no requests of progress: none of it
//! changes what a lock means.

mod support;

use std::time::{Duration, Instant};

use conformance::Proxy;
use lock_core::{ErrorKind, Guard, Locks, LossReason, OnSessionLoss, Options, Release, State};
use support::{Node, backend, locks, locks_of};
use testkit::fixtures::etcd::GrpcProxy;
use testkit::waiting::soon;
use tokio::task::JoinHandle;

const TTL: Duration = Duration::from_secs(10);
/// A short time to live, for the tests that wait for its end.
const SHORT: Duration = Duration::from_secs(4);

/// Returns the locks of a process behind the proxy.
fn behind(proxy: &GrpcProxy, ttl: Duration) -> Locks {
    locks(backend(&format!("etcd://{}", proxy.address())), ttl)
}

async fn hold(locks: &Locks, name: &str) -> Guard {
    let mutex = locks.mutex(name).expect("valid");
    soon("acquire", mutex.acquire()).await.expect("granted")
}

fn wait(locks: &Locks, name: &str) -> JoinHandle<Result<Guard, lock_core::Error>> {
    let mutex = locks.mutex(name).expect("valid");
    tokio::spawn(async move { mutex.acquire().await })
}

#[tokio::test]
async fn clients_on_both_sides_take_turns_and_tokens_rise() {
    const TURNS: usize = 25;
    let etcd = Node::start().await;
    let mut proxy = GrpcProxy::start(&etcd).await;
    let clients = [
        behind(&proxy, TTL),
        behind(&proxy, TTL),
        locks_of(&etcd, TTL),
    ];
    let inside = std::sync::Arc::new(std::sync::Mutex::new(0));
    let contending = clients.map(|locks| {
        let inside = inside.clone();
        tokio::spawn(async move {
            for _ in 0..TURNS {
                let guard = hold(&locks, "x").await;
                let last = *inside.try_lock().expect("nobody else is in");
                assert!(guard.token().0 > last);
                tokio::task::yield_now().await;
                *inside.try_lock().expect("nobody else is in") = guard.token().0;
                assert_eq!(guard.release().await.expect("an answer"), Release::Released);
            }
        })
    });
    for client in contending {
        client.await.expect("its turns");
    }
    assert!(proxy.runs(), "{}", proxy.log());
}

/// Some versions of the proxy crash on a request for the progress of a watch.
#[tokio::test]
async fn holder_and_waiter_outlive_several_times_to_live_and_so_does_the_proxy() {
    let etcd = Node::start().await;
    let mut proxy = GrpcProxy::start(&etcd).await;
    let (holder, waiter) = (behind(&proxy, SHORT), behind(&proxy, SHORT));
    let guard = hold(&holder, "x").await;
    let token = guard.token();
    let waiting = wait(&waiter, "x");
    etcd.wait_keys("turnlock/x/", 2).await;
    let sessions = (holder.session_id(), waiter.session_id());
    let started = Instant::now();
    while started.elapsed() < SHORT * 4 {
        assert!(!matches!(guard.state(), State::Lost(_)), "{guard:?}");
        assert!(!waiting.is_finished());
        assert!(proxy.runs(), "{}", proxy.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((holder.session_id(), waiter.session_id()), sessions);
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    let next = soon("the next turn", waiting).await.expect("no panic");
    assert!(next.expect("its turn").token() > token);
}

#[tokio::test]
async fn a_waiter_is_woken_by_the_release_and_not_by_its_own_look() {
    const ROUNDS: usize = 7;
    let etcd = Node::start().await;
    let proxy = GrpcProxy::start(&etcd).await;
    let (direct, waiter) = (locks_of(&etcd, TTL), behind(&proxy, TTL));
    let mut waited = vec![];
    for round in 0..ROUNDS {
        let name = format!("x{round}");
        let guard = hold(&direct, &name).await;
        let waiting = wait(&waiter, &name);
        etcd.wait_keys(&format!("turnlock/{name}/"), 2).await;
        // Its watches have begun.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let released = Instant::now();
        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
        let next = soon("the turn", waiting).await.expect("no panic");
        waited.push(released.elapsed());
        let _ = next.expect("granted").release().await;
    }
    waited.sort_unstable();
    assert!(waited[ROUNDS / 2] < Duration::from_secs(1), "{waited:?}");
}

#[tokio::test]
async fn a_holder_notices_changes_that_are_made_on_etcd_itself() {
    let etcd = Node::start().await;
    let proxy = GrpcProxy::start(&etcd).await;
    let mut by_hand = etcd.client().await;
    let (deleted, revoked) = (behind(&proxy, TTL), behind(&proxy, TTL));
    let guards = (hold(&deleted, "a").await, hold(&revoked, "b").await);

    let key = etcd.wait_keys("turnlock/a/", 1).await.remove(0);
    by_hand.delete(key, None).await.expect("deleted");
    let reason = soon("the loss", guards.0.lost()).await;
    assert_eq!(reason, LossReason::EntryGone);
    assert!(deleted.session_id().is_some(), "the session lives on");

    let done = Instant::now();
    let session = revoked.session_id().expect("a session").0;
    by_hand.lease_revoke(session).await.expect("revoked");
    soon("the loss", guards.1.lost()).await;
    assert!(done.elapsed() < TTL, "{:?}", done.elapsed());
    assert_eq!(
        guards.1.release().await.expect("an answer"),
        Release::AlreadyGone
    );
    let renewed = async {
        while revoked.session_id().is_some_and(|id| id.0 == session) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the session is known to be over", renewed).await;
    assert_eq!(
        hold(&revoked, "b")
            .await
            .release()
            .await
            .expect("an answer"),
        Release::Released
    );
}

/// A deletion wakes the contender that it concerns, in whatever order the proxy confirms watches.
#[tokio::test]
async fn many_watches_made_at_once_are_not_mixed_up() {
    const LOCKS: usize = 100;
    let etcd = Node::start().await;
    let proxy = GrpcProxy::start(&etcd).await;
    let mut by_hand = etcd.client().await;
    let holder = behind(&proxy, TTL);
    let mut guards = vec![];
    for i in 0..LOCKS {
        guards.push((hold(&holder, &format!("{i}")).await, i));
    }
    // All entries are under watch.
    let watched = async {
        while etcd.watches().await < LOCKS as u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the watches", watched).await;
    for (guard, i) in guards.iter().filter(|(_, i)| i % 2 == 0) {
        let keys = etcd.keys(&format!("turnlock/{i}/")).await;
        by_hand.delete(&*keys[0], None).await.expect("deleted");
        let reason = tokio::time::timeout(Duration::from_secs(5), guard.lost()).await;
        assert_eq!(reason, Ok(LossReason::EntryGone), "{i}");
    }
    for (guard, i) in guards.iter().filter(|(_, i)| i % 2 == 1) {
        assert!(!matches!(guard.state(), State::Lost(_)), "{i}");
    }
}

/// The proxy caches reads. No cached read counts as the present state.
#[tokio::test]
async fn a_lock_that_was_freed_or_taken_on_etcd_itself_is_so_behind_the_proxy() {
    const ROUNDS: usize = 20;
    let etcd = Node::start().await;
    let proxy = GrpcProxy::start(&etcd).await;
    let (direct, other) = (locks_of(&etcd, TTL), behind(&proxy, TTL));
    let mutex = other.mutex("x").expect("valid");
    for _ in 0..ROUNDS {
        let held = hold(&direct, "x").await;
        let refusal = soon("a try", mutex.try_acquire()).await;
        assert!(refusal.expect("an answer").is_none());
        let queue = other.queue(mutex.name()).await.expect("an answer");
        assert_eq!(queue.entries.len(), 1);
        assert_eq!(held.release().await.expect("an answer"), Release::Released);
        let taken = soon("a try", mutex.try_acquire()).await;
        let taken = taken.expect("an answer").expect("it is free");
        let queue = other.queue(mutex.name()).await.expect("an answer");
        assert_eq!(queue.entries[0].token, taken.token());
        assert_eq!(taken.release().await.expect("an answer"), Release::Released);
        let queue = other.queue(mutex.name()).await.expect("an answer");
        assert_eq!(queue.entries, []);
    }
}

#[tokio::test]
async fn waiters_outlive_a_proxy_that_is_away_for_longer_than_their_sessions() {
    const WAITERS: usize = 5;
    let etcd = Node::start().await;
    let mut proxy = GrpcProxy::start(&etcd).await;
    let direct = locks_of(&etcd, Duration::from_secs(60));
    let guard = hold(&direct, "x").await;
    let waiting: Vec<_> = (0..WAITERS)
        .map(|_| {
            let options = Options::default()
                .with_ttl(SHORT)
                .with_on_session_loss(OnSessionLoss::Requeue);
            let url = format!("etcd://{}", proxy.address());
            let locks = Locks::new(backend(&url), options).expect("valid");
            let mutex = locks.mutex("x").expect("valid");
            tokio::spawn(async move { mutex.acquire().await.map(drop) })
        })
        .collect();
    etcd.wait_keys("turnlock/x/", WAITERS + 1).await;
    proxy.kill();
    etcd.wait_keys("turnlock/x/", 1).await;
    tokio::time::sleep(SHORT).await;
    assert_eq!(guard.state(), State::Held);
    proxy.spawn();
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    for waiter in waiting {
        let turn = soon("a turn", waiter).await.expect("no panic");
        turn.expect("served in the end");
    }
}

/// The proxy renews the leases, and its answer may be that of a renewal long ago.
#[tokio::test]
async fn a_proxy_that_stands_still_and_dies_does_not_let_a_holder_overstay() {
    let etcd = Node::start().await;
    for still in [0, 400, 1200] {
        let mut proxy = GrpcProxy::start(&etcd).await;
        let name = format!("x{still}");
        let holder = behind(&proxy, SHORT);
        let guard = hold(&holder, &name).await;
        let waiting = wait(&locks_of(&etcd, TTL), &name);
        etcd.wait_keys(&format!("turnlock/{name}/"), 2).await;
        // After some renewals.
        tokio::time::sleep(SHORT + Duration::from_millis(still)).await;
        assert!(!matches!(guard.state(), State::Lost(_)), "{guard:?}");
        proxy.signal("-STOP");
        tokio::time::sleep(Duration::from_millis(still)).await;
        proxy.signal("-CONT");
        tokio::time::sleep(Duration::from_millis(50)).await;
        proxy.kill();
        let next = soon("the next turn", waiting).await.expect("no panic");
        let lost = matches!(guard.state(), State::Lost(_));
        assert!(lost, "two hold it: {guard:?}");
        let _ = next.expect("granted").release().await;
    }
}

/// The proxy's answer to a renewal may be the answer to one that it sent itself before the request.
/// etcd itself reports how long the lease lives.
#[tokio::test]
async fn no_deadline_is_later_than_the_end_of_the_lease() {
    // The server counts in seconds.
    const SECOND: Duration = Duration::from_secs(1);
    let etcd = Node::start().await;
    let link = Proxy::start(etcd.address());
    let proxy = GrpcProxy::start_for(link.address()).await;
    let holder = behind(&proxy, TTL);
    let guard = hold(&holder, "x").await;
    let lease = holder.session_id().expect("a session").0;
    link.delay(Duration::from_millis(300));
    let mut by_hand = etcd.client().await;
    let (mut deadlines, mut last) = (0, None);
    while deadlines < 6 {
        let (before, remaining) = (Instant::now(), guard.remaining());
        assert!(!matches!(guard.state(), State::Lost(_)), "{guard:?}");
        let left = by_hand.lease_time_to_live(lease, None).await;
        let left = left.expect("an answer").ttl();
        let left = Duration::from_secs(left.try_into().expect("it lives"));
        let promised = remaining.saturating_sub(before.elapsed());
        assert!(promised < left + SECOND, "{promised:?} of {left:?}");
        if guard.deadline() != last {
            (deadlines, last) = (deadlines + 1, guard.deadline());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    link.silence();
    let waiting = wait(&locks_of(&etcd, TTL), "x");
    let next = soon("the next turn", waiting).await.expect("no panic");
    assert!(matches!(guard.state(), State::Lost(_)), "{guard:?}");
    let _ = next.expect("granted").release().await;
}

#[tokio::test]
async fn a_limited_wait_behind_a_dead_proxy_ends_as_unreachable() {
    let etcd = Node::start().await;
    let mut proxy = GrpcProxy::start(&etcd).await;
    let waiter = behind(&proxy, TTL);
    let _ = hold(&waiter, "y").await.release().await;
    let _held = hold(&locks_of(&etcd, TTL), "x").await;
    proxy.kill();
    let mutex = waiter.mutex("x").expect("valid");
    let limit = Duration::from_secs(2);
    let outcome = soon("the limit", mutex.acquire_timeout(limit)).await;
    let error = outcome.expect_err("nobody could be asked");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
}

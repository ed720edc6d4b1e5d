//! Handoffs among contenders that share a client, as the tasks of one process do.

mod support;

use std::sync::Arc;
use std::time::Duration;

use backend_etcd::EtcdBackend;
use lock_core::{ErrorKind, LockName, Locks, Mutex, Release};
use support::{Node, backend_of, locks};
use testkit::waiting::soon;

const TTL: Duration = Duration::from_secs(10);

fn mutex(backend: &Arc<EtcdBackend>) -> Mutex {
    let locks: Locks = locks(backend.clone(), TTL);
    locks.mutex("q").expect("a valid name")
}

#[tokio::test]
async fn the_next_waiter_needs_no_look_and_few_read_the_queue() {
    const CONTENDERS: u64 = 8;
    const TURNS: u64 = 50;
    let etcd = Node::start().await;
    let backend = backend_of(&etcd);
    let before = (etcd.transactions().await, etcd.ranges().await);
    let mut contending = Vec::new();
    for _ in 0..CONTENDERS {
        let mutex = mutex(&backend);
        contending.push(tokio::spawn(async move {
            for _ in 0..TURNS {
                let guard = mutex.acquire().await.expect("acquired");
                assert_eq!(guard.release().await.expect("an answer"), Release::Released);
            }
        }));
    }
    for contender in contending {
        soon("its turns", contender).await.expect("no panic");
    }
    let spent = etcd.transactions().await - before.0;
    let ranges = etcd.ranges().await - before.1;
    // An enqueue and a removal for each turn. There is one more look where the answer to a removal
    // came long after its event, which may happen on a busy machine.
    let turns = CONTENDERS * TURNS;
    assert!(
        (2 * turns..=2 * turns + turns / 2).contains(&spent),
        "{spent} transactions for {turns} turns"
    );
    // The comparisons of the two requests, three and one, and the read of the waiter. One of four
    // arrivals reads the queue, and the looks read the rest.
    let looks = spent - 2 * turns;
    assert!(
        ranges < 5 * turns + turns / 2 + 4 * looks,
        "{ranges} ranges read for {turns} turns and {looks} looks"
    );
}

#[tokio::test]
async fn a_removed_waiter_is_not_next() {
    const ROUNDS: usize = 10;
    let etcd = Node::start().await;
    let mut by_hand = etcd.client().await;
    let backend = backend_of(&etcd);
    let (holder, waiter) = (mutex(&backend), mutex(&backend));
    for _ in 0..ROUNDS {
        let guard = soon("acquire", holder.acquire()).await.expect("acquired");
        let held = etcd.wait_keys("turnlock/q/", 1).await;
        let waiter = waiter.clone();
        let waiting = tokio::spawn(async move { waiter.acquire().await });
        let both = etcd.wait_keys("turnlock/q/", 2).await;
        let waits = both.into_iter().find(|key| !held.contains(key));
        let waits = waits.expect("the waiter's");
        // Before the waiter watches its own entry, which begins after 50 ms.
        by_hand.delete(waits, None).await.expect("deleted");
        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
        let error = soon("an end", waiting).await.expect("no panic");
        let error = error.expect_err("it has no entry any more");
        assert_eq!(error.kind(), ErrorKind::Evicted, "{error}");
    }
}

#[tokio::test]
async fn a_lock_below_another_does_not_hand_that_over() {
    let etcd = Node::start().await;
    let raw = |backend: Arc<EtcdBackend>, name: &str| {
        let name = LockName::raw(name).expect("valid");
        locks(backend, TTL).mutex(name).expect("valid")
    };
    let (other, shared) = (backend_of(&etcd), backend_of(&etcd));
    let above = soon("acquire", raw(other, "jobs").acquire()).await;
    let above = above.expect("acquired");
    let above_token = above.token();
    // Nothing is ahead of it in its own queue.
    let below = soon("acquire", raw(shared.clone(), "jobs/a").acquire()).await;
    let below = below.expect("acquired");
    let waiter = raw(shared, "jobs");
    let mut waiting = tokio::spawn(async move { waiter.acquire().await });
    etcd.wait_keys("jobs/", 3).await;
    assert_eq!(below.release().await.expect("an answer"), Release::Released);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "it is held");
    assert_eq!(above.release().await.expect("an answer"), Release::Released);
    let granted = soon("its turn", waiting).await.expect("no panic");
    assert!(granted.expect("granted").token() > above_token);
}

//! Handoffs among contenders that share a backend, as the tasks of one process do.

mod support;

use std::sync::Arc;

use backend_zk::{Config, ZkBackend};
use lock_core::{ErrorKind, LockName, Locks, Options, Release};
use support::{acquire, requests, soon};
use testkit::fixtures::zk::{Ensemble, Settings};
use zookeeper_client::Client;

fn backend(ensemble: &Ensemble) -> Arc<ZkBackend> {
    let config = Config::from_url(&ensemble.url()).expect("a valid URL");
    ZkBackend::new(config).expect("a usable configuration")
}

/// Returns the locks of a session of its own on the shared backend.
fn session(backend: &Arc<ZkBackend>) -> Locks {
    Locks::new(backend.clone(), Options::default()).expect("valid options")
}

fn lock() -> LockName {
    LockName::raw("/jobs").expect("valid")
}

#[tokio::test]
async fn the_next_waiter_needs_no_look_of_its_own() {
    const TURNS: usize = 50;
    // Create, list, watch, delete, and the holder's question about the waiter. Without that
    // question, the waiter would ask two, which makes six.
    let (least, turns) = contend(2, TURNS).await;
    assert!(2 * least < 11 * turns, "{least} requests for {turns} turns");
}

#[tokio::test]
async fn of_many_arriving_contenders_few_list_the_queue() {
    const TURNS: usize = 20;
    // The same, but only one of four lists the directory.
    let (least, turns) = contend(8, TURNS).await;
    assert!(
        10 * least < 47 * turns,
        "{least} requests for {turns} turns"
    );
}

/// Returns the least number of requests of these contenders with these turns each, and the number
/// of turns.
async fn contend(contenders: usize, turns: usize) -> (usize, usize) {
    let ensemble = Ensemble::start(Settings::default());
    let backend = backend(&ensemble);
    let contenders: Vec<_> = (0..contenders).map(|_| session(&backend)).collect();
    let mut least = usize::MAX;
    for _ in 0..10 {
        let before = requests(&ensemble);
        let contending = contenders.iter().cloned().map(|locks| {
            tokio::spawn(async move {
                for _ in 0..turns {
                    let guard = acquire(&locks, &lock()).await;
                    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
                }
            })
        });
        let contending: Vec<_> = contending.collect();
        for contender in contending {
            soon("its turns", contender).await.expect("no panic");
        }
        // On a slow machine there are also pings, and looks where an answer came late.
        least = least.min(requests(&ensemble) - before);
    }
    (least, contenders.len() * turns)
}

#[tokio::test]
async fn a_removed_waiter_is_not_next() {
    const ROUNDS: usize = 10;
    let ensemble = Ensemble::start(Settings::default());
    let by_hand = Client::connect(&ensemble.connection_string()).await;
    let by_hand = by_hand.expect("ZooKeeper serves");
    let backend = backend(&ensemble);
    let (holder, waiter) = (session(&backend), session(&backend));
    for _ in 0..ROUNDS {
        let guard = acquire(&holder, &lock()).await;
        let held = by_hand.list_children("/jobs").await.expect("the directory");
        let mutex = waiter.mutex(lock()).expect("valid");
        let waiting = tokio::spawn(async move { mutex.acquire().await });
        let mut both = held.clone();
        while both.len() < 2 {
            both = by_hand.list_children("/jobs").await.expect("the directory");
        }
        let waits = both.into_iter().find(|node| !held.contains(node));
        let path = format!("/jobs/{}", waits.expect("the waiter's"));
        // Before the waiter watches its own entry, which begins after 50 ms.
        by_hand.delete(&path, None).await.expect("deleted");
        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
        let error = soon("an end", waiting).await.expect("no panic");
        let error = error.expect_err("it has no entry any more");
        assert_eq!(error.kind(), ErrorKind::Evicted, "{error}");
    }
}

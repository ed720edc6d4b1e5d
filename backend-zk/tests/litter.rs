//! A contender that gives up leaves nothing on the server: no node and no watch.

mod support;

use std::time::Duration;

use lock_core::{Locks, Release};
use support::{acquire, eventually, locks, name};
use testkit::fixtures::zk::{Ensemble, Settings};

const TTL: Duration = Duration::from_secs(10);
const DROPS: u64 = 1000;

/// Returns the number of nodes of this lock on the server.
fn nodes(ensemble: &Ensemble) -> usize {
    let of_the_lock = |path: &&String| path.contains("litter");
    ensemble.ephemerals().iter().filter(of_the_lock).count()
}

/// Begins many acquires, and drops each at a random await.
async fn give_up(processes: &[Locks]) {
    for drop in 0..DROPS {
        let process = usize::try_from(drop).expect("few") % processes.len();
        let mutex = processes[process].mutex("litter").expect("valid");
        // From before the first request is sent until after the last answer.
        let after = Duration::from_micros(fastrand::u64(0..=20) * (drop % 200));
        let _ = tokio::time::timeout(after, mutex.acquire()).await;
    }
}

#[tokio::test]
async fn a_thousand_acquires_dropped_at_random_awaits_leave_no_node_and_no_watch() {
    let ensemble = Ensemble::start(Settings::default());
    let processes: Vec<_> = (0..4).map(|_| locks(&ensemble.url(), TTL)).collect();

    // A lock that nobody else holds.
    give_up(&processes).await;
    eventually("no node is left", async || nodes(&ensemble) == 0).await;
    eventually("no watch is left", async || ensemble.watches() == 0).await;

    // A lock that somebody else holds.
    let holder = locks(&ensemble.url(), TTL);
    let guard = acquire(&holder, &name("litter")).await;
    eventually("the holder watches its own entry", async || {
        ensemble.watches() == 1
    })
    .await;
    give_up(&processes).await;
    eventually("the holder's node is left", async || nodes(&ensemble) == 1).await;
    eventually("the holder's watch is left", async || {
        ensemble.watches() == 1
    })
    .await;
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    eventually("no watch is left", async || ensemble.watches() == 0).await;
    assert_eq!(nodes(&ensemble), 0);

    for process in processes.iter().chain([&holder]) {
        process.close().await.expect("closed");
    }
    assert_eq!(ensemble.ephemerals(), Vec::<String>::new());
    assert!(ensemble.sessions().is_empty());
}

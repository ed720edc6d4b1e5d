//! Nothing is left behind.

use std::future::Future;
use std::time::Duration;

use lock_core::{LossReason, State};

use crate::bench::{Bench, eventually};

/// Drops a future after this time, whatever it awaits then.
async fn abandon<T>(future: impl Future<Output = T>, after: Duration) -> Option<T> {
    tokio::time::timeout(after, future).await.ok()
}

pub async fn an_acquire_dropped_at_any_await_leaves_no_entry(bench: Bench) {
    for held in [false, true] {
        let holder = match held {
            true => Some(bench.mutex("a").acquire().await.expect("the lock is free")),
            false => None,
        };
        // From before the first request goes out until after the last answer came in.
        for round in 0..60 {
            let after = Duration::from_micros(fastrand::u64(0..=100) * round);
            let lock = bench.mutex("a");
            drop(abandon(lock.acquire(), after).await);
            drop(abandon(lock.acquire(), after).await);
            drop(abandon(lock.try_acquire(), after).await);
            drop(abandon(lock.acquire_timeout(Duration::from_millis(2)), after).await);
        }
        bench.depth("a", usize::from(held)).await;
        drop(holder);
        bench.depth("a", 0).await;
    }
    eventually("no session is left", async || {
        bench.server().sessions().await.is_empty()
    })
    .await;
}

pub async fn a_dropped_guard_frees_the_lock(bench: Bench) {
    let lock = bench.mutex("a");
    drop(lock.acquire().await.expect("the lock is free"));
    drop(bench.mutex("a").acquire().await.expect("it is free again"));
    bench.depth("a", 0).await;
}

pub async fn a_guard_outlives_its_runtime(bench: Bench) {
    let lock = bench.mutex("a");
    let guard = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime
            .expect("a runtime")
            .block_on(lock.acquire())
            .expect("the lock is free")
    });
    let guard = guard.join().expect("no panic");
    assert!(!matches!(guard.state(), State::Lost(_)), "{guard:?}");
    std::thread::spawn(move || drop(guard))
        .join()
        .expect("drop needs no runtime");
    bench.depth("a", 0).await;
}

pub async fn unused_sessions_are_closed(bench: Bench) {
    let guard = bench.mutex("a").acquire().await.expect("the lock is free");
    assert_eq!(bench.server().sessions().await.len(), 1);
    drop(guard);
    eventually("no session is left", async || {
        bench.server().sessions().await.is_empty()
    })
    .await;
}

pub async fn closing_ends_every_hold(bench: Bench) {
    let locks = bench.process();
    let guard = locks
        .mutex("a")
        .expect("a valid name")
        .acquire()
        .await
        .expect("the lock is free");
    locks.close().await.expect("an answer");
    assert_eq!(guard.state(), State::Lost(LossReason::Closed));
    bench.depth("a", 0).await;
    assert!(bench.server().sessions().await.is_empty());
}

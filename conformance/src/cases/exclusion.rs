//! One holder at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lock_core::{Locks, Release};

use crate::bench::{Bench, PATIENCE, soon};

async fn take_turns(clients: Vec<Locks>, turns: usize) {
    let inside = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|locks| {
            let inside = inside.clone();
            tokio::spawn(async move {
                let lock = locks.mutex("a").expect("a valid name");
                for _ in 0..turns {
                    let guard = lock.acquire().await.expect("our turn comes");
                    assert_eq!(
                        inside.fetch_add(1, Ordering::SeqCst),
                        0,
                        "somebody else is inside"
                    );
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    assert_eq!(guard.release().await, Release::Released);
                }
            })
        })
        .collect();
    for task in tasks {
        soon("all turns", task).await.expect("no panic");
    }
}

pub async fn tasks_that_share_a_session_exclude_each_other(bench: Bench) {
    let locks = bench.process();
    take_turns(vec![locks; 8], 20).await;
    bench.depth("a", 0).await;
}

pub async fn processes_exclude_each_other(bench: Bench) {
    take_turns((0..8).map(|_| bench.process()).collect(), 20).await;
    bench.depth("a", 0).await;
}

pub async fn contention_is_a_value(bench: Bench) {
    let guard = bench
        .mutex("a")
        .try_acquire()
        .await
        .expect("an answer")
        .expect("the lock is free");
    let other = bench.mutex("a");
    assert!(other.try_acquire().await.expect("an answer").is_none());
    let started = Instant::now();
    assert!(
        other
            .acquire_timeout(Duration::from_millis(300))
            .await
            .expect("an answer")
            .is_none()
    );
    assert!(started.elapsed() >= Duration::from_millis(300));
    bench.depth("a", 1).await;
    drop(guard);
    let guard = other
        .acquire_timeout(PATIENCE)
        .await
        .expect("an answer")
        .expect("the lock is free again");
    assert_eq!(guard.release().await, Release::Released);
}

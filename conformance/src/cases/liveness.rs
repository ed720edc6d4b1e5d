//! Sessions live on whatever the user's threads do.

use std::time::Duration;

use lock_core::{Release, State};

use crate::bench::Bench;

pub async fn renewal_goes_on_while_the_executor_is_blocked(bench: Bench) {
    let ttl = Duration::from_secs(2);
    let bench = bench.with_ttl(ttl);
    let lock = bench.mutex("a");
    let user = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let guard = lock.acquire().await.expect("the lock is free");
            // Longer than any server stretches a time to live of two seconds.
            std::thread::sleep(3 * ttl);
            assert!(!matches!(guard.state(), State::Lost(_)), "{guard:?}");
            assert!(guard.remaining() > Duration::ZERO);
            assert_eq!(guard.release().await, Release::Released);
        });
    });
    tokio::task::spawn_blocking(|| user.join().expect("no panic"))
        .await
        .expect("no panic");
}

pub async fn any_executor_will_do(bench: Bench) {
    let lock = bench.mutex("a");
    let user = std::thread::spawn(move || {
        let guard = futures_executor::block_on(lock.acquire()).expect("the lock is free");
        let nobody = lock.acquire_timeout(Duration::from_millis(50));
        assert!(
            futures_executor::block_on(nobody)
                .expect("an answer")
                .is_none()
        );
        assert_eq!(
            futures_executor::block_on(guard.release()),
            Release::Released
        );
    });
    tokio::task::spawn_blocking(|| user.join().expect("no panic"))
        .await
        .expect("no panic");
}

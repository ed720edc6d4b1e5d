//! Sessions live on whatever the user's threads and single servers do.

use std::time::Duration;

use lock_core::{Mode, Release};

use crate::bench::{Bench, is_ours};
use crate::fixture::Skip;

pub async fn renewal_goes_on_while_the_executor_is_blocked(bench: Bench) {
    let bench = bench.short_lived();
    let (lock, ttl) = (bench.mutex("a"), bench.ttl());
    let user = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let guard = lock.acquire().await.expect("the lock is free");
            // Longer than any server stretches a time to live.
            std::thread::sleep(2 * ttl + Duration::from_secs(1));
            assert!(is_ours(&guard), "{guard:?}");
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
        let nobody = futures_executor::block_on(nobody).expect("an answer");
        assert!(nobody.is_none());
        let release = futures_executor::block_on(guard.release());
        assert_eq!(release, Release::Released);
    });
    tokio::task::spawn_blocking(|| user.join().expect("no panic"))
        .await
        .expect("no panic");
}

pub async fn a_wait_goes_on_while_a_member_stands_still(bench: Bench) -> Result<(), Skip> {
    // An election takes a while on a busy machine.
    let bench = bench.with_ttl(Duration::from_secs(30));
    let members = bench.cluster()?;
    for member in 0..members.count() {
        let (_, guard) = bench.holder("a").await;
        let waiter = bench.waiter("a", Mode::Exclusive).await;
        members.pause(member).await;
        // The holder may have to find another member, too.
        let released = bench.soon("an answer", guard.release()).await;
        assert_ne!(released, Release::AlreadyGone);
        let turn = waiter.turn().await;
        members.resume(member).await;
        drop(turn);
        bench.depth("a", 0).await;
    }
    Ok(())
}

pub async fn holders_survive_a_rolling_restart(bench: Bench) -> Result<(), Skip> {
    let bench = bench.with_ttl(Duration::from_secs(60));
    let members = bench.cluster()?;
    let (_, guard) = bench.holder("a").await;
    let token = guard.token();
    for member in 0..members.count() {
        members.kill(member).await;
        assert!(is_ours(&guard), "{guard:?}");
        members.start(member).await;
        bench
            .eventually("it serves again", async || members.serves(member).await)
            .await;
    }
    assert!(is_ours(&guard) && guard.token() == token, "{guard:?}");
    assert_eq!(guard.release().await, Release::Released);
    Ok(())
}

//! Checks that a dropped future or guard leaves nothing behind.

use std::future::Future;
use std::time::Duration;

use lock_core::{LossReason, Mode, Release, State};

use crate::fixture::Skip;
use crate::test_bed::{TestBed, is_ours};

/// Drops a future after this time, whatever it awaits then.
async fn abandon<T>(future: impl Future<Output = T>, after: Duration) -> Option<T> {
    tokio::time::timeout(after, future).await.ok()
}

pub async fn an_acquire_dropped_at_any_await_leaves_no_entry(bed: TestBed) -> Result<(), Skip> {
    let administrator = bed.administrator()?;
    for held in [false, true] {
        let holder = match held {
            true => Some(bed.holder("a").await),
            false => None,
        };
        // The moments reach from before the first request is sent until after the last reply has
        // arrived.
        for round in 0..60 {
            let after = Duration::from_micros(fastrand::u64(0..=100) * round);
            let lock = bed.mutex("a");
            drop(abandon(lock.acquire(), after).await);
            drop(abandon(lock.acquire(), after).await);
            drop(abandon(lock.try_acquire(), after).await);
            drop(abandon(lock.acquire_timeout(Duration::from_millis(2)), after).await);
        }
        bed.depth("a", usize::from(held)).await;
        drop(holder);
        bed.depth("a", 0).await;
    }
    bed.eventually("no session is left", async || {
        administrator.sessions().await.is_empty()
    })
    .await;
    Ok(())
}

pub async fn a_dropped_guard_frees_the_lock(bed: TestBed) {
    let lock = bed.mutex("a");
    drop(lock.acquire().await.expect("the lock is free"));
    drop(bed.mutex("a").acquire().await.expect("it is free again"));
    bed.depth("a", 0).await;
}

pub async fn a_guard_outlives_its_runtime(bed: TestBed) {
    let lock = bed.mutex("a");
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
    assert!(is_ours(&guard), "{guard:?}");
    std::thread::spawn(move || drop(guard))
        .join()
        .expect("drop needs no runtime");
    bed.depth("a", 0).await;
}

pub async fn a_guard_dropped_by_a_panic_frees_the_lock(bed: TestBed) {
    let (locks, guard) = bed.holder("a").await;
    let task = tokio::spawn(async move {
        let _guard = guard;
        // This unwinds as a panic does, and prints nothing.
        std::panic::resume_unwind(Box::new("in the section"));
    });
    let died = bed.soon("the panic", task).await.expect_err("a panic");
    assert!(died.is_panic());
    bed.depth("a", 0).await;
    let again = locks.mutex("a").expect("a valid name").try_acquire().await;
    assert!(again.expect("the session lives on").is_some());
}

pub async fn unused_sessions_are_closed(bed: TestBed) -> Result<(), Skip> {
    let administrator = bed.administrator()?;
    let guard = bed.mutex("a").acquire().await.expect("the lock is free");
    assert_eq!(administrator.sessions().await.len(), 1);
    drop(guard);
    bed.eventually("no session is left", async || {
        administrator.sessions().await.is_empty()
    })
    .await;
    Ok(())
}

pub async fn closing_ends_every_hold(bed: TestBed) {
    let (locks, guard) = bed.holder("a").await;
    let other = locks.mutex("b").expect("a valid name").acquire().await;
    let other = other.expect("the lock is free");
    let waiter = bed.waiter_of(locks.clone(), "a", Mode::Exclusive).await;
    locks.close().await.expect("an answer");
    for guard in [guard, other] {
        assert_eq!(guard.state(), State::Lost(LossReason::Closed));
        assert_eq!(
            guard.release().await.expect("an answer"),
            Release::AlreadyGone
        );
    }
    waiter.outcome().await.expect_err("its session is closed");
    for name in ["a", "b"] {
        assert_eq!(
            bed.queue(name).await.entries,
            [],
            "a closed session left an entry"
        );
    }
}

pub async fn a_wait_that_times_out_leaves_no_entry(bed: TestBed) {
    let (_, holder) = bed.holder("a").await;
    let (lock, behind) = (bed.mutex("a"), bed.rwlock("a"));
    for _ in 0..15 {
        let limit = Duration::from_micros(fastrand::u64(0..=20_000));
        let waited = lock.acquire_timeout(limit).await;
        // So short a wait may end before there is a session.
        assert!(!matches!(waited, Ok(Some(_))), "{waited:?}");
        let waited = behind.read_timeout(limit).await;
        assert!(!matches!(waited, Ok(Some(_))), "{waited:?}");
    }
    bed.depth("a", 1).await;
    assert_eq!(
        holder.release().await.expect("an answer"),
        Release::Released
    );
    let next = bed.mutex("a").try_acquire().await.expect("an answer");
    assert!(
        next.is_some(),
        "a wait that timed out left an entry in the way"
    );
}

pub async fn a_timeout_at_the_instant_of_the_grant_gives_a_guard_or_nothing(bed: TestBed) {
    let (holder, waiter) = (bed.mutex("a"), bed.mutex("a"));
    let other = bed.mutex("a");
    for _ in 0..30 {
        let guard = holder.acquire().await.expect("the lock is free");
        let limit = Duration::from_millis(15);
        let waiting = tokio::spawn({
            let waiter = waiter.clone();
            async move { waiter.acquire_timeout(limit).await }
        });
        let early = Duration::from_micros(fastrand::u64(0..=6_000));
        tokio::time::sleep(limit.saturating_sub(early)).await;
        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
        let waited = bed.join("the wait", waiting).await;
        if let Ok(Some(guard)) = waited {
            let queue = bed.queue("a").await;
            assert_eq!(queue.entries.len(), 1);
            assert_eq!(queue.entries[0].token, guard.token());
            assert_eq!(guard.release().await.expect("an answer"), Release::Released);
        }
        bed.depth("a", 0).await;
        let free = other.try_acquire().await.expect("an answer");
        assert_eq!(
            free.expect("the lock is free again, and a try found it held")
                .release()
                .await
                .expect("an answer"),
            Release::Released
        );
    }
}

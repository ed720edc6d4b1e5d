//! A loss is told at once, and is for ever.

use std::time::{Duration, Instant};

use lock_core::{ErrorKind, LossReason, Release, State};

use crate::bench::{Bench, eventually, soon};

pub async fn a_removed_entry_is_a_loss_for_the_holder(bench: Bench) {
    let guard = bench.mutex("a").acquire().await.expect("the lock is free");
    let entry = bench.queue("a").await.entries[0].id.clone();
    bench.server().remove(&entry).await;
    let removed = Instant::now();
    assert_eq!(
        soon("the holder is told", guard.lost()).await,
        LossReason::EntryGone
    );
    // Well before the deadline, which is what a blind holder would wait for.
    assert!(
        removed.elapsed() < Duration::from_secs(5),
        "told after {:?}",
        removed.elapsed()
    );
    assert_eq!(guard.state(), State::Lost(LossReason::EntryGone));
    assert_eq!(guard.remaining(), Duration::ZERO);
    assert_eq!(guard.release().await, Release::AlreadyGone);
}

pub async fn a_removed_entry_evicts_the_waiter(bench: Bench) {
    let guard = bench.mutex("a").acquire().await.expect("the lock is free");
    let lock = bench.mutex("a");
    let waiter = tokio::spawn(async move { lock.acquire().await });
    bench.depth("a", 2).await;
    let entry = bench.queue("a").await.entries[1].id.clone();
    bench.server().remove(&entry).await;
    let error = soon("the waiter is told", waiter)
        .await
        .expect("no panic")
        .expect_err("evicted");
    assert_eq!(error.kind(), ErrorKind::Evicted, "{error}");
    assert_eq!(guard.state(), State::Held);
    assert_eq!(guard.release().await, Release::Released);
}

pub async fn a_session_that_ended_is_lost_for_ever(bench: Bench) {
    let locks = bench.process();
    let guard = locks
        .mutex("a")
        .expect("a valid name")
        .acquire()
        .await
        .expect("the lock is free");
    let (id, old) = (locks.session_id().expect("open"), guard.token());
    bench.server().end_session(id).await;
    let ended = Instant::now();
    let reason = soon("the holder is told", guard.lost()).await;
    assert!(
        ended.elapsed() < Duration::from_secs(5),
        "told after {:?}",
        ended.elapsed()
    );
    assert!(
        matches!(reason, LossReason::SessionGone | LossReason::EntryGone),
        "{reason:?}"
    );
    eventually("the session is known to be over", async || {
        locks.session_id() != Some(id)
    })
    .await;
    assert!(matches!(guard.state(), State::Lost(_)));
    let next = locks
        .mutex("a")
        .expect("a valid name")
        .acquire()
        .await
        .expect("a new session takes it");
    assert!(next.token() > old);
    assert!(
        matches!(guard.state(), State::Lost(_)),
        "the old guard stays lost"
    );
    assert_eq!(guard.release().await, Release::AlreadyGone);
    assert_eq!(next.release().await, Release::Released);
}

pub async fn a_session_that_ended_is_not_made_anew(bench: Bench) {
    let bench = bench.with_ttl(Duration::from_secs(2));
    let locks = bench.process();
    let lock = locks.mutex("a").expect("a valid name");
    // It holds nothing, so only its renewals can tell.
    let guard = lock.acquire().await.expect("the lock is free");
    assert_eq!(guard.release().await, Release::Released);
    let id = locks.session_id().expect("open");
    bench.server().end_session(id).await;
    let ended = Instant::now();
    eventually("the session is known to be over", async || {
        assert!(ended.elapsed() < Duration::from_secs(20), "long renewed");
        locks.session_id() != Some(id)
    })
    .await;
    assert!(!bench.server().sessions().await.contains(&id));
}

pub async fn a_waiters_session_that_ended_fails_the_wait(bench: Bench) {
    let guard = bench.mutex("a").acquire().await.expect("the lock is free");
    let locks = bench.process();
    let lock = locks.mutex("a").expect("a valid name");
    let waiter = tokio::spawn(async move { lock.acquire().await });
    bench.depth("a", 2).await;
    bench
        .server()
        .end_session(locks.session_id().expect("open"))
        .await;
    let error = soon("the waiter is told", waiter)
        .await
        .expect("no panic")
        .expect_err("its session is over");
    assert!(
        matches!(error.kind(), ErrorKind::SessionLost(_) | ErrorKind::Evicted),
        "{error}"
    );
    bench.depth("a", 1).await;
    assert_eq!(guard.release().await, Release::Released);
}

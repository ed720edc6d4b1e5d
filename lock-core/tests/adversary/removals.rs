//! Tests that an entry is removed and a session closed, whatever goes wrong.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lock_core::{ErrorKind, LossReason, Release, State};

use crate::session::Act;
use crate::{HOUR, PATIENCE, eventually, mutex, mutex_of, script, soon};

#[tokio::test]
async fn a_failed_close_is_retried_and_removals_go_on_beside_it() {
    let broken = script();
    broken.remove.will(Act::FailTimes(2));
    broken.close.will(Act::FailTimes(2));
    drop(mutex(&broken).acquire().await.expect("granted"));
    eventually("the entry is gone", || broken.left() == 0).await;

    let hanging = script();
    hanging.close.will(Act::Hang);
    drop(mutex(&hanging).acquire().await.expect("granted"));
    eventually("the entry is gone", || hanging.left() == 0).await;
}

#[tokio::test]
async fn a_close_that_fails_is_reported_and_goes_on() {
    let script = script();
    // More failures than the tries of a close while a caller waits.
    script.close.will(Act::FailTimes(12));
    let locks = script.locks(HOUR);
    let guard = mutex_of(&locks).acquire().await.expect("granted");
    assert!(locks.close().await.is_err());
    assert_eq!(guard.state(), State::Lost(LossReason::Closed));
    eventually("it is closed all the same", || script.left() == 0).await;
}

#[tokio::test]
async fn an_acquire_dropped_before_its_reply_is_removed() {
    let script = script();
    script.enqueue.will(Act::Hang);
    let lock = mutex(&script);
    let acquire = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await.map(drop) }
    });
    eventually("it is under way", || script.enqueue.count() > 0).await;
    acquire.abort();
    eventually("it is removed", || script.remove.count() > 0).await;
}

#[tokio::test]
async fn the_entries_of_a_lost_session_are_left_to_its_end() {
    let script = script();
    script.blocked.store(true, Ordering::SeqCst);
    let locks = script.locks(HOUR);
    let lock = mutex_of(&locks);
    let waits: Vec<_> = (0..20)
        .map(|_| {
            let lock = lock.clone();
            tokio::spawn(async move { lock.acquire().await.map(drop) })
        })
        .collect();
    eventually("all wait", || script.watch.count() >= 20).await;
    let lost = ErrorKind::SessionLost(LossReason::SessionGone);
    script.look.will(Act::Fail(lost));
    script.watch.will(Act::Fail(lost));
    let reading = lock.clone();
    let _late = tokio::spawn(async move { reading.acquire().await.map(drop) });
    for wait in waits {
        let error = soon("the loss", wait).await.expect("no panic");
        assert_eq!(error.expect_err("lost").kind(), lost);
    }
    drop((lock, locks));
    eventually("the session is closed", || script.close.count() > 0).await;
    // Time for what must not happen.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(script.remove.count(), 0);
}

#[tokio::test]
async fn a_lost_session_is_closed_although_a_guard_is_kept() {
    let script = script();
    let locks = script.locks(HOUR);
    let guard = mutex_of(&locks).acquire().await.expect("granted");
    let waiter = mutex_of(&locks);
    script.blocked.store(true, Ordering::SeqCst);
    let lost = ErrorKind::SessionLost(LossReason::SessionGone);
    script.watch.will(Act::Fail(lost));
    let error = waiter.acquire().await.expect_err("the session is gone");
    assert_eq!(error.kind(), lost);
    eventually("it is closed", || script.close.count() > 0).await;
    assert_eq!(guard.state(), State::Lost(LossReason::SessionGone));
}

#[tokio::test]
async fn a_lost_session_is_closed_at_the_pace_of_the_retries() {
    let script = script();
    let locks = script.locks(HOUR);
    script.blocked.store(true, Ordering::SeqCst);
    let lost = ErrorKind::SessionLost(LossReason::SessionGone);
    script.watch.will(Act::Fail(lost));
    script.close.will(Act::FailTimes(1_000));
    let begun = Instant::now();
    let error = mutex_of(&locks).acquire().await.expect_err("it is gone");
    assert_eq!(error.kind(), lost);
    // The last user of the session goes, and asks for no other close.
    drop(locks);
    eventually("it is tried again", || script.close.count() > 1).await;
    let (tries, seconds) = (script.close.count(), begun.elapsed().as_secs_f64());
    assert!(tries as f64 <= 1.0 + seconds, "{tries} in {seconds} s");
}

#[tokio::test]
async fn a_release_without_a_reply_goes_on_until_it_is_done() {
    let script = script();
    let lock = mutex(&script);
    let guard = lock.acquire().await.expect("granted");
    // More failures than the tries of a removal while a caller waits.
    script.remove.will(Act::FailTimes(12));
    let error = guard.release().await.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.is_retryable());
    eventually("the entry is gone", || script.left() == 0).await;
    assert_eq!(script.close.count(), 0, "by its removal");
}

#[tokio::test]
async fn a_passing_failure_is_retried_within_one_call() {
    let script = script();
    for call in [&script.open, &script.remove, &script.close] {
        call.will(Act::FailTimes(3));
    }
    let locks = script.locks(HOUR);
    let lock = mutex_of(&locks);
    let guard = lock
        .acquire()
        .await
        .expect("a session after three failures");
    assert_eq!(script.open.count(), 4);
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    assert_eq!(script.remove.count(), 4);
    locks.close().await.expect("closed after three failures");
    assert_eq!(script.close.count(), 4);
}

#[tokio::test]
async fn a_release_whose_reply_was_lost_says_that_it_released() {
    let script = script();
    let lock = mutex(&script);
    let guard = lock.acquire().await.expect("granted");
    script.remove.will(Act::LoseReplies(2));
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    assert_eq!(script.remove.count(), 3);
    assert_eq!(script.left(), 0);

    // No try of this release can have removed the entry that was gone, since none was even sent.
    let guard = lock.acquire().await.expect("granted");
    script.entries.lock().expect("no panic").clear();
    script.remove.will(Act::FailTimes(2));
    assert_eq!(
        guard.release().await.expect("an answer"),
        Release::AlreadyGone
    );
}

#[tokio::test]
async fn dropping_a_guard_waits_for_nothing() {
    let script = script();
    let guard = mutex(&script).acquire().await.expect("granted");
    script.remove.will(Act::Hang);
    let (done, dropped) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(guard);
        done.send(())
    });
    dropped
        .recv_timeout(PATIENCE)
        .expect("a removal that hangs holds nobody up");
}

#[test]
fn a_removal_outlives_the_runtime_of_its_user() {
    let runtime = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().expect("a runtime")
    };
    let script = script();
    let lock = mutex(&script);
    let users = runtime();
    let guard = users.block_on(lock.acquire()).expect("granted");
    drop(users);
    drop(guard);
    runtime().block_on(eventually("the entry is gone", || script.left() == 0));
    assert_eq!(script.close.count(), 0, "by its removal");
}

#[tokio::test]
async fn a_refused_enqueue_is_removed_at_most_once() {
    let script = script();
    script.enqueue.will(Act::Fail(ErrorKind::Refused));
    script.remove.will(Act::Fail(ErrorKind::Refused));
    let lock = mutex(&script);
    for _ in 0..100 {
        assert_eq!(
            lock.acquire().await.expect_err("refused").kind(),
            ErrorKind::Refused
        );
    }
    // This acquire's entry is removed later than those of all acquires before.
    script.enqueue.will(Act::Succeed);
    drop(lock.acquire().await.expect("granted"));
    eventually("its removal is tried", || script.remove.count() > 0).await;
    assert_eq!(
        script.remove.count(),
        1,
        "there was nothing to remove, and no is an answer"
    );
}

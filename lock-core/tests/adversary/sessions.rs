//! Tests how sessions are opened, and what becomes of a wait whose session is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lock_core::{ErrorKind, LossReason, OnSessionLoss, Options, Release};

use crate::session::{Act, Script};
use crate::{HOUR, UNSENT_TRIES, eventually, mutex, mutex_of, script, soon};

#[tokio::test]
async fn short_waits_share_one_opening_that_takes_longer() {
    let script = script();
    *script.open_takes.lock().expect("no panic") = Duration::from_millis(200);
    let lock = mutex(&script);
    let got_it = async {
        loop {
            match lock.acquire_timeout(Duration::from_millis(10)).await {
                Ok(Some(guard)) => break guard,
                Ok(None) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unreachable),
            }
        }
    };
    let _guard = soon("the opening ends", got_it).await;
    assert_eq!(script.open.count(), 1);
}

#[tokio::test]
async fn a_failed_opening_fails_every_acquire_that_waits_for_it() {
    let script = script();
    *script.open_takes.lock().expect("no panic") = Duration::from_millis(50);
    for (kind, tries) in [
        (ErrorKind::Refused, 1),
        (ErrorKind::Unreachable, UNSENT_TRIES),
    ] {
        let before = script.open.count();
        script.open.will(Act::Fail(kind));
        let lock = mutex(&script);
        let waits = futures_util::future::join_all((0..30).map(|_| lock.acquire()));
        for outcome in soon("all fail", waits).await {
            assert_eq!(outcome.expect_err("no session").kind(), kind);
        }
        assert_eq!(script.open.count() - before, tries, "of one opening");
    }
}

#[tokio::test]
async fn a_session_that_no_acquire_waits_for_any_more_is_closed() {
    let script = script();
    *script.open_takes.lock().expect("no panic") = Duration::from_millis(50);
    let lock = mutex(&script);
    let left = tokio::time::timeout(Duration::from_millis(5), lock.acquire()).await;
    assert!(left.is_err());
    drop(lock);
    eventually("it is closed", || script.close.count() == 1).await;
}

#[tokio::test]
async fn a_session_found_dead_by_an_enqueue_is_replaced_at_once() {
    let script = script();
    script
        .enqueue
        .will(Act::Fail(ErrorKind::SessionLost(LossReason::SessionGone)));
    let lock = mutex(&script);
    let error = lock.acquire().await.expect_err("twice is enough");
    assert_eq!(
        error.kind(),
        ErrorKind::SessionLost(LossReason::SessionGone)
    );
    assert_eq!(script.enqueue.count(), 2);
}

/// Returns the outcome of a waiter whose session is lost while it waits, and the number of
/// enqueues.
async fn wait_over_a_session_loss(
    on_session_loss: OnSessionLoss,
) -> (Result<(), ErrorKind>, usize) {
    let script = script();
    script.blocked.store(true, Ordering::SeqCst);
    // The failed watch reports the loss.
    script
        .watch
        .will(Act::Fail(ErrorKind::SessionLost(LossReason::SessionGone)));
    let locks = script.locks_with(
        Options::default()
            .with_ttl(HOUR)
            .with_on_session_loss(on_session_loss),
    );
    let lock = mutex_of(&locks);
    let waiter = tokio::spawn(async move { lock.acquire().await.map(drop) });
    eventually("it waits", || script.watch.count() > 0).await;
    script.blocked.store(false, Ordering::SeqCst);
    let outcome = soon("the wait ends", waiter).await.expect("no panic");
    (outcome.map_err(|e| e.kind()), script.enqueue.count())
}

#[tokio::test]
async fn a_wait_whose_session_is_lost_fails_or_enqueues_again_as_configured() {
    let (outcome, enqueues) = wait_over_a_session_loss(OnSessionLoss::Fail).await;
    let lost = ErrorKind::SessionLost(LossReason::SessionGone);
    assert_eq!((outcome, enqueues), (Err(lost), 1));
    let (outcome, enqueues) = wait_over_a_session_loss(OnSessionLoss::Requeue).await;
    assert_eq!(outcome, Ok(()));
    assert!(enqueues >= 2, "{enqueues}");
}

/// Lets a requeueing waiter lose its session while every try to open another one fails. Returns the
/// outcome of the wait, and how many times the waiter reported that it queues anew.
async fn wait_over_an_outage(
    script: &Arc<Script>,
    open: ErrorKind,
) -> (Result<(), ErrorKind>, usize) {
    let requeues = Arc::new(AtomicUsize::new(0));
    let options = Options::default()
        .with_ttl(HOUR)
        // Many tries are wanted here.
        .with_circuit_breaker(false)
        .with_retry_budget(false)
        .with_on_session_loss(OnSessionLoss::Requeue)
        .with_on_requeue({
            let requeues = requeues.clone();
            move |name, error| {
                assert_eq!(name.as_str(), "a");
                assert!(matches!(error.kind(), ErrorKind::SessionLost(_)));
                requeues.fetch_add(1, Ordering::SeqCst);
            }
        });
    let locks = script.locks_with(options);
    let lock = mutex_of(&locks);
    let first = lock.acquire().await.expect("free");
    assert_eq!(first.release().await.expect("an answer"), Release::Released);

    script.blocked.store(true, Ordering::SeqCst);
    script.open.will(Act::Fail(open));
    let gone = ErrorKind::SessionLost(LossReason::SessionGone);
    script.watch.will(Act::Fail(gone));
    let waiter = tokio::spawn(async move { lock.acquire().await.map(drop) });
    eventually("it asks again, or gives up", || {
        // More tries than one opening makes, for either kind.
        script.open.count() > 40 || waiter.is_finished()
    })
    .await;
    script.blocked.store(false, Ordering::SeqCst);
    script.open.will(Act::Succeed);
    let outcome = soon("the wait ends", waiter).await.expect("no panic");
    (
        outcome.map_err(|error| error.kind()),
        requeues.load(Ordering::SeqCst),
    )
}

#[tokio::test]
async fn a_waiter_requests_a_new_session_for_as_long_as_there_is_none() {
    for passing in [ErrorKind::Unreachable, ErrorKind::Exhausted] {
        let outcome = wait_over_an_outage(&script(), passing).await;
        assert_eq!(outcome, (Ok(()), 1), "{passing:?}");
    }
}

#[tokio::test]
async fn a_waiter_that_is_refused_a_new_session_does_not_go_on() {
    for final_ in [ErrorKind::Refused, ErrorKind::Configuration] {
        let script = script();
        let outcome = wait_over_an_outage(&script, final_).await;
        assert_eq!(outcome, (Err(final_), 1));
        assert_eq!(script.open.count(), 2);
    }
}

#[tokio::test]
async fn a_first_session_is_not_requested_for_ever() {
    let script = script();
    script.open.will(Act::Fail(ErrorKind::Unreachable));
    let locks = script.locks_with(Options::default().with_on_session_loss(OnSessionLoss::Requeue));
    let lock = mutex_of(&locks);
    let error = soon("it fails", lock.acquire())
        .await
        .expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(script.open.count(), UNSENT_TRIES, "of one opening");
}

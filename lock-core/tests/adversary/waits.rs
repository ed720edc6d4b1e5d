//! Tests how a wait goes on and how it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lock_core::observe::{Event, Observer, TraceContext};
use lock_core::{ErrorKind, LossReason, Options};

use crate::session::Act;
use crate::{HOUR, PATIENCE, eventually, mutex, mutex_of, script, soon};

#[test]
fn spurious_wake_ups_do_not_prolong_a_wait() {
    for act in [Act::Succeed, Act::Fail(ErrorKind::Exhausted)] {
        let script = script();
        script.blocked.store(true, Ordering::SeqCst);
        script.watch.will(act);
        let lock = mutex(&script);
        let (done, outcome) = std::sync::mpsc::channel();
        // This executor has no budget of its own.
        std::thread::spawn(move || {
            let waited = lock.acquire_timeout(Duration::from_millis(100));
            let _ = done.send(futures_executor::block_on(waited).map(|guard| guard.is_none()));
        });
        let nobody = outcome.recv_timeout(PATIENCE).expect("it returns");
        assert!(nobody.expect("contention is a value"));
        assert!(
            script.look.count() < 50,
            "{} looks in a tenth of a second",
            script.look.count()
        );
    }
}

#[tokio::test]
async fn a_silent_coordinator_does_not_delay_a_waiter_that_gives_up() {
    let script = script();
    script.blocked.store(true, Ordering::SeqCst);
    script.remove.will(Act::Hang);
    let lock = mutex(&script);
    let waited = lock.acquire_timeout(Duration::from_millis(50));
    assert!(
        soon("the wait ends", waited)
            .await
            .expect("contention is a value")
            .is_none()
    );
    assert!(
        soon("the try ends", lock.try_acquire())
            .await
            .expect("a value")
            .is_none()
    );
}

#[tokio::test]
async fn a_wait_that_ends_without_a_reply_is_not_contention() {
    let script = script();
    script.blocked.store(true, Ordering::SeqCst);
    script.remove.will(Act::Hang);
    let limit = Duration::from_millis(1500);
    let lock = mutex(&script);
    let started = Instant::now();
    let error = soon("the wait ends", lock.acquire_timeout(limit)).await;
    assert_eq!(
        error.expect_err("nobody said").kind(),
        ErrorKind::Unreachable
    );
    // The withdrawal may take a second.
    assert!(
        started.elapsed() < limit + Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_contender_that_was_never_enqueued_gets_unreachable() {
    let script = script();
    script.enqueue.will(Act::Hang);
    let lock = mutex(&script);
    let waited = lock.acquire_timeout(Duration::from_millis(100));
    let error = soon("the wait ends", waited).await;
    assert_eq!(
        error.expect_err("never placed").kind(),
        ErrorKind::Unreachable
    );
    let started = Instant::now();
    let error = soon("the try ends", lock.try_acquire()).await;
    assert_eq!(
        error.expect_err("never placed").kind(),
        ErrorKind::Unreachable
    );
    // Five seconds, and some more for a busy machine.
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_waiter_that_gives_up_leaves_no_entry() {
    let script = script();
    script.blocked.store(true, Ordering::SeqCst);
    let lock = mutex(&script);
    let waited = lock.acquire_timeout(Duration::from_millis(50)).await;
    assert!(waited.expect("contention is a value").is_none());
    assert_eq!(script.left(), 0, "of the wait");
    assert!(lock.try_acquire().await.expect("a value").is_none());
    assert_eq!(script.left(), 0, "of the try");
    assert_eq!(script.close.count(), 0, "by removals of their own");
}

#[tokio::test]
async fn a_retried_enqueue_keeps_its_ticket() {
    let script = script();
    script.enqueue.will(Act::FailTimes(3));
    let _guard = mutex(&script).acquire().await.expect("granted");
    assert_eq!(script.enqueue.count(), 4);
    let tickets = script.tickets.lock().expect("no panic");
    assert_eq!(tickets.len(), 1, "{tickets:?}");
}

#[tokio::test]
async fn a_waiter_watches_its_own_entry_too() {
    let script = script();
    script.blocked.store(true, Ordering::SeqCst);
    let lock = mutex(&script);
    let waiter = tokio::spawn(async move { lock.acquire().await.map(drop) });
    eventually("both are watched", || script.watch.count() == 2).await;
    waiter.abort();
}

#[tokio::test]
async fn a_waiter_whose_watch_is_silent_looks_by_itself() {
    let script = script();
    script.blocked.store(true, Ordering::SeqCst);
    let lock = mutex(&script);
    let waiter = tokio::spawn(async move { lock.acquire().await.map(drop) });
    eventually("it waits", || script.watch.count() > 0).await;
    script.blocked.store(false, Ordering::SeqCst);
    let granted = soon("its own look", waiter).await.expect("no panic");
    granted.expect("granted");
}

#[tokio::test]
async fn a_full_coordinator_is_reported_as_exhausted() {
    let script = script();
    script.enqueue.will(Act::Fail(ErrorKind::Exhausted));
    let lock = mutex(&script);
    let error = soon("a try", lock.try_acquire())
        .await
        .expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    let error = soon("a wait without a limit", lock.acquire())
        .await
        .expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::Exhausted);
}

#[tokio::test]
async fn closing_ends_waits_that_had_begun() {
    let script = script();
    script.blocked.store(true, Ordering::SeqCst);
    let locks = script.locks(HOUR);
    let lock = mutex_of(&locks);
    let waiter = tokio::spawn(async move { lock.acquire().await.map(drop) });
    eventually("it waits", || script.watch.count() > 0).await;
    locks.close().await.expect("closed");
    let error = soon("the wait ends", waiter)
        .await
        .expect("no panic")
        .expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::SessionLost(LossReason::Closed));
}

#[tokio::test]
async fn a_waiter_keeps_its_entry_while_the_coordinator_is_exhausted() {
    let script = script();
    script.blocked.store(true, Ordering::SeqCst);
    // The waiter looks by itself.
    script.look.will(Act::Fail(ErrorKind::Exhausted));
    script.watch.will(Act::Fail(ErrorKind::Exhausted));
    let lock = mutex(&script);
    let waiter = tokio::spawn(async move { lock.acquire().await.map(drop) });
    // Longer than the time for which a first request would be tried.
    let started = Instant::now();
    eventually("it has looked for long", || {
        started.elapsed() > Duration::from_secs(6) && script.look.count() > 6
    })
    .await;
    script.blocked.store(false, Ordering::SeqCst);
    script.look.will(Act::Succeed);
    let outcome = soon("the wait ends", waiter).await.expect("no panic");
    outcome.expect("granted");
}

#[tokio::test]
async fn acquires_that_never_wait_let_timers_fire() {
    let script = script();
    let lock = mutex(&script);
    let busy = async {
        loop {
            drop(lock.acquire().await.expect("granted"));
        }
    };
    let started = Instant::now();
    tokio::select! {
        () = busy => {}
        () = tokio::time::sleep(Duration::from_millis(5)) => {}
    }
    assert!(
        started.elapsed() < PATIENCE / 5,
        "after {:?}",
        started.elapsed()
    );
}

/// Wants to know who an acquire waits for, and counts how often it was told.
#[derive(Debug, Default)]
struct Curious(AtomicUsize);

impl Observer for Curious {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Blocked { by, .. } = event {
            assert!(by.is_none(), "nobody answered");
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn trace_context(&self) -> Option<TraceContext> {
        TraceContext::new(1, 2, true)
    }
}

#[tokio::test]
async fn a_read_of_the_entry_ahead_that_fails_or_hangs_costs_a_waiter_nothing() {
    let acts = [
        (Act::Fail(ErrorKind::Unreachable), 1),
        (
            Act::Fail(ErrorKind::SessionLost(LossReason::SessionGone)),
            1,
        ),
        (Act::Hang, 0),
    ];
    // All at once, since each waits for its own next look.
    let waits = acts.map(|(act, told)| async move {
        let script = script();
        script.blocked.store(true, Ordering::SeqCst);
        script.metadata.will(act);
        let curious = Arc::<Curious>::default();
        let options = Options::default().with_ttl(HOUR);
        let lock = mutex_of(&script.locks_with(options.with_observer(curious.clone())));
        let waiter = tokio::spawn(async move { lock.acquire().await });
        eventually("the entry ahead is read", || script.metadata.count() == 1).await;
        eventually("the observer is told", || {
            curious.0.load(Ordering::SeqCst) == told
        })
        .await;
        assert!(!waiter.is_finished(), "{act:?}");
        script.blocked.store(false, Ordering::SeqCst);
        let waited = soon("the wait ends", waiter).await.expect("no panic");
        drop(waited.unwrap_or_else(|error| panic!("{act:?}: {error}")));
        assert_eq!(script.metadata.count(), 1, "{act:?}");
    });
    futures_util::future::join_all(waits).await;
}

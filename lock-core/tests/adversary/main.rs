//! Tests the core's own promises when the coordinator is in trouble.

mod session;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lock_core::clock::Clock;
use lock_core::{Effect, ErrorKind, LossReason, Mutex, OnSessionLoss, Options, Release, State};
use session::{Act, Script};

/// The limit for waits that normally take a second or two.
const PATIENCE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);

/// How many times a request that cannot even be sent is tried while a caller waits for it.
const UNSENT_TRIES: usize = 6;

fn mutex(script: &Arc<Script>) -> Mutex {
    script.locks(HOUR).mutex("a").expect("a valid name")
}

/// Returns the script of a coordinator whose watches never report anything.
fn script() -> Arc<Script> {
    let script = Arc::<Script>::default();
    script.watch.will(Act::Hang);
    script
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let all = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(what, all).await;
}

#[tokio::test]
async fn a_close_that_fails_is_tried_again_and_removals_go_on_beside_it() {
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
async fn a_close_by_hand_that_fails_is_said_and_goes_on() {
    let script = script();
    // More failures than the tries of a close while a caller waits.
    script.close.will(Act::FailTimes(12));
    let locks = script.locks(HOUR);
    let guard = locks
        .mutex("a")
        .expect("a valid name")
        .acquire()
        .await
        .expect("granted");
    assert!(locks.close().await.is_err());
    assert_eq!(guard.state(), State::Lost(LossReason::Closed));
    eventually("it is closed all the same", || script.left() == 0).await;
}

#[tokio::test]
async fn a_session_is_closed_when_its_watches_are_gone() {
    let script = script();
    let locks = script.locks(HOUR);
    let lock = locks.mutex("a").expect("a valid name");
    let guard = lock.acquire().await.expect("granted");
    eventually("the held entry is watched", || {
        script.watches.load(Ordering::SeqCst) > 0
    })
    .await;
    locks.close().await.expect("closed");
    assert_eq!(script.watches_at_close.load(Ordering::SeqCst), 0);
    assert_eq!(guard.state(), State::Lost(LossReason::Closed));
}

#[test]
fn watches_that_wake_for_nothing_do_not_make_a_wait_overstay() {
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
async fn a_silent_coordinator_does_not_hold_up_those_who_give_up() {
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
async fn a_wait_at_whose_end_nobody_answers_is_not_taken_for_contention() {
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
async fn who_was_never_taken_into_the_queue_hears_that_nobody_answered() {
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
async fn who_gives_up_leaves_no_entry() {
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
async fn an_acquire_dropped_before_its_answer_is_removed() {
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
async fn an_enqueue_that_is_tried_again_is_the_same_one() {
    let script = script();
    script.enqueue.will(Act::FailTimes(3));
    let _guard = mutex(&script).acquire().await.expect("granted");
    assert_eq!(script.enqueue.count(), 4);
    let tickets = script.tickets.lock().expect("no panic");
    assert_eq!(tickets.len(), 1, "{tickets:?}");
}

#[tokio::test]
async fn a_release_without_an_answer_goes_on_until_it_is_done() {
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
async fn what_passes_is_tried_again_within_one_call() {
    let script = script();
    for call in [&script.open, &script.remove, &script.close] {
        call.will(Act::FailTimes(3));
    }
    let locks = script.locks(HOUR);
    let lock = locks.mutex("a").expect("a valid name");
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
async fn a_waiter_watches_its_own_entry_too() {
    let script = script();
    script.blocked.store(true, Ordering::SeqCst);
    let lock = mutex(&script);
    let waiter = tokio::spawn(async move { lock.acquire().await.map(drop) });
    eventually("both are watched", || script.watch.count() == 2).await;
    waiter.abort();
}

#[tokio::test]
async fn a_waiter_whose_watch_says_nothing_looks_by_itself() {
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
async fn a_full_coordinator_says_so() {
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
async fn what_was_refused_is_not_removed_over_and_over() {
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
async fn the_failure_of_an_opening_is_told_to_all_who_wait_for_it() {
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
async fn an_opening_that_nobody_waits_for_any_more_is_closed() {
    let script = script();
    *script.open_takes.lock().expect("no panic") = Duration::from_millis(50);
    let lock = mutex(&script);
    let left = tokio::time::timeout(Duration::from_millis(5), lock.acquire()).await;
    assert!(left.is_err());
    drop(lock);
    eventually("it is closed", || script.close.count() == 1).await;
}

#[tokio::test]
async fn closing_ends_waits_that_had_begun() {
    let script = script();
    script.blocked.store(true, Ordering::SeqCst);
    let locks = script.locks(HOUR);
    let lock = locks.mutex("a").expect("a valid name");
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
async fn a_holder_hears_of_its_entry_although_its_watch_is_refused() {
    for act in [Act::Fail(ErrorKind::Exhausted), Act::Panic] {
        let script = script();
        script.watch.will(act);
        let guard = mutex(&script).acquire().await.expect("granted");
        script.gone.store(true, Ordering::SeqCst);
        assert_eq!(
            soon("it is told", guard.lost()).await,
            LossReason::EntryGone
        );
    }
}

#[tokio::test]
async fn a_watch_that_breaks_is_set_anew_and_ends_with_the_hold() {
    let script = script();
    script.watch.will(Act::Hang);
    let watches = || script.watches.load(Ordering::SeqCst);
    let locks = script.locks(HOUR);
    let acquire = async |name| {
        let mutex = locks.mutex(name).expect("a valid name");
        mutex.acquire().await.expect("granted")
    };
    let mut guards = vec![acquire("steady").await];
    eventually("it is watched", || watches() == 1).await;
    script.watch.will(Act::Fail(ErrorKind::Exhausted));
    guards.push(acquire("interrupted").await);
    eventually("it is tried again", || script.watch.count() > 3).await;
    script.watch.will(Act::Hang);
    eventually("both are watched", || watches() == 2).await;
    for guard in guards {
        let before = watches();
        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
        eventually("its watch is over, too", || watches() == before - 1).await;
    }
}

#[tokio::test]
async fn many_whose_watches_break_are_looked_up_a_few_at_a_time() {
    const HOLDS: usize = 300;
    const AT_ONCE: usize = 64;
    let script = script();
    script.watch.will(Act::Fail(ErrorKind::Unreachable));
    script.look.will(Act::Hang);
    let locks = script.locks(HOUR);
    let mut guards = Vec::with_capacity(HOLDS);
    for number in 0..HOLDS {
        let mutex = locks.mutex(format!("{number}")).expect("a valid name");
        guards.push(mutex.acquire().await.expect("granted"));
    }
    eventually("all were interrupted", || script.watch.count() == HOLDS).await;
    eventually("the first are looked up", || script.look.count() >= AT_ONCE).await;
    // All other watches have failed too, and their looks would have been made by now.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(script.look.count(), AT_ONCE);
}

#[tokio::test]
async fn a_passed_deadline_is_a_loss_for_holders_and_waiters_without_any_timer() {
    let clock = Clock::manual();
    let script = Arc::new(Script {
        clock: clock.clone(),
        ..Script::default()
    });
    script.watch.will(Act::Hang);
    let guard = mutex(&script).acquire().await.expect("granted");
    clock.advance(HOUR);
    assert_eq!(
        (guard.remaining(), guard.deadline()),
        (Duration::ZERO, None)
    );
    assert_eq!(soon("it is told", guard.lost()).await, LossReason::Expired);
    assert_eq!(guard.state(), State::Lost(LossReason::Expired));
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
    let lock = locks.mutex("a").expect("a valid name");
    let waiter = tokio::spawn(async move { lock.acquire().await.map(drop) });
    eventually("it waits", || script.watch.count() > 0).await;
    script.blocked.store(false, Ordering::SeqCst);
    let outcome = soon("the wait ends", waiter).await.expect("no panic");
    (outcome.map_err(|e| e.kind()), script.enqueue.count())
}

#[tokio::test]
async fn a_wait_whose_session_is_lost_fails_or_queues_anew_as_the_caller_chose() {
    let (outcome, enqueues) = wait_over_a_session_loss(OnSessionLoss::Fail).await;
    let lost = ErrorKind::SessionLost(LossReason::SessionGone);
    assert_eq!((outcome, enqueues), (Err(lost), 1));
    let (outcome, enqueues) = wait_over_a_session_loss(OnSessionLoss::Requeue).await;
    assert_eq!(outcome, Ok(()));
    assert!(enqueues >= 2, "{enqueues}");
}

/// Lets a requeueing waiter lose its session while every try to open another one fails. Returns the
/// outcome of the wait, and how many times the waiter reported that it queues anew.
async fn over_an_outage(script: &Arc<Script>, open: ErrorKind) -> (Result<(), ErrorKind>, usize) {
    let told = Arc::new(AtomicUsize::new(0));
    let options = Options::default()
        .with_ttl(HOUR)
        .with_on_session_loss(OnSessionLoss::Requeue)
        .with_on_requeue({
            let told = told.clone();
            move |name, error| {
                assert_eq!(name.as_str(), "a");
                assert!(matches!(error.kind(), ErrorKind::SessionLost(_)));
                told.fetch_add(1, Ordering::SeqCst);
            }
        });
    let locks = script.locks_with(options);
    let lock = locks.mutex("a").expect("a valid name");
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
        told.load(Ordering::SeqCst),
    )
}

#[tokio::test]
async fn a_waiter_asks_for_a_new_session_for_as_long_as_there_is_none() {
    for passing in [ErrorKind::Unreachable, ErrorKind::Exhausted] {
        let outcome = over_an_outage(&script(), passing).await;
        assert_eq!(outcome, (Ok(()), 1), "{passing:?}");
    }
}

#[tokio::test]
async fn a_waiter_that_is_refused_a_new_session_does_not_go_on() {
    for final_ in [ErrorKind::Refused, ErrorKind::Configuration] {
        let script = script();
        let outcome = over_an_outage(&script, final_).await;
        assert_eq!(outcome, (Err(final_), 1));
        assert_eq!(script.open.count(), 2);
    }
}

#[tokio::test]
async fn a_first_session_is_not_asked_for_without_an_end() {
    let script = script();
    script.open.will(Act::Fail(ErrorKind::Unreachable));
    let locks = script.locks_with(Options::default().with_on_session_loss(OnSessionLoss::Requeue));
    let lock = locks.mutex("a").expect("a valid name");
    let error = soon("it fails", lock.acquire())
        .await
        .expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(script.open.count(), UNSENT_TRIES, "of one opening");
}

#[tokio::test]
async fn a_place_is_kept_while_the_coordinator_is_short_of_something() {
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
async fn the_first_reason_of_a_loss_stays() {
    let script = script();
    let locks = script.locks(HOUR);
    let guard = locks
        .mutex("a")
        .expect("a valid name")
        .acquire()
        .await
        .expect("granted");
    script.watch.will(Act::Succeed);
    locks.close().await.expect("closed");
    assert_eq!(guard.state(), State::Lost(LossReason::Closed));
    script.gone.store(true, Ordering::SeqCst);
    assert_eq!(guard.lost().await, LossReason::Closed);
    assert_eq!(guard.state(), State::Lost(LossReason::Closed));
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

#[tokio::test]
async fn a_put_goes_on_until_it_is_answered() {
    let script = script();
    let guard = mutex(&script).acquire().await.expect("granted");
    script.access.will(Act::FailTimes(3));
    guard.put("k", "v").await.expect("answered in the end");
    assert_eq!(script.access.count(), 4);
}

#[tokio::test]
async fn a_put_ends_with_the_lock_and_says_that_it_may_have_been_done() {
    let script = script();
    let locks = script.locks(HOUR);
    let lock = locks.mutex("a").expect("a valid name");
    let guard = Arc::new(lock.acquire().await.expect("granted"));
    script.access.will(Act::Hang);
    let puts: Vec<_> = (0..3)
        .map(|_| {
            let guard = guard.clone();
            tokio::spawn(async move { guard.put("k", "v").await })
        })
        .collect();
    eventually("the first is sent", || script.access.count() > 0).await;
    locks.close().await.expect("closed");
    let mut effects = Vec::new();
    for put in puts {
        let error = soon("the put ends", put).await.expect("no panic");
        let error = error.expect_err("the lock is lost");
        assert_eq!(error.kind(), ErrorKind::SessionLost(LossReason::Closed));
        effects.push(error.effect());
    }
    assert_eq!(script.access.count(), 1, "one at a time");
    effects.sort_unstable_by_key(|effect| *effect == Effect::Unknown);
    assert_eq!(effects, [Effect::None, Effect::None, Effect::Unknown]);
}

#[tokio::test]
async fn a_put_that_finds_the_entry_gone_tells_the_guard() {
    let script = script();
    let guard = mutex(&script).acquire().await.expect("granted");
    script.gone.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let error = guard.put("k", "v").await.expect_err("not ours");
        assert_eq!(
            (error.kind(), error.effect()),
            (ErrorKind::Evicted, Effect::None)
        );
    }
    assert_eq!(guard.state(), State::Lost(LossReason::EntryGone));
    assert_eq!(script.access.count(), 1, "a lost guard asks nobody");
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_before_anything_is_sent() {
    let script = script();
    let locks = script.locks(HOUR);
    let guard = mutex(&script).acquire().await.expect("granted");
    let shared = locks.rwlock("b").expect("a valid name").read().await;
    let shared = shared.expect("granted");
    let long = vec![0; lock_core::data::MAX_VALUE_BYTES + 1];
    let errors = [
        (guard.put("", "v").await, "it is empty"),
        (guard.put("k", long).await, "1000001 bytes"),
        (guard.delete("../k").await, "'..'"),
        (guard.get("k\n").await.map(drop), "control character"),
        (locks.get("a//b").await.map(drop), "segment is empty"),
    ];
    for (outcome, words) in errors {
        let error = outcome.expect_err(words);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(script.access.count(), 0);
    shared.get("k").await.expect("readers read");
}

//! Tests the locks that a process keeps, while the coordinator is in trouble.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use lock_core::clock::Clock;
use lock_core::observe::{Event, Observer, TraceContext};
use lock_core::{
    Error, ErrorKind, Guard, Locks, LossReason, Mutex, OnSessionLoss, Options, Release, Sticky,
};
use tokio::task::JoinHandle;

use crate::session::{Act, Script};
use crate::{HOUR, PATIENCE, eventually, mutex_of, script, soon};

fn kept() -> Sticky {
    Sticky::default().with_idle(HOUR)
}

/// Returns the lock `a` of this script, kept so.
fn sticky(script: &Arc<Script>, sticky: Sticky) -> Mutex {
    sticky_of(&script.locks(HOUR), sticky)
}

/// Returns the lock `a` of this session, kept so.
fn sticky_of(locks: &Locks, sticky: Sticky) -> Mutex {
    mutex_of(locks).sticky(sticky).expect("in bounds")
}

/// Starts a task that acquires the lock.
fn spawn_acquire(lock: &Mutex) -> JoinHandle<Result<Guard, Error>> {
    let lock = lock.clone();
    tokio::spawn(async move { lock.acquire().await })
}

/// Waits until this many tasks have asked for the turn, as far as one can see.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_kept_lock_costs_no_request() {
    let script = script();
    let lock = sticky(&script, kept());
    for turn in 0..100 {
        let guard = soon("it is ours", lock.acquire()).await.expect("granted");
        assert_eq!(guard.turn(), turn);
        assert_eq!(guard.release().await.expect("kept"), Release::Kept);
    }
    let counts = [&script.enqueue, &script.behind, &script.remove].map(|call| call.count());
    assert_eq!(counts, [1, 1, 0]);
}

#[tokio::test]
async fn a_lock_is_not_taken_again_in_jeopardy_or_after_a_loss() {
    for (later, kind) in [(HOUR.mul_f64(0.9), None), (HOUR, Some(LossReason::Expired))] {
        let clock = Clock::manual();
        let script = Arc::new(Script {
            clock: clock.clone(),
            ..Script::default()
        });
        script.watch.will(Act::Hang);
        let lock = sticky(&script, kept());
        let guard = lock.acquire().await.expect("granted");
        assert_eq!(guard.release().await.expect("kept"), Release::Kept);
        eventually("it is watched", || script.watch.count() == 1).await;
        clock.advance(later);
        let guard = soon("it is acquired anew", lock.acquire()).await;
        let guard = guard.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert_eq!(guard.turn(), 0);
        assert_eq!(script.enqueue.count(), 2);
    }
}

/// Whether somebody waits cannot be known: then the lock is not kept.
#[tokio::test]
async fn a_lock_is_given_up_if_nobody_says_who_waits() {
    let unreachable = Act::Fail(ErrorKind::Unreachable);
    let exhausted = Act::Fail(ErrorKind::Exhausted);
    for act in [unreachable, exhausted, Act::Hang, Act::Panic] {
        let script = script();
        script.behind.will(act);
        let lock = sticky(&script, kept());
        let first = lock.acquire().await.expect("granted");
        let second = spawn_acquire(&lock);
        settle().await;
        drop(first);
        let second = soon("it is acquired anew", second).await.expect("no panic");
        let second = second.expect("granted");
        assert_eq!(second.turn(), 0, "{act:?}");
        assert_eq!(second.release().await.expect("kept"), Release::Kept);
        eventually("it is given up", || script.left() == 0).await;
    }
}

#[tokio::test]
async fn a_lock_whose_watch_breaks_is_watched_again() {
    let script = script();
    script.watch.will(Act::FailTimes(3));
    let lock = sticky(&script, kept());
    let guard = lock.acquire().await.expect("granted");
    assert_eq!(guard.release().await.expect("kept"), Release::Kept);
    eventually("it is asked again", || script.behind.count() >= 4).await;
    let again = soon("it is ours", lock.acquire()).await.expect("granted");
    assert_eq!(again.turn(), 1);
    script.watch.will(Act::Succeed);
    drop(again);
    let asked = script.behind.count();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let more = script.behind.count() - asked;
    assert!(more < 60, "{more} questions in a fifth of a second");
}

#[tokio::test]
async fn those_who_wait_behind_a_lost_hold_learn_of_it() {
    let script = script();
    let locks = script.locks(HOUR);
    let lock = sticky_of(&locks, kept());
    // Its task is stuck, and keeps the guard.
    let stuck = lock.acquire().await.expect("granted");
    let waiting = spawn_acquire(&lock);
    settle().await;
    locks.close().await.expect("closed");
    let waited = soon("it is told", waiting).await.expect("no panic");
    let error = waited.expect_err("the place is gone");
    assert_eq!(error.kind(), ErrorKind::SessionLost(LossReason::Closed));
    let next = soon("a new session", lock.acquire())
        .await
        .expect("granted");
    drop(stuck);
    settle().await;
    let busy = lock.try_acquire().await.expect("a value");
    assert!(
        busy.is_none(),
        "the end of the lost hold has freed the lock"
    );
    drop(next);
}

#[tokio::test]
async fn those_who_wait_behind_a_stuck_hold_learn_of_a_close_that_is_not_answered() {
    let script = script();
    script.close.will(Act::Hang);
    let locks = script.locks(HOUR);
    let lock = sticky_of(&locks, kept());
    let stuck = lock.acquire().await.expect("granted");
    let waiting = spawn_acquire(&lock);
    settle().await;
    let closing = tokio::spawn({
        let locks = locks.clone();
        async move { locks.close().await }
    });
    let waited = soon("it is told", waiting).await.expect("no panic");
    let error = waited.expect_err("the place is gone");
    assert_eq!(error.kind(), ErrorKind::SessionLost(LossReason::Closed));
    assert!(!closing.is_finished(), "it is not answered");
    closing.abort();
    drop(stuck);
}

#[tokio::test]
async fn a_lock_is_given_up_if_questions_are_not_answered_any_more() {
    let script = script();
    let lock = sticky(&script, kept());
    drop(lock.acquire().await.expect("granted"));
    eventually("it is watched", || script.watch.count() == 1).await;
    script.behind.will(Act::Fail(ErrorKind::Exhausted));
    eventually("it is given up", || script.left() == 0).await;
    assert_eq!(script.behind.count(), 3, "the question is put twice");
}

/// Somebody may have waited since the grant, although nobody has asked before.
#[tokio::test]
async fn the_overtime_counts_from_the_grant() {
    let script = script();
    let overtime = Duration::from_millis(50);
    let lock = sticky(&script, kept().with_turns(9).with_overtime(overtime));
    let guard = lock.acquire().await.expect("granted");
    script.wanted.store(true, Ordering::SeqCst);
    let waiting = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await.map(|guard| guard.turn()) }
    });
    tokio::time::sleep(overtime * 2).await;
    drop(guard);
    let turn = soon("its turn", waiting).await.expect("no panic");
    assert_eq!(turn.expect("granted"), 0, "a turn before the stranger's");
}

#[tokio::test]
async fn a_wait_behind_a_try_without_an_answer_is_no_contention() {
    let script = script();
    let lock = sticky(&script, kept());
    drop(lock.acquire().await.expect("granted"));
    lock.give_up().await.expect("removed");
    script.enqueue.will(Act::Hang);
    let trying = tokio::spawn({
        let lock = lock.clone();
        async move { lock.try_acquire().await.map(|_| ()) }
    });
    eventually("it tries", || script.enqueue.count() == 2).await;
    let waited = lock.acquire_timeout(Duration::from_millis(20)).await;
    let error = waited.expect_err("nobody said who has it");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    trying.abort();
}

#[tokio::test]
async fn those_who_wait_behind_an_evicted_hold_go_on() {
    let script = script();
    let lock = sticky(&script, kept());
    let stuck = lock.acquire().await.expect("granted");
    let waiting = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await.map(|guard| guard.turn()) }
    });
    settle().await;
    script.gone.store(true, Ordering::SeqCst);
    let noticed = stuck.put("k", "v").await.expect_err("not ours any more");
    assert_eq!(noticed.kind(), ErrorKind::Evicted);
    script.gone.store(false, Ordering::SeqCst);
    let turn = soon("its turn", waiting).await.expect("no panic");
    assert_eq!(turn.expect("granted"), 0);
    drop(stuck);
}

#[tokio::test]
async fn the_turn_that_others_find_is_the_last() {
    let script = script();
    let lock = sticky(&script, kept().with_overtime(HOUR));
    let guard = lock.acquire().await.expect("granted");
    assert_eq!(guard.release().await.expect("kept"), Release::Kept);
    eventually("it is watched", || script.watch.count() == 1).await;
    let guard = lock.acquire().await.expect("kept");
    assert_eq!(guard.turn(), 1);
    let waiting = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await.map(|guard| guard.turn()) }
    });
    settle().await;
    // The event of a stranger comes during the hold. A script cannot wake a watch that hangs.
    script.wanted.store(true, Ordering::SeqCst);
    eventually("it is noticed by the backstop", || {
        lock.sticky_stats().recalls == 1
    })
    .await;
    assert_eq!(guard.release().await.expect("removed"), Release::Released);
    let turn = soon("its turn", waiting).await.expect("no panic");
    assert_eq!(turn.expect("granted"), 0, "a turn before the stranger's");
}

#[tokio::test]
async fn a_wait_behind_a_task_of_the_same_process_is_contention() {
    let script = script();
    let lock = sticky(&script, kept());
    let guard = lock.acquire().await.expect("granted");
    // The coordinator is not asked, however long ago it last answered.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let waited = lock.acquire_timeout(Duration::from_millis(10)).await;
    assert!(waited.expect("contention is a value").is_none());
    assert!(lock.try_acquire().await.expect("a value").is_none());
    drop(guard);
}

#[tokio::test]
async fn a_place_that_was_never_given_is_no_contention() {
    let script = script();
    let lock = sticky(&script, kept());
    drop(lock.acquire().await.expect("granted"));
    lock.give_up().await.expect("removed");
    script.enqueue.will(Act::Hang);
    let waited = lock.acquire_timeout(Duration::from_millis(20)).await;
    let error = waited.expect_err("nobody said who has it");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}

#[tokio::test]
async fn tasks_that_wait_for_one_place_fail_together() {
    let script = script();
    script.enqueue.will(Act::Fail(ErrorKind::Exhausted));
    let lock = sticky(&script, kept());
    let began = Instant::now();
    let tasks = (0..20).map(|_| {
        let lock = lock.clone();
        tokio::spawn(async move { lock.acquire().await })
    });
    for task in tasks.collect::<Vec<_>>() {
        let ended = soon("an answer", task).await.expect("no panic");
        let error = ended.expect_err("it is short of something");
        assert_eq!(error.kind(), ErrorKind::Exhausted);
    }
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

/// The next task begins an acquire of its own: one that has panicked cannot go on.
#[tokio::test]
async fn a_common_acquire_that_has_panicked_is_not_passed_on() {
    let script = script();
    script.blocked.store(true, Ordering::SeqCst);
    script.watch.will(Act::Panic);
    let lock = sticky(&script, kept());
    let tasks = (0..3).map(|_| {
        let lock = lock.clone();
        tokio::spawn(async move { lock.acquire().await.map(drop) })
    });
    for task in tasks.collect::<Vec<_>>() {
        let panic = soon("its end", task).await.expect_err("it panics");
        let panic = panic.into_panic();
        assert_eq!(panic.downcast_ref(), Some(&"as the script says"));
    }
    assert_eq!(script.enqueue.count(), 3);
}

#[tokio::test]
async fn waiters_that_queue_anew_do_so_with_their_process() {
    let script = script();
    script.blocked.store(true, Ordering::SeqCst);
    let options = Options::default()
        .with_ttl(HOUR)
        .with_on_session_loss(OnSessionLoss::Requeue);
    let locks = script.locks_with(options);
    let lock = sticky_of(&locks, kept());
    let tasks = (0..3).map(|_| {
        let lock = lock.clone();
        tokio::spawn(async move { lock.acquire().await.map(drop) })
    });
    let tasks: Vec<_> = tasks.collect();
    eventually("it waits", || script.watch.count() == 1).await;
    script
        .watch
        .will(Act::Fail(ErrorKind::SessionLost(LossReason::SessionGone)));
    eventually("the queue is read", || script.enqueue.count() == 1).await;
    settle().await;
    assert!(tasks.iter().all(|task| !task.is_finished()));
    for task in tasks {
        task.abort();
    }
}

/// Its copy may be carried out while the entry is there, and the next turn has the same entry.
#[tokio::test]
async fn a_hold_whose_change_is_in_doubt_is_not_kept() {
    let script = script();
    let lock = sticky(&script, kept());
    let guard = lock.acquire().await.expect("granted");
    script.access.will(Act::Hang);
    let put = tokio::time::timeout(Duration::from_millis(20), guard.put("k", "v"));
    assert!(put.await.is_err(), "it hangs");
    assert_eq!(guard.release().await.expect("removed"), Release::Released);
    // A later access that is done settles the earlier ones.
    let guard = lock.acquire().await.expect("granted");
    let put = tokio::time::timeout(Duration::from_millis(20), guard.put("k", "v"));
    assert!(put.await.is_err(), "it hangs");
    script.access.will(Act::Succeed);
    guard.get("k").await.expect("an answer");
    assert_eq!(guard.release().await.expect("kept"), Release::Kept);
}

/// Counts what an observer is told.
#[derive(Debug, Default)]
struct Told(StdMutex<Vec<&'static str>>);

impl Observer for Told {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Acquired { .. } | Event::HoldEnded { .. } = event {
            let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            told.push(event.name());
        }
    }

    fn trace_context(&self) -> Option<TraceContext> {
        None
    }
}

#[tokio::test]
async fn an_observer_is_told_of_each_turn_once() {
    let script = script();
    let told = Arc::new(Told::default());
    let options = Options::default().with_ttl(HOUR);
    let locks = script.locks_with(options.with_observer(told.clone()));
    let lock = sticky_of(&locks, kept());
    for _ in 0..2 {
        drop(lock.try_acquire().await.expect("a value").expect("free"));
        drop(lock.acquire().await.expect("granted"));
        lock.give_up().await.expect("removed");
        drop(lock.acquire().await.expect("granted"));
    }
    let told = told.0.lock().unwrap_or_else(PoisonError::into_inner);
    let each = ["acquired", "hold_ended"];
    assert_eq!(*told, each.repeat(6));
}

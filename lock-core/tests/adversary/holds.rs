//! Tests that a holder notices the loss of its lock.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lock_core::clock::Clock;
use lock_core::observe::{Event, HoldEnd, Observer, TraceContext};
use lock_core::{ErrorKind, LossReason, Options, Release, State};

use crate::session::{Act, Script};
use crate::{HOUR, eventually, mutex, mutex_of, script, soon};

#[tokio::test]
async fn a_session_is_closed_when_its_watches_are_gone() {
    let script = script();
    let locks = script.locks(HOUR);
    let lock = mutex_of(&locks);
    let guard = lock.acquire().await.expect("granted");
    eventually("the held entry is watched", || {
        script.watches.load(Ordering::SeqCst) > 0
    })
    .await;
    locks.close().await.expect("closed");
    assert_eq!(script.watches_at_close.load(Ordering::SeqCst), 0);
    assert_eq!(guard.state(), State::Lost(LossReason::Closed));
}

#[tokio::test]
async fn a_holder_notices_the_loss_of_its_entry_although_its_watch_fails() {
    for act in [Act::Fail(ErrorKind::Exhausted), Act::Panic] {
        let script = script();
        script.watch.will(act);
        let guard = mutex(&script).acquire().await.expect("granted");
        script.gone.store(true, Ordering::SeqCst);
        assert_eq!(
            soon("the loss is noticed", guard.lost()).await,
            LossReason::EntryGone
        );
    }
}

/// Keeps the ends of holds.
#[derive(Debug, Default)]
struct Ends(Mutex<Vec<HoldEnd>>);

impl Ends {
    fn get(&self) -> Vec<HoldEnd> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Observer for Ends {
    fn observe(&self, event: &Event<'_>) {
        if let Event::HoldEnded { end, .. } = event {
            let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            ends.push(*end);
        }
    }

    fn trace_context(&self) -> Option<TraceContext> {
        None
    }
}

#[tokio::test]
async fn an_entry_that_its_own_release_removes_is_not_lost() {
    let script = script();
    script.watch.will(Act::Succeed);
    script.remove.will(Act::Hang);
    let ends = Arc::new(Ends::default());
    let options = Options::default().with_ttl(HOUR);
    let locks = script.locks_with(options.with_observer(ends.clone()));
    let guard = mutex_of(&locks).acquire().await.expect("granted");
    eventually("the held entry is looked up", || script.look.count() > 0).await;
    let releasing = tokio::spawn(guard.release());
    eventually("it is being removed", || script.remove.count() > 0).await;
    script.gone.store(true, Ordering::SeqCst);
    // The first look may have begun before.
    let looks = script.look.count();
    eventually("it is seen to be gone", || {
        script.look.count() > looks + 2 || !ends.get().is_empty()
    })
    .await;
    releasing.abort();
    assert!(releasing.await.expect_err("aborted").is_cancelled());
    assert_eq!(ends.get(), [HoldEnd::Dropped]);
}

#[tokio::test]
async fn a_broken_watch_is_set_again_and_ends_with_the_hold() {
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
async fn after_many_broken_watches_a_few_entries_are_looked_up_at_a_time() {
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
    assert_eq!(
        soon("the loss is noticed", guard.lost()).await,
        LossReason::Expired
    );
    assert_eq!(guard.state(), State::Lost(LossReason::Expired));
}

#[tokio::test]
async fn the_first_reason_of_a_loss_stays() {
    let script = script();
    let locks = script.locks(HOUR);
    let guard = mutex_of(&locks).acquire().await.expect("granted");
    script.watch.will(Act::Succeed);
    locks.close().await.expect("closed");
    assert_eq!(guard.state(), State::Lost(LossReason::Closed));
    script.gone.store(true, Ordering::SeqCst);
    assert_eq!(guard.lost().await, LossReason::Closed);
    assert_eq!(guard.state(), State::Lost(LossReason::Closed));
}

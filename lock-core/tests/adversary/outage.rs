//! Tests what is sent, and what goes on, while the coordinator cannot be reached.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use lock_core::observe::{Event, Observer, TraceContext};
use lock_core::{Effect, Error, ErrorKind, Liveness, Locks, Options, Release};
use tokio::task::JoinHandle;

use crate::session::{Act, Script};
use crate::{HOUR, eventually, mutex_of, script, soon};

/// Failures in a row that open the circuit breaker.
const FAILURES: usize = 5;

/// Keeps what the tests need of the events.
#[derive(Debug, Default)]
struct Watcher {
    liveness: Mutex<Weak<Liveness>>,
    is_open: AtomicBool,
    openings: AtomicUsize,
}

impl Watcher {
    fn is_open(&self) -> bool {
        self.is_open.load(Ordering::SeqCst)
    }

    /// Does as if a renewal of the session was acknowledged.
    fn renew(&self) {
        let liveness = self.liveness.lock().unwrap_or_else(PoisonError::into_inner);
        let liveness = liveness.upgrade().expect("a live session");
        liveness.record_renewal(liveness.clock().now(), HOUR);
    }
}

impl Observer for Watcher {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::SessionOpened { liveness, .. } => {
                let mut kept = self.liveness.lock().unwrap_or_else(PoisonError::into_inner);
                *kept = Arc::downgrade(liveness);
            }
            Event::BreakerOpened { error, .. } => {
                assert_eq!(error.kind(), ErrorKind::Unreachable);
                self.openings.fetch_add(1, Ordering::SeqCst);
                self.is_open.store(true, Ordering::SeqCst);
            }
            Event::BreakerClosed => self.is_open.store(false, Ordering::SeqCst),
            _ => {}
        }
    }

    fn trace_context(&self) -> Option<TraceContext> {
        None
    }
}

fn locks(script: &Arc<Script>, watcher: &Arc<Watcher>) -> Locks {
    script.locks_with(
        Options::default()
            .with_ttl(HOUR)
            .with_observer(watcher.clone()),
    )
}

fn assert_held_back<T>(outcome: Result<T, Error>) {
    let error = outcome.map(|_| ()).expect_err("nothing is sent");
    assert_eq!(
        (error.kind(), error.effect()),
        (ErrorKind::Unreachable, Effect::None)
    );
    assert!(error.retry_after().is_some(), "{error:?}");
}

#[tokio::test]
async fn an_outage_holds_back_all_but_probes_and_no_holder() {
    let (script, watcher) = (script(), Arc::<Watcher>::default());
    let locks = locks(&script, &watcher);
    let lock = mutex_of(&locks);
    let held = lock.acquire().await.expect("free");
    let other = lock.acquire().await.expect("as the script says");

    script.enqueue.will(Act::Fail(ErrorKind::Unreachable));
    let waits: Vec<_> = (0..100)
        .map(|_| {
            let lock = lock.clone();
            tokio::spawn(async move { lock.acquire().await.map(drop) })
        })
        .collect();
    eventually("the breaker opens", || watcher.is_open()).await;
    // The probe that comes next never ends.
    script.enqueue.will(Act::Hang);
    let sent = script.enqueue.count();
    eventually("there is a probe", || script.enqueue.count() > sent).await;
    let sent = script.enqueue.count();
    let reads = script.read.count();
    assert_held_back(lock.try_acquire().await);
    assert_held_back(locks.queue(lock.name()).await);
    assert_held_back(locks.get("k").await);
    assert_held_back(lock.acquire_timeout(Duration::from_millis(1)).await);
    assert_eq!(script.read.count(), reads);

    // What finishes something passes.
    held.put("k", "v").await.expect("stored");
    held.get("k").await.expect("read");
    assert_eq!(held.release().await.expect("an answer"), Release::Released);
    script.gone.store(true, Ordering::SeqCst);
    other.put("k", "v").await.expect_err("the loss is noticed");
    soon("it is told", other.lost()).await;
    script.gone.store(false, Ordering::SeqCst);

    // Nobody but the probe has asked.
    assert_eq!(script.enqueue.count(), sent);
    assert!(watcher.is_open());
    script.enqueue.will(Act::Succeed);
    watcher.renew();
    assert!(!watcher.is_open());
    let served = || waits.iter().filter(|wait| wait.is_finished()).count();
    eventually("all but the probe are served", || served() == 99).await;
    for wait in waits {
        wait.abort();
    }
    assert_eq!(watcher.openings.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_probe_that_its_caller_gives_up_is_followed_by_another() {
    let (script, watcher) = (script(), Arc::<Watcher>::default());
    let locks = locks(&script, &watcher);
    let lock = mutex_of(&locks);
    drop(lock.acquire().await.expect("free"));
    script.enqueue.will(Act::Fail(ErrorKind::Unreachable));
    let opening = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await.map(drop) }
    });
    eventually("the breaker opens", || watcher.is_open()).await;
    script.enqueue.will(Act::Hang);
    let sent = script.enqueue.count();
    eventually("there is a probe", || script.enqueue.count() > sent).await;
    opening.abort();
    script.enqueue.will(Act::Succeed);
    let next = soon("another probe gets through", lock.acquire()).await;
    drop(next.expect("free"));
    assert!(!watcher.is_open());
}

/// Each of them is given up before a backend reports that nobody answers.
#[tokio::test]
async fn acquires_with_little_time_find_out_that_nobody_answers() {
    let (script, watcher) = (script(), Arc::<Watcher>::default());
    let locks = locks(&script, &watcher);
    let lock = mutex_of(&locks);
    drop(lock.acquire().await.expect("free"));
    script.enqueue.will(Act::Hang);
    script.remove.will(Act::Fail(ErrorKind::Unreachable));
    let limit = Duration::from_millis(1_100);
    let waits: Vec<_> = (1..FAILURES)
        .map(|_| {
            let lock = lock.clone();
            tokio::spawn(async move { lock.acquire_timeout(limit).await.map(drop) })
        })
        .collect();
    for wait in waits {
        let error = wait.await.expect("no panic").expect_err("nobody answers");
        assert_eq!(error.kind(), ErrorKind::Unreachable);
    }
    assert!(!watcher.is_open());
    let error = lock.acquire_timeout(limit).await.expect_err("nor now");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(watcher.is_open());
}

#[tokio::test]
async fn a_coordinator_that_is_short_of_something_opens_no_breaker() {
    let (script, watcher) = (script(), Arc::<Watcher>::default());
    let locks = locks(&script, &watcher);
    let lock = mutex_of(&locks);
    script.enqueue.will(Act::Fail(ErrorKind::Exhausted));
    for _ in 0..4 * FAILURES {
        let error = lock.try_acquire().await.expect_err("short");
        assert_eq!(error.kind(), ErrorKind::Exhausted);
    }
    script.enqueue.will(Act::Succeed);
    assert!(lock.try_acquire().await.expect("an answer").is_some());
    assert_eq!(watcher.openings.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn clones_share_one_breaker_and_other_locks_have_their_own() {
    let (script, watcher) = (script(), Arc::<Watcher>::default());
    let (ours, others) = (locks(&script, &watcher), script.locks(HOUR));
    script.read.will(Act::Fail(ErrorKind::Unreachable));
    ours.get("k").await.expect_err("out of reach");
    eventually("the breaker opens", || watcher.is_open()).await;
    script.read.will(Act::Hang);
    let probe = tokio::spawn({
        let ours = ours.clone();
        async move {
            while ours.get("k").await.is_err() {
                tokio::task::yield_now().await;
            }
        }
    });
    let before = script.read.count();
    eventually("there is a probe", || script.read.count() > before).await;
    assert_held_back(ours.clone().get("k").await);
    script.read.will(Act::Succeed);
    others.get("k").await.expect("its breaker is closed");
    probe.abort();
    drop((probe, ours));
    eventually("nothing is held back any more", || !watcher.is_open()).await;
}

/// Lets a hundred tasks wait for a lock that another contender has.
fn wait_behind_another(script: &Arc<Script>) -> Vec<JoinHandle<Result<(), Error>>> {
    script.blocked.store(true, Ordering::SeqCst);
    let lock = mutex_of(&script.locks(HOUR));
    (0..100)
        .map(|_| {
            let lock = lock.clone();
            tokio::spawn(async move { lock.acquire().await.map(drop) })
        })
        .collect()
}

#[tokio::test]
async fn waiters_look_two_at_a_time() {
    let script = script();
    let waits = wait_behind_another(&script);
    script.look.will(Act::Hang);
    script.watch.will(Act::Fail(ErrorKind::Unreachable));
    eventually("two look", || script.look.count() >= 2).await;
    eventually("all watches broke", || script.watch.count() >= 200).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(script.look.count(), 2);
    for wait in waits {
        wait.abort();
    }
}

#[tokio::test]
async fn waiters_of_a_coordinator_out_of_reach_are_held_back() {
    let script = script();
    let waits = wait_behind_another(&script);
    script.look.will(Act::Fail(ErrorKind::Unreachable));
    script.watch.will(Act::Fail(ErrorKind::Unreachable));
    eventually("some have looked", || script.look.count() >= 4).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(script.look.count() <= 10, "{} looks", script.look.count());
    script.look.will(Act::Succeed);
    script.watch.will(Act::Succeed);
    script.blocked.store(false, Ordering::SeqCst);
    for wait in waits {
        let served = soon("all are served", wait).await.expect("no panic");
        served.expect("granted");
    }
}

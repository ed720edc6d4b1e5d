//! Lets ten thousand tasks of a client want locks at once. Releases and renewals must not wait behind
//! them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lock_core::observe::{Event, Observer, TraceContext};
use lock_core::{Guard, Locks, Options, Release};

use crate::waiting::{soon, wait_until};

const TTL: Duration = Duration::from_secs(10);
const TASKS: usize = 10_000;

/// The renewals that are waited for.
const RENEWALS: usize = 3;

/// Keeps how long renewals took.
#[derive(Debug, Default)]
struct Renewals(Mutex<Vec<Duration>>);

impl Renewals {
    fn took(&self) -> Vec<Duration> {
        let took = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        took.clone()
    }
}

impl Observer for Renewals {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Renewed { took, .. } => {
                let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                all.push(*took);
            }
            Event::RenewalFailed { error, .. } => panic!("{error:?}"),
            _ => {}
        }
    }

    fn trace_context(&self) -> Option<TraceContext> {
        None
    }
}

/// Begins to acquire a lock for each task, and returns how many have got theirs.
fn crowd(locks: &Locks, name: &impl Fn(usize) -> String) -> Arc<AtomicUsize> {
    let served = Arc::<AtomicUsize>::default();
    for task in 0..TASKS {
        let lock = locks.mutex(name(task)).expect("valid");
        let served = served.clone();
        tokio::spawn(async move {
            // The test may end before its turn.
            if let Ok(guard) = lock.acquire().await {
                served.fetch_add(1, Ordering::SeqCst);
                let _ = guard.release().await;
            }
        });
    }
    served
}

/// Releases locks, one after the other, while others are acquired.
fn release_all(held: Vec<Guard>, served: &AtomicUsize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        for guard in held {
            let begun = served.load(Ordering::SeqCst);
            let released = soon("a release", guard.release()).await;
            assert_eq!(released.expect("an answer"), Release::Released);
            let ahead = served.load(Ordering::SeqCst) - begun;
            // The client's own thread still has a queue, of tasks that are ready.
            assert!(ahead < TASKS / 2, "{ahead} acquires went before a release");
        }
    });
}

/// Checks that a crowd holds up neither releases nor renewals. Each of its tasks wants the lock of
/// this name.
///
/// # Panics
/// If it does, or a session with so many waiters is not closed.
pub async fn endure(open: impl FnOnce(Options) -> Locks, name: impl Fn(usize) -> String) {
    let renewals = Arc::<Renewals>::default();
    let options = Options::default()
        .with_ttl(TTL)
        .with_observer(renewals.clone());
    let locks = open(options);
    let mut held = Vec::new();
    for lock in 0..20 {
        let lock = locks.mutex(format!("held/{lock}")).expect("valid");
        held.push(soon("a lock", lock.acquire()).await.expect("free"));
    }
    let before = renewals.took().len();
    let served = crowd(&locks, &name);
    // On a thread of its own: tasks that are ready keep each other waiting on any executor.
    let releasing = std::thread::spawn({
        let served = served.clone();
        move || release_all(held, &served)
    });
    wait_until("all are released", || releasing.is_finished()).await;
    releasing.join().expect("releases go first");
    while renewals.took().len() < before + RENEWALS {
        let served = crowd(&locks, &name);
        wait_until("the crowd is served, or the test is over", || {
            served.load(Ordering::SeqCst) == TASKS || renewals.took().len() >= before + RENEWALS
        })
        .await;
    }
    let took = renewals.took().split_off(before);
    println!("{} renewals, slowest {:?}", took.len(), took.iter().max());
    assert!(took.iter().all(|took| *took <= TTL / 10), "{took:?}");
    let closed = soon("the end", locks.close()).await;
    closed.expect("those that wait keep no session alive");
}

//! Tests what an observer is told, on the embedded coordinator in memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend_embedded::EmbeddedBackend;
use lock_core::observe::{Event, Observer, TraceContext};
use lock_core::{AcquireOptions, Locks, Options};

/// Notes each event as a line.
#[derive(Debug, Default)]
struct Notes {
    lines: Mutex<Vec<String>>,
    trace: Option<TraceContext>,
    panics: bool,
}

impl Notes {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().unwrap())
    }

    /// Waits until a line begins like this, and returns all lines.
    async fn wait_for(&self, start: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let found = async {
            loop {
                seen.extend(self.take());
                if seen.iter().any(|line: &String| line.starts_with(start)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(60), found).await;
        assert!(found.is_ok(), "no {start:?} in {seen:?}");
        seen
    }
}

impl Observer for Notes {
    fn observe(&self, event: &Event<'_>) {
        let line = match event {
            Event::Acquiring { lock, mode, .. } => format!("acquiring {lock} {mode}"),
            Event::Acquired {
                lock, contended, ..
            } => format!("acquired {lock} {contended}"),
            Event::NotAcquired { lock, why, .. } => format!("not acquired {lock} {why:?}"),
            Event::HoldEnded { lock, end, .. } => format!("ended {lock} {end:?}"),
            Event::Blocked { lock, by, .. } => {
                format!("blocked {lock} {:?}", by.map(|by| &by.owner))
            }
            Event::SessionOpened { .. } => "session opened".to_owned(),
            Event::SessionEnded { reason, .. } => format!("session ended {reason:?}"),
            Event::Renewed { .. } => "renewed".to_owned(),
            other => format!("{other:?}"),
        };
        self.lines.lock().unwrap().push(line);
        assert!(!self.panics, "the observer of this test panics");
    }

    fn trace_context(&self) -> Option<TraceContext> {
        self.trace
    }
}

async fn observed(notes: &Arc<Notes>, ttl: Duration) -> Locks {
    let backend = EmbeddedBackend::open("embedded:memory")
        .await
        .expect("a coordinator in memory");
    let options = Options::default().with_ttl(ttl);
    Locks::new(backend, options.with_observer(notes.clone())).expect("valid options")
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn an_acquire_and_a_release_are_told_in_order() {
    let notes = Arc::<Notes>::default();
    let locks = observed(&notes, LONG).await;
    let guard = locks.mutex("a").unwrap().acquire().await.unwrap();
    let expected = [
        "acquiring a exclusive",
        "session opened",
        "acquired a false",
    ];
    assert_eq!(notes.take(), expected);
    let _ = guard.release().await.unwrap();
    assert_eq!(notes.take(), ["ended a Released"]);
    locks.close().await.unwrap();
    assert_eq!(
        notes.wait_for("session ended").await,
        ["session ended Closed"]
    );
}

#[tokio::test]
async fn each_end_of_an_acquire_without_the_lock_is_told() {
    let notes = Arc::<Notes>::default();
    let locks = observed(&notes, LONG).await;
    let held = locks.mutex("a").unwrap().acquire().await.unwrap();
    let (lock, short) = (locks.mutex("a").unwrap(), Duration::from_millis(20));
    notes.take();
    assert!(lock.try_acquire().await.unwrap().is_none());
    assert_eq!(
        notes.take(),
        ["acquiring a exclusive", "not acquired a Busy"]
    );
    let timed = AcquireOptions::new().timeout(short);
    assert!(lock.acquire_with(timed).await.unwrap().is_none());
    assert_eq!(
        notes.take(),
        ["acquiring a exclusive", "not acquired a TimedOut"]
    );
    let dropped = tokio::time::timeout(short, lock.acquire()).await;
    assert!(dropped.is_err());
    assert_eq!(
        notes.take(),
        ["acquiring a exclusive", "not acquired a Cancelled"]
    );
    let waiting = tokio::spawn(async move { lock.acquire().await });
    notes.wait_for("acquiring").await;
    drop(held);
    let guard = waiting.await.unwrap().unwrap();
    assert_eq!(notes.take(), ["ended a Dropped", "acquired a true"]);
    drop(guard);
}

#[tokio::test]
async fn a_lost_session_ends_its_holds_although_nobody_asks_them() {
    let notes = Arc::<Notes>::default();
    let locks = observed(&notes, LONG).await;
    let young = locks.mutex("young").unwrap().acquire().await.unwrap();
    let old = locks.mutex("old").unwrap().acquire().await.unwrap();
    // By now the entry of one of them may be watched, and that of the other not.
    tokio::time::sleep(Duration::from_millis(30)).await;
    let last = locks.mutex("last").unwrap().acquire().await.unwrap();
    notes.take();
    locks.close().await.unwrap();
    let mut lines = notes.wait_for("session ended").await;
    lines.sort();
    let lost = ["last", "old", "young"].map(|name| format!("ended {name} Lost(Closed)"));
    assert_eq!(lines[..3], lost);
    assert_eq!(lines[3..], ["session ended Closed"]);
    drop((young, old, last));
    assert_eq!(notes.take(), [""; 0], "each hold ends once");
}

#[tokio::test]
async fn renewals_are_told() {
    let notes = Arc::<Notes>::default();
    let locks = observed(&notes, lock_core::MIN_TTL).await;
    let guard = locks.mutex("a").unwrap().acquire().await.unwrap();
    notes.wait_for("renewed").await;
    drop(guard);
}

#[tokio::test]
async fn an_observer_that_panics_costs_no_lock() {
    let notes = Arc::new(Notes {
        panics: true,
        ..Notes::default()
    });
    let locks = observed(&notes, lock_core::MIN_TTL).await;
    let guard = locks.mutex("a").unwrap().acquire().await.unwrap();
    notes.wait_for("renewed").await;
    let _ = guard.release().await.unwrap();
    notes.wait_for("ended a Released").await;
}

#[tokio::test]
async fn the_trace_of_a_contender_stands_in_its_entry() {
    let trace = TraceContext::new(7, 8, true);
    let notes = Arc::new(Notes {
        trace,
        ..Notes::default()
    });
    let locks = observed(&notes, LONG).await;
    let guard = locks.mutex("a").unwrap().acquire().await.unwrap();
    let queue = locks.queue(guard.name()).await.unwrap();
    let metadata = queue.entries[0].metadata.as_ref().expect("ours");
    assert_eq!(metadata.traceparent, trace);
    drop(guard);
}

#[tokio::test]
async fn a_wait_that_lasts_is_told_once_with_the_contender_ahead_if_it_has_a_trace() {
    for (trace, told) in [
        (None, "blocked a None"),
        (TraceContext::new(7, 8, true), "blocked a Some(\"ahead\")"),
    ] {
        let notes = Arc::new(Notes {
            trace,
            ..Notes::default()
        });
        let backend = EmbeddedBackend::open("embedded:memory").await.unwrap();
        let holder = Options::default().with_owner("ahead");
        let holder = Locks::new(backend.clone(), holder).unwrap();
        let waiter = Options::default().with_observer(notes.clone());
        let waiter = Locks::new(backend, waiter).unwrap();
        let first = holder.mutex("a").unwrap().acquire().await.unwrap();
        let lock = holder.mutex("a").unwrap();
        let second = tokio::spawn(async move { lock.acquire().await });
        depth(&holder, 2).await;
        let lock = waiter.mutex("a").unwrap();
        let third = tokio::spawn(async move { lock.acquire().await });
        let seen = notes.wait_for("blocked").await;
        assert_eq!(seen, ["acquiring a exclusive", "session opened", told]);
        drop(first);
        // Behind another one for as long, it is not told again.
        let second = second.await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(second);
        drop(third.await.unwrap().unwrap());
        let rest = ["acquired a true", "ended a Dropped"];
        assert_eq!(notes.take(), rest);
    }
}

/// Waits until so many contend for the lock `a`.
async fn depth(locks: &Locks, depth: usize) {
    let name = lock_core::LockName::new("a").unwrap();
    let found = async {
        while locks.queue(&name).await.unwrap().entries.len() != depth {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(60), found).await;
    assert!(found.is_ok(), "there are not {depth} contenders");
}

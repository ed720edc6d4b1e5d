//! Checks that a task that acquires a lock that it already holds is warned, and that no other task
//! is.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend_embedded::EmbeddedBackend;
use lock_core::{Locks, Options};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps the texts of all warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    fn of(&self, lock: &str) -> usize {
        let texts = self.0.lock().expect("no panic");
        let of_lock = texts.iter().filter(|text| text.contains(lock));
        of_lock
            .inspect(|text| assert!(text.contains("holds itself")))
            .count()
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().expect("no panic").push(text.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

#[tokio::test]
async fn a_task_that_waits_for_itself_is_warned_of_once() {
    let warnings = Warnings::default();
    tracing::subscriber::set_global_default(warnings.clone()).expect("the only one");
    let backend = EmbeddedBackend::open("embedded:memory").await;
    let locks = Locks::new(backend.expect("in memory"), Options::default()).expect("valid");
    let (own, shared) = (locks.mutex("own"), locks.mutex("between-tasks"));
    let (own, shared) = (own.expect("valid"), shared.expect("valid"));

    let _held = own.acquire().await.expect("free");
    let (other, limit) = (shared.clone(), Duration::from_secs(3));
    let _between = tokio::spawn(async move { other.acquire().await })
        .await
        .expect("no panic")
        .expect("free");
    let (twice, behind) = tokio::join!(
        own.acquire_timeout(limit),
        tokio::spawn(async move { shared.acquire_timeout(limit).await }),
    );
    assert!(twice.expect("an answer").is_none());
    assert!(behind.expect("no panic").expect("an answer").is_none());
    assert_eq!(warnings.of("own"), 1);
    assert_eq!(warnings.of("between-tasks"), 0);

    // A released lock is not held.
    drop(_held);
    let held = own.acquire().await.expect("free");
    let other = own.clone();
    let stranger =
        tokio::spawn(async move { other.acquire_timeout(Duration::from_millis(1500)).await });
    assert!(
        stranger
            .await
            .expect("no panic")
            .expect("an answer")
            .is_none()
    );
    assert_eq!(warnings.of("own"), 1);
    drop(held);
}

//! A task that waits for a lock that it holds itself is warned of. The program is one of its own,
//! since the wait runs on the background thread, where only a global subscriber hears of it.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backend_embedded::EmbeddedBackend;
use lock_core::{Error, LockName, Locks, Options};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps the warnings, as text.
struct Warnings;

static TEXTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn texts() -> MutexGuard<'static, Vec<String>> {
    TEXTS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                self.0 += &format!("{}={value:?} ", field.name());
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        texts().push(text.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Returns the warnings of this lock.
fn warnings_of(lock: &str) -> usize {
    let lock = format!("lock={lock} ");
    let texts = texts();
    let its = texts
        .iter()
        .filter(|text| text.contains(&lock) && text.contains("holds itself"));
    its.count()
}

#[tokio::test]
async fn who_waits_for_itself_is_warned_of_and_who_waits_for_another_is_not() -> Result<(), Error> {
    tracing::subscriber::set_global_default(Warnings).expect("the only one");
    let locks = Locks::new(
        EmbeddedBackend::open("embedded:memory").await?,
        Options::default(),
    )?;
    let [own, other] = [locks.mutex("own")?, locks.mutex("other")?];
    let held = own.acquire().await?;
    let elsewhere = tokio::spawn({
        let other = other.clone();
        async move { other.acquire().await }
    });
    let held_elsewhere = elsewhere.await.expect("no panic")?;
    let waits_for_other = tokio::spawn(async move { other.acquire().await });
    while locks
        .queue(&LockName::new("other").expect("valid"))
        .await?
        .entries
        .len()
        < 2
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::select! {
        own = own.acquire() => panic!("two hold the lock: {own:?}"),
        () = async {
            while warnings_of("own") == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        } => {}
    }
    // The wait for the other lock began before, so its warning would have come before.
    assert_eq!(warnings_of("other"), 0);
    assert_eq!(warnings_of("own"), 1);
    let _ = held.release().await?;
    let _ = held_elsewhere.release().await?;
    let _ = waits_for_other.await.expect("no panic")?.release().await?;
    Ok(())
}

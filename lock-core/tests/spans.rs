//! The span of an acquire is whole: it has what became of the acquire, and what happens on the
//! background thread happens in it. The program is one of its own, since only a global subscriber
//! hears of that thread.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend_embedded::EmbeddedBackend;
use lock_core::{AcquireOptions, Locks, Options, Release};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Keeps the fields of each span that has ended, and of each event with the name of its span.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<(&'static str, Fields)>>>);

#[derive(Debug, Default, Clone)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Fields {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

impl Kept {
    /// Returns what is kept of this name for this lock, in order, once that is so many.
    async fn wait_for<const N: usize>(&self, name: &str, lock: &str) -> [Fields; N] {
        let is_wanted = |(its, fields): &&(&str, Fields)| {
            *its == name && [fields.get("turnlock.lock.name"), fields.get("lock")].contains(&lock)
        };
        // A span is over once the work on the background thread is dropped, too.
        for _ in 0..60_000 {
            let found: Vec<_> = {
                let kept = self.0.lock().unwrap();
                let wanted = kept.iter().filter(is_wanted);
                wanted.map(|(_, fields)| fields.clone()).collect()
            };
            if let Ok(found) = found.try_into() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("there are not {N} of {name:?}");
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Kept {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        record.record(span.extensions_mut().get_mut::<Fields>().unwrap());
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let span = context.event_span(event).map_or("", |span| span.name());
        fields.0.insert("in", span.to_owned());
        self.0.lock().unwrap().push(("event", fields));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        let fields = span.extensions().get::<Fields>().unwrap().clone();
        self.0.lock().unwrap().push((span.name(), fields));
    }
}

#[tokio::test]
async fn spans_tell_the_end_and_hold_together_what_happens_on_the_background_thread() {
    let kept = Kept::default();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(kept.clone()))
        .expect("the first");
    let backend = EmbeddedBackend::open("embedded:memory").await.unwrap();
    let locks = Locks::new(backend, Options::default()).unwrap();
    let lock = locks.mutex("a").unwrap();
    let guard = lock.acquire().await.unwrap();

    // This task waits for itself, which it is warned of on the background thread.
    let twice = AcquireOptions::new().timeout(Duration::from_secs(5));
    assert!(lock.acquire_with(twice).await.unwrap().is_none());
    let [first, second] = kept.wait_for("turnlock.acquire", "a").await;
    assert_eq!(first.get("turnlock.acquire.outcome"), "granted");
    assert_eq!(first.get("turnlock.backend"), "embedded");
    assert_eq!(first.get("turnlock.acquire.patience"), "forever");
    assert_eq!(first.get("turnlock.acquire.contended"), "");
    assert_eq!(first.get("turnlock.lock.token"), guard.token().to_string());
    let session = locks.session_id().expect("one is open").to_string();
    assert_eq!(first.get("turnlock.session.id"), session);
    assert_eq!(second.get("turnlock.acquire.outcome"), "timeout");
    assert_eq!(second.get("turnlock.acquire.patience"), "timed");
    assert_eq!(second.get("turnlock.acquire.contended"), "true");
    assert_eq!(second.get("turnlock.lock.token"), "");
    let [warning] = kept.wait_for("event", "a").await;
    assert!(warning.get("message").contains("holds itself"));
    assert_eq!(warning.get("in"), "turnlock.acquire");

    let token = guard.token().to_string();
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    let [release] = kept.wait_for("turnlock.release", "a").await;
    assert_eq!(release.get("turnlock.lock.token"), token);
    assert_eq!(release.get("turnlock.release.outcome"), "released");
}

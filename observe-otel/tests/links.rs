//! Two traces and one lock: the waiter's span links to the holder's. The program is one of its own,
//! since only a global subscriber hears of the thread that waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backend_embedded::machine::op::Put;
use backend_embedded::{Config, Coordinator, EmbeddedBackend};
use lock_core::observe::{Event, Observer, TraceContext};
use lock_core::{AcquireOptions, LockName, Locks, Metadata, Options, Release};
use observe_otel::{OtelObserver, to_span_context, to_trace_context};
use opentelemetry::trace::{SpanId, Status, TraceContextExt, TracerProvider};
use opentelemetry::{Context, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
use tokio::sync::Notify;
use tracing::{Instrument, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;

/// Keeps the spans that have ended.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.spans().extend(batch);
        Ok(())
    }
}

impl Kept {
    fn spans(&self) -> MutexGuard<'_, Vec<SpanData>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a span of this name of a lock, and takes it out.
    async fn take(&self, name: &str, lock: &str) -> SpanData {
        for _ in 0..60_000 {
            {
                let mut spans = self.spans();
                let is_it = |span: &SpanData| {
                    span.name == name && attribute(span, "turnlock.lock.name") == lock
                };
                if let Some(found) = spans.iter().position(is_it) {
                    return spans.remove(found);
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("no {name} of {lock} in {:?}", self.spans());
    }
}

fn attribute(span: &SpanData, key: &str) -> String {
    let found = span.attributes.iter().find(|kv| kv.key.as_str() == key);
    found.map_or(String::new(), |kv| kv.value.to_string())
}

fn observed(provider: &SdkTracerProvider) -> Options {
    Options::default().with_observer(Arc::new(OtelObserver::new(provider)))
}

/// Passes all events on, and wakes the test at the event `Blocked`.
#[derive(Debug)]
struct Notifying {
    observer: Arc<dyn Observer>,
    blocked: Arc<Notify>,
}

impl Observer for Notifying {
    fn observe(&self, event: &Event<'_>) {
        self.observer.observe(event);
        if matches!(event, Event::Blocked { .. }) {
            self.blocked.notify_one();
        }
    }

    fn trace_context(&self) -> Option<TraceContext> {
        self.observer.trace_context()
    }
}

/// Returns a client of a new coordinator.
async fn client(provider: &SdkTracerProvider) -> Locks {
    let backend = EmbeddedBackend::open("embedded:memory").await.unwrap();
    Locks::new(backend, observed(provider)).unwrap()
}

/// One test for all: there is one global subscriber in a process.
#[tokio::test]
async fn locks_are_in_their_traces() {
    let kept = Kept::default();
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .with_simple_exporter(kept.clone())
        .build();
    let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry().with(spans);
    tracing::subscriber::set_global_default(subscriber).expect("the first");

    a_waiter_links_to_the_holder(&kept, &provider).await;
    a_lost_hold_is_an_error(&kept, &provider).await;
    what_strangers_write_makes_no_parent_and_does_no_harm(&kept, &provider).await;
    a_trace_that_is_not_sampled_stays_so(&kept, &provider).await;
}

async fn a_waiter_links_to_the_holder(kept: &Kept, provider: &SdkTracerProvider) {
    let backend = EmbeddedBackend::open("embedded:memory").await.unwrap();
    let holder = Locks::new(backend.clone(), observed(provider)).unwrap();
    let blocked = Arc::new(Notify::new());
    let notifying = Options::default().with_observer(Arc::new(Notifying {
        observer: Arc::new(OtelObserver::new(provider)),
        blocked: Arc::clone(&blocked),
    }));
    let waiter = Locks::new(backend, notifying).unwrap();
    let mutex = holder.mutex("a").unwrap();
    let guard = mutex.acquire().instrument(info_span!("first job")).await;
    let guard = guard.unwrap();
    let first = kept.take("turnlock.acquire", "a").await;
    let queue = holder.queue(guard.name()).await.unwrap();
    let stored = queue.entries[0].metadata.as_ref().unwrap().traceparent;
    assert_eq!(stored, to_trace_context(&first.span_context));

    let mutex = waiter.mutex("a").unwrap();
    let waiting = async move { mutex.acquire().await }.instrument(info_span!("second job"));
    let waiting = tokio::spawn(waiting);
    let begun = Instant::now();
    // The link is made after 50 ms of waiting.
    let linked = tokio::time::timeout(Duration::from_secs(60), blocked.notified()).await;
    linked.expect("the waiter is told of the holder");
    let waited = begun.elapsed();
    assert_eq!(guard.release().await.unwrap(), Release::Released);
    drop(waiting.await.unwrap().unwrap());
    let second = kept.take("turnlock.acquire", "a").await;
    let [of_first, of_second] = [&first, &second].map(|span| &span.span_context);
    assert_ne!(of_second.trace_id(), of_first.trace_id());
    assert_ne!(second.parent_span_id, SpanId::INVALID, "within its own job");
    let [link] = &second.links[..] else {
        panic!("one link is expected: {:?}", second.links)
    };
    assert_eq!(
        to_trace_context(&link.span_context),
        to_trace_context(of_first)
    );
    let [kind] = &link.attributes[..] else {
        panic!("one attribute is expected: {link:?}")
    };
    assert_eq!(
        (kind.key.as_str(), &kind.value),
        ("turnlock.link", &Value::from("blocker"))
    );

    let hold = kept.take("turnlock.hold", "a").await;
    assert_eq!(hold.parent_span_id, of_first.span_id());
    assert_eq!(attribute(&hold, "turnlock.hold.end"), "released");
    let lasted = hold.end_time.duration_since(hold.start_time).unwrap();
    assert!(lasted >= waited, "{lasted:?}");
    let hold = kept.take("turnlock.hold", "a").await;
    assert_eq!(hold.parent_span_id, of_second.span_id());
    assert_eq!(attribute(&hold, "turnlock.hold.end"), "dropped");
}

async fn a_lost_hold_is_an_error(kept: &Kept, provider: &SdkTracerProvider) {
    let locks = client(provider).await;
    let guard = locks.mutex("lost").unwrap().acquire().await.unwrap();
    locks.close().await.unwrap();
    let hold = kept.take("turnlock.hold", "lost").await;
    assert_eq!(attribute(&hold, "turnlock.hold.end"), "lost");
    assert!(matches!(hold.status, Status::Error { .. }), "{hold:?}");
    drop(guard);
}

/// A contender may write whatever it likes into its entry.
async fn what_strangers_write_makes_no_parent_and_does_no_harm(
    kept: &Kept,
    provider: &SdkTracerProvider,
) {
    let named = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let named: TraceContext = named.parse().unwrap();
    let by = Metadata::default().with_traceparent(named);
    let huge = by.clone().with_owner("\u{1b}]0;x\u{7}".repeat(1 << 16));
    let strangers = [
        (br#"{"traceparent":"00-0-0-01"}"#.to_vec(), false),
        (br#"{"traceparent":["x"],"owner":"ann"}"#.to_vec(), false),
        (b"\xff\x00 no JSON".to_vec(), false),
        (huge.to_bytes(), false),
        (by.to_bytes(), true),
    ];
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::open(Config::new(dir.path().join("locks"))).unwrap();
    let backend = EmbeddedBackend::new(coordinator.clone());
    let locks = Locks::new(backend, observed(provider)).unwrap();
    for (number, (value, is_linked)) in strangers.into_iter().enumerate() {
        let name = LockName::raw(format!("stranger-{number}")).unwrap();
        let put = Put {
            key: format!("{name}/write/1").into(),
            value: Some(value.into()),
            lease: Some(0),
            prev_kv: false,
        };
        coordinator.put(put).await.expect("the store has room");
        let wait = AcquireOptions::new().timeout(Duration::from_secs(1));
        let waited = locks.mutex(name.clone()).unwrap().acquire_with(wait).await;
        assert!(waited.unwrap().is_none());
        let span = kept.take("turnlock.acquire", name.as_str()).await;
        assert_eq!(span.parent_span_id, SpanId::INVALID);
        let links: Vec<_> = span.links.iter().map(|link| &link.span_context).collect();
        let linked = links.iter().map(|link| to_trace_context(link));
        let expected = is_linked.then_some(Some(named));
        assert_eq!(linked.collect::<Vec<_>>(), Vec::from_iter(expected));
        assert_ne!(
            to_trace_context(&span.span_context).unwrap().trace_id(),
            named.trace_id()
        );
    }
    locks.close().await.unwrap();
    coordinator.close().unwrap();
}

async fn a_trace_that_is_not_sampled_stays_so(kept: &Kept, provider: &SdkTracerProvider) {
    let locks = client(provider).await;
    let job = info_span!("job");
    let parent = to_span_context(&TraceContext::new(1, 2, false).unwrap());
    job.set_parent(Context::new().with_remote_span_context(parent))
        .expect("it has not begun");
    let mutex = locks.mutex("silent").unwrap();
    let guard = mutex.acquire().instrument(job.clone()).await.unwrap();
    let queue = locks.queue(guard.name()).await.unwrap();
    let stored = queue.entries[0].metadata.as_ref().unwrap().traceparent;
    assert_eq!(stored, None);
    let _ = guard.release().instrument(job).await.unwrap();
    let spans = kept.spans();
    let of_it = |span: &&SpanData| attribute(span, "turnlock.lock.name") == "silent";
    assert_eq!(spans.iter().find(of_it).map(|span| &span.name), None);
}

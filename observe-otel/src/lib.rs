//! Turnlock's locks in OpenTelemetry.
//!
//! The core makes spans of the crate `tracing`, such as `turnlock.acquire`, which
//! `tracing-opentelemetry` exports. An [`OtelObserver`] adds what these cannot have:
//!
//! - The position of an acquire in its trace is stored with its entry, if the trace is sampled.
//! - An acquire that has stood behind another contender for 50 ms gets a link to that contender's
//!   `turnlock.acquire`, with the attribute `turnlock.link` of the value `blocker`. It leads from
//!   the waiter's trace to the holder's. Others can write into a queue whatever they like, so what
//!   was read there becomes a link and never a parent: nobody gets into a trace by it, and nobody
//!   has one recorded.
//! - A hold becomes a span `turnlock.hold`, a child of its acquire, when it ends.
//!
//! ```
//! use std::sync::Arc;
//!
//! use lock_core::{Locks, Options};
//! use observe_otel::OtelObserver;
//! use opentelemetry::trace::TracerProvider;
//! use opentelemetry_sdk::trace::SdkTracerProvider;
//! use tracing_subscriber::layer::SubscriberExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // With an exporter, in production: .with_batch_exporter(exporter)
//! let provider = SdkTracerProvider::builder().build();
//! let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("my-program"));
//! tracing::subscriber::set_global_default(tracing_subscriber::registry().with(spans))?;
//!
//! let backend = backend_embedded::EmbeddedBackend::open("embedded:memory").await?;
//! let options = Options::default().with_observer(Arc::new(OtelObserver::new(&provider)));
//! let locks = Locks::new(backend, options)?;
//! let guard = locks.mutex("nightly")?.acquire().await?;
//! let queue = locks.queue(guard.name()).await?;
//! assert!(queue.entries[0].metadata.as_ref().expect("ours").traceparent.is_some());
//! # Ok(())
//! # }
//! ```

mod convert;
mod holds;

use std::fmt::{self, Debug};
use std::time::SystemTime;

use lock_core::Metadata;
use lock_core::observe::{Event, HoldEnd, Observer, TraceContext};
use opentelemetry::trace::{
    Span, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use tracing_opentelemetry::OpenTelemetrySpanExt;

pub use self::convert::{to_span_context, to_trace_context};
use self::holds::Holds;

/// Puts locks into traces; see the [crate's page](crate).
///
/// The spans of `tracing` have to be exported by a `tracing_opentelemetry` layer: without it, or if
/// its filter leaves out the target `lock_core` at the level `info`, there is nothing to link to.
///
/// It never blocks, as long as the span processor of its provider does not: a batch processor does
/// not, a simple one sends each span where it ends. It notes at most [`MAX_HOLDS`] holds at a time.
pub struct OtelObserver<T> {
    tracer: T,
    holds: Holds,
}

pub use self::holds::MAX_HOLDS;

impl<T: Tracer> OtelObserver<T> {
    /// Returns an observer whose spans go to this provider: the one that the layer has, too.
    pub fn new(provider: &impl TracerProvider<Tracer = T>) -> Self {
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        OtelObserver {
            tracer: provider.tracer_with_scope(scope),
            holds: Holds::default(),
        }
    }

    /// Makes the span of a hold that has just ended.
    fn export_hold(&self, acquire: SpanContext, event: &Event<'_>) {
        let Event::HoldEnded {
            lock,
            mode,
            token,
            held,
            end,
        } = event
        else {
            return;
        };
        let now = SystemTime::now();
        let span = SpanBuilder::from_name("turnlock.hold")
            .with_kind(SpanKind::Internal)
            .with_start_time(now.checked_sub(*held).unwrap_or(now))
            .with_attributes([
                KeyValue::new("turnlock.lock.name", lock.to_string()),
                KeyValue::new("turnlock.lock.mode", mode.to_string()),
                KeyValue::new("turnlock.lock.token", token.to_string()),
                KeyValue::new("turnlock.hold.end", end.name()),
            ]);
        let parent = Context::new().with_remote_span_context(acquire);
        let mut span = self.tracer.build_with_context(span, &parent);
        if end.is_loss() {
            let why = match end {
                HoldEnd::Lost(reason) => reason.to_string(),
                end => end.name().to_owned(),
            };
            span.set_attribute(KeyValue::new("error.type", end.name()));
            span.set_status(Status::error(why));
        }
        span.end_with_timestamp(now);
    }
}

impl<T> Observer for OtelObserver<T>
where
    T: Tracer + Send + Sync,
{
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Blocked { by: Some(by), .. } => link_to(by),
            Event::Acquired { lock, token, .. } => {
                let acquire = current_span();
                if acquire.is_sampled() {
                    self.holds.begin(lock, *token, acquire);
                }
            }
            Event::HoldEnded { lock, token, .. } => {
                if let Some(acquire) = self.holds.end(lock, *token) {
                    self.export_hold(acquire, event);
                }
            }
            _ => {}
        }
    }

    fn trace_context(&self) -> Option<TraceContext> {
        to_trace_context(&current_span()).filter(TraceContext::is_sampled)
    }
}

impl<T> Debug for OtelObserver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtelObserver").finish_non_exhaustive()
    }
}

/// Returns the context of the span of `tracing` that the caller is in.
fn current_span() -> SpanContext {
    let context = tracing::Span::current().context();
    context.span().span_context().clone()
}

/// Links the waiter's span, which the caller is in, to the one that a contender named.
fn link_to(blocker: &Metadata) {
    if let Some(trace) = &blocker.traceparent {
        let attributes = vec![KeyValue::new("turnlock.link", "blocker")];
        tracing::Span::current().add_link_with_attributes(to_span_context(trace), attributes);
    }
}

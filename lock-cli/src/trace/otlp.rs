//! Spans for an OpenTelemetry collector, if the environment names one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use observe_otel::{OtelObserver, to_span_context, to_trace_context};
use opentelemetry::trace::{SpanContext, TraceContextExt, TraceState, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanProcessor};
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;
use turnlock::observe::{Observer, TraceContext};

use super::relay::Relay;
use crate::log;

/// The time that a run waits at its end until the collector has its spans.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// The variables that name a collector, each of which asks for spans.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];
/// The variables that name the protocol, the first of which decides.
const PROTOCOLS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
];

/// Sends the spans of this run to a collector.
pub struct Exporter {
    provider: SdkTracerProvider,
    relay: Relay,
}

/// Starts the exporter, if the environment asks for one.
///
/// # Errors
/// The environment asks for what there is not.
pub fn start() -> Result<Option<Exporter>, String> {
    if !is_asked_for() {
        return Ok(None);
    }
    if let Some((name, protocol)) = PROTOCOLS.iter().find_map(|name| Some((name, set(name)?)))
        && protocol != "grpc"
    {
        return Err(format!(
            "{name}={protocol}: this build sends traces by grpc alone, so it sends none"
        ));
    }
    let resource = resource();
    let relay = Relay::start(resource.clone())?;
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_span_processor(relay.clone())
        .build();
    Ok(Some(Exporter { provider, relay }))
}

/// Returns whether a variable names a collector, and none turns traces off.
fn is_asked_for() -> bool {
    let is_disabled = set("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"));
    let has_exporter = set("OTEL_TRACES_EXPORTER").is_none_or(|list| {
        let mut exporters = list.split(',').map(str::trim);
        exporters.any(|exporter| exporter == "otlp")
    });
    !is_disabled && has_exporter && ENDPOINTS.iter().any(|name| set(name).is_some())
}

/// Returns the value of a variable. An empty one counts as none.
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns what the spans say of this program, as far as the environment does not say it.
fn resource() -> Resource {
    let attributes = set("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let is_named = set("OTEL_SERVICE_NAME").is_some() || attributes.contains("service.name=");
    let resource = Resource::builder();
    let resource = match is_named {
        true => resource,
        false => resource.with_service_name("turnlock"),
    };
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    resource.with_attribute(version).build()
}

impl Exporter {
    /// Returns the layer of a subscriber that makes spans of those of `tracing`.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("turnlock"))
            // Places in the source and threads say nothing to users of a command.
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_level(false)
            .with_filter(log::targets(LevelFilter::INFO))
    }

    /// Returns the observer that puts the locks of this run into its trace.
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::new(OtelObserver::new(&self.provider))
    }

    /// Ends the span of the run, and hands over all spans, for [`LAST_WAIT`] at most.
    ///
    /// # Errors
    /// The collector has not taken them.
    pub fn finish(self, span: &Span) -> Result<(), String> {
        // Work that goes on in the background may still refer to it.
        span.context().span().end();
        let finished = self.relay.shutdown_with_timeout(LAST_WAIT);
        finished.map_err(|error| error.to_string())
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter")
    }
}

/// Returns the parent of the span of a run that was started in this position of a trace.
pub fn parent(incoming: &TraceContext, vendors: &str) -> Context {
    let parent = to_span_context(incoming);
    let parent = SpanContext::new(
        parent.trace_id(),
        parent.span_id(),
        parent.trace_flags(),
        true,
        TraceState::from_str(vendors).unwrap_or_default(),
    );
    Context::new().with_remote_span_context(parent)
}

/// Returns the position of a span in its trace.
pub fn position(span: &Span) -> Option<TraceContext> {
    let context = span.context();
    to_trace_context(context.span().span_context())
}

//! The two forms of a position in a trace.

use lock_core::observe::TraceContext;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// Returns a position in a trace as OpenTelemetry has it, as one of another process.
///
/// ```
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context = observe_otel::to_span_context(&text.parse().unwrap());
/// assert!(context.is_valid() && context.is_sampled() && context.is_remote());
/// assert_eq!(observe_otel::to_trace_context(&context).unwrap().to_string(), text);
/// ```
pub fn to_span_context(trace: &TraceContext) -> SpanContext {
    let flags = match trace.is_sampled() {
        true => TraceFlags::SAMPLED,
        false => TraceFlags::default(),
    };
    // They have the digits of numbers of this size.
    let trace_id = TraceId::from_hex(&trace.trace_id()).unwrap_or(TraceId::INVALID);
    let span_id = SpanId::from_hex(&trace.span_id()).unwrap_or(SpanId::INVALID);
    SpanContext::new(trace_id, span_id, flags, true, TraceState::default())
}

/// Returns a position in a trace as an entry carries it; `None` if it is in no trace.
pub fn to_trace_context(span: &SpanContext) -> Option<TraceContext> {
    let trace_id = u128::from_be_bytes(span.trace_id().to_bytes());
    let span_id = u64::from_be_bytes(span.span_id().to_bytes());
    TraceContext::new(trace_id, span_id, span.is_sampled())
}

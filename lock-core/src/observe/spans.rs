//! The spans of `tracing`, whose names and fields docs/observability.md lists.

use tracing::field::Empty;
use tracing::{Span, debug_span, info_span};

use crate::entry::Mode;
use crate::error::Error;
use crate::name::LockName;
use crate::token::Token;
use crate::wait_limit::WaitLimit;

/// Returns the span of an acquire.
pub(crate) fn of_acquire(
    name: &LockName,
    mode: Mode,
    limit: WaitLimit,
    backend: &'static str,
) -> Span {
    let patience = match limit {
        WaitLimit::Try(_) => "try",
        WaitLimit::Until(_) => "timed",
        WaitLimit::Forever => "forever",
    };
    info_span!(
        "turnlock.acquire",
        otel.kind = "client",
        turnlock.lock.name = %name,
        turnlock.lock.mode = %mode,
        turnlock.backend = backend,
        turnlock.acquire.patience = patience,
        turnlock.acquire.outcome = Empty,
        turnlock.acquire.contended = Empty,
        turnlock.lock.token = Empty,
        turnlock.session.id = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// Returns the span of a release.
pub(crate) fn of_release(name: &LockName, token: Token) -> Span {
    info_span!(
        "turnlock.release",
        otel.kind = "client",
        turnlock.lock.name = %name,
        turnlock.lock.token = %token,
        turnlock.release.outcome = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// Returns the span of the opening of a session.
pub(crate) fn of_session_opening(backend: &'static str) -> Span {
    debug_span!(
        "turnlock.session.open",
        otel.kind = "client",
        turnlock.backend = backend,
        turnlock.session.id = Empty,
        turnlock.session.ttl_ms = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// Records in a span that its operation failed.
pub(crate) fn record_error(span: &Span, error: &Error) {
    span.record("error.type", error.kind().name());
    span.record("otel.status_code", "ERROR");
}

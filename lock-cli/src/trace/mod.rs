//! The trace that a run of the command belongs to: the one that `TRACEPARENT` names, and the spans
//! of the run, if a collector is to have them.

#[cfg(feature = "otel")]
mod otlp;
#[cfg(feature = "otel")]
mod relay;

use std::ffi::OsString;
use std::sync::{Arc, OnceLock};

use tracing::Span;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, registry};
use turnlock::observe::{Event, Observer, TraceContext};

use crate::cli::{Command, Fence};
use crate::log;

/// The variable of [W3C Trace Context] by which a program passes its position in a trace to those
/// that it starts.
///
/// [W3C Trace Context]: https://opentelemetry.io/docs/specs/otel/context/env-carriers/
const TRACEPARENT: &str = "TRACEPARENT";
/// The variable with what vendors add to that.
#[cfg(feature = "otel")]
const TRACESTATE: &str = "TRACESTATE";

/// What a run knows of its trace.
#[derive(Debug, Default)]
struct Position {
    /// Where the run is in its trace: its own span, or else what `TRACEPARENT` names.
    current: Option<TraceContext>,
    /// What the program under the lock gets, over what it inherits.
    environment: Vec<(OsString, OsString)>,
    observer: Option<Arc<dyn Observer>>,
}

static POSITION: OnceLock<Position> = OnceLock::new();

/// The trace of this run, until its end.
#[derive(Debug)]
pub struct Trace {
    span: Span,
    #[cfg(feature = "otel")]
    exporter: Option<otlp::Exporter>,
    /// Why there is no exporter although one was asked for.
    problem: Option<String>,
}

impl Trace {
    /// Begins the trace of this run, and has the libraries speak to these lines of the log, if there
    /// are any. To be called once.
    pub fn begin(command: &Command, lines: Option<impl Layer<Registry> + Send + Sync>) -> Self {
        let name = name_of(command);
        let incoming = name.and_then(|_| parent_from_environment());
        #[cfg(feature = "otel")]
        if let Some(name) = name {
            match otlp::start() {
                Ok(Some(exporter)) => return begin_spans(name, incoming, exporter, lines),
                Ok(None) => {}
                Err(problem) => return Trace::without_spans(incoming, lines, Some(problem)),
            }
        }
        Trace::without_spans(incoming, lines, None)
    }

    fn without_spans(
        incoming: Option<TraceContext>,
        lines: Option<impl Layer<Registry> + Send + Sync>,
        problem: Option<String>,
    ) -> Self {
        if let Some(lines) = lines {
            // There is none before.
            let _ = tracing::subscriber::set_global_default(registry().with(lines));
        }
        // The program under the lock inherits the variables as they are.
        let _ = POSITION.set(Position {
            current: incoming,
            environment: Vec::new(),
            observer: incoming.map(|context| Arc::new(Carrier(context)) as Arc<dyn Observer>),
        });
        Trace {
            span: Span::none(),
            #[cfg(feature = "otel")]
            exporter: None,
            problem,
        }
    }

    /// Returns the span of the run, for its work to happen in.
    pub fn span(&self) -> Span {
        self.span.clone()
    }

    /// Returns why there are no spans although they were asked for, if that is so.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Ends the trace with the exit status of the run, and hands its spans over, for a second at
    /// most. Returns what went wrong.
    pub fn end(self, status: u8) -> Result<(), String> {
        self.span.record("process.exit.code", status);
        #[cfg(feature = "otel")]
        if let Some(exporter) = self.exporter {
            return exporter.finish(&self.span);
        }
        Ok(())
    }
}

/// Returns the name of the span of a command that uses locks; `None` for the others.
fn name_of(command: &Command) -> Option<&'static str> {
    Some(match command {
        Command::Run(_) => "turnlock run",
        Command::Hold(_) => "turnlock hold",
        Command::Write(_) => "turnlock write",
        Command::Append(_) => "turnlock append",
        Command::Edit(_) => "turnlock edit",
        Command::Fence(Fence::Check(_)) => "turnlock fence check",
        Command::Ls(_) => "turnlock ls",
        Command::Queue(_) => "turnlock queue",
        Command::Why(_) => "turnlock why",
        Command::Evict(_) => "turnlock evict",
        Command::TokenOffset(_) => "turnlock token-offset",
        _ => return None,
    })
}

/// Sends the spans of the run to this exporter.
#[cfg(feature = "otel")]
fn begin_spans(
    name: &str,
    incoming: Option<TraceContext>,
    exporter: otlp::Exporter,
    lines: Option<impl Layer<Registry> + Send + Sync>,
) -> Trace {
    use tracing::field::Empty;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    let spans = exporter.layer();
    // There is none before.
    let _ = tracing::subscriber::set_global_default(registry().with(lines).with(spans));
    let span = tracing::info_span!(
        "turnlock",
        otel.name = name,
        otel.kind = "internal",
        process.executable.name = "turnlock",
        process.pid = std::process::id(),
        process.exit.code = Empty,
    );
    let vendors = std::env::var(TRACESTATE).unwrap_or_default();
    if let Some(parent) = incoming {
        // It has not begun, and the layer is there.
        let _ = span.set_parent(otlp::parent(&parent, &vendors));
    }
    let current = otlp::position(&span);
    let mut environment = Vec::new();
    if let Some(current) = current {
        environment.push((TRACEPARENT.into(), current.to_string().into()));
        // What vendors added to another trace is of no use in this one.
        if incoming.is_none() && !vendors.is_empty() {
            environment.push((TRACESTATE.into(), OsString::new()));
        }
    }
    let _ = POSITION.set(Position {
        current,
        environment,
        observer: Some(exporter.observer()),
    });
    Trace {
        span,
        exporter: Some(exporter),
        problem: None,
    }
}

/// Returns the position in a trace that this process was started with. What breaks the rules counts
/// as none.
fn parent_from_environment() -> Option<TraceContext> {
    std::env::var(TRACEPARENT).ok()?.parse().ok()
}

/// Returns where this run is in its trace, if it is in one.
pub fn current() -> Option<TraceContext> {
    POSITION.get()?.current
}

/// Returns the variables that put the program under the lock into the trace of this run.
pub fn environment() -> Vec<(OsString, OsString)> {
    let position = POSITION.get();
    position.map_or_else(Vec::new, |position| position.environment.clone())
}

/// Returns what is to be told of the locks of this run, for its log and for its trace.
pub fn observer() -> Option<Arc<dyn Observer>> {
    let of_trace = POSITION
        .get()
        .and_then(|position| position.observer.clone());
    match (log::observer(), of_trace) {
        (Some(of_log), Some(of_trace)) => Some(Arc::new(Both(of_log, of_trace))),
        (one, other) => one.or(other),
    }
}

/// Has the position that this process was started with stored with its entries.
#[derive(Debug)]
struct Carrier(TraceContext);

impl Observer for Carrier {
    fn observe(&self, _: &Event<'_>) {}

    fn trace_context(&self) -> Option<TraceContext> {
        Some(self.0)
    }
}

#[derive(Debug)]
struct Both(Arc<dyn Observer>, Arc<dyn Observer>);

impl Observer for Both {
    fn observe(&self, event: &Event<'_>) {
        self.0.observe(event);
        self.1.observe(event);
    }

    fn trace_context(&self) -> Option<TraceContext> {
        self.0.trace_context().or_else(|| self.1.trace_context())
    }
}

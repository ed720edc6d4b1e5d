//! What the command says on stderr of itself, line by line: as text for people or as JSON, and from
//! which level on.
//!
//! Without any of its options nothing is set up, and the command says what it says to people alone.

mod events;
mod fields;
mod layer;
mod timestamp;

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use clap::ValueEnum;
use serde::Serialize;
use turnlock::observe::{Observer, TraceContext};

pub use self::fields::Line;
pub use self::layer::layer;
#[cfg(feature = "otel")]
pub use self::layer::targets;
pub use self::timestamp::format_utc;
use crate::child::without_tty_stop;
use crate::cli::Global;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One object a line
    Json,
    /// An empty variable, which is as good as none.
    #[value(name = "", hide = true)]
    Unset,
}

/// How much a line matters, and from which level on events are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing of what happens
    Off,
    /// What failed
    Error,
    /// Losses, and what may become one
    Warn,
    /// Grants, releases and waits
    Info,
    /// Sessions, renewals and retries
    Debug,
    /// All there is
    Trace,
    /// An empty variable, which is as good as none.
    #[value(name = "", hide = true)]
    #[serde(skip)]
    Unset,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Off => "off",
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
            Level::Unset => "",
        })
    }
}

/// What is the same in all lines of this run.
#[derive(Debug)]
struct Run {
    is_json: bool,
    level: Level,
    correlation_id: String,
    tenant_id: Option<String>,
    trace_id: Option<String>,
    span_id: Option<String>,
}

static RUN: OnceLock<Run> = OnceLock::new();

/// Returns what is the same in all lines. A process that has set nothing up, as a test, says
/// nothing of events.
fn run() -> &'static Run {
    RUN.get_or_init(|| Run {
        is_json: false,
        level: Level::Off,
        correlation_id: random_id(),
        tenant_id: None,
        trace_id: None,
        span_id: None,
    })
}

/// Returns from which level on events are to be said.
pub fn level_of(global: &Global) -> Level {
    match (global.log_level, global.log_format) {
        (None | Some(Level::Unset), Some(Format::Json)) => Level::Info,
        (None | Some(Level::Unset), _) => Level::Off,
        (Some(level), _) => level,
    }
}

/// Sets up what lines are, once, before the first of them. `trace` is where the run is in its trace,
/// if it is in one.
pub fn set_up(global: &Global, trace: Option<TraceContext>) {
    let trace_id = trace.map(|trace| trace.trace_id());
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let correlation_id = given(&global.correlation_id).or_else(|| trace_id.clone());
    // The first one stays.
    let _ = RUN.set(Run {
        is_json: global.log_format == Some(Format::Json),
        level: level_of(global),
        correlation_id: correlation_id.unwrap_or_else(random_id),
        tenant_id: given(&global.tenant).or_else(|| namespace_of(global.backend.as_deref()?)),
        trace_id,
        span_id: trace.map(|trace| trace.span_id()),
    });
}

/// Returns the namespace that a URL names: those of one coordinator are often tenants.
fn namespace_of(url: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    let mut parameters = query.split('&');
    let namespace = parameters.find_map(|parameter| parameter.strip_prefix("namespace="));
    namespace.map(str::to_owned)
}

fn random_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// Returns whether each line is a JSON object.
pub fn is_json() -> bool {
    run().is_json
}

/// Returns from which level on events are said.
pub fn level() -> Level {
    run().level
}

/// Returns the observer that says what happens to locks, if that was asked for.
pub fn observer() -> Option<Arc<dyn Observer>> {
    match level() {
        Level::Off => None,
        _ => Some(Arc::new(events::EventLog)),
    }
}

/// Writes a line, whatever its level is.
pub fn write(line: &Line<'_>) {
    let text = match is_json() {
        true => line.to_json(),
        false => line.to_text(),
    };
    write_line(&text);
}

/// Writes a text without control characters as a line to stderr.
pub fn write_line(text: &str) {
    // If stderr is closed or its disk is full, nobody can be informed. One write, so that lines of
    // several threads and processes do not mix.
    let _ = without_tty_stop(|| io::stderr().write_all(format!("{text}\n").as_bytes()));
}

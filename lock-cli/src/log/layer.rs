//! What the crates of Turnlock say through `tracing`, as log lines.

use std::fmt::{Debug, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::{Level, Line, write};

/// The crates that are listened to. Those below them, of gRPC and of TLS, say much that is of no use
/// to users of locks, and could quote secrets.
const CRATES: [&str; 11] = [
    "backend_embedded",
    "backend_etcd",
    "backend_kit",
    "backend_zk",
    "conformance",
    "load",
    "lock_cli",
    "lock_core",
    "lock_fence",
    "observe_otel",
    "turnlock",
];

/// Returns the layer of a subscriber that writes the lines from this level on. `None` if that is
/// off.
pub fn layer<S>(level: Level) -> Option<impl Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = match level {
        Level::Off | Level::Unset => return None,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    Some(Lines.with_filter(targets(filter)))
}

/// Returns the filter that lets the crates of Turnlock through, from this level on.
pub fn targets(filter: LevelFilter) -> Targets {
    Targets::new().with_targets(CRATES.map(|name| (name, filter)))
}

struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => Level::Trace,
        };
        let mut text = Text::default();
        event.record(&mut text);
        let mut line = Line::new(level, metadata.target(), text.message + &text.rest);
        line.lock = text.lock.map(Into::into);
        write(&line);
    }
}

/// The message of an event with the fields that no line has, and the lock.
#[derive(Default)]
struct Text {
    message: String,
    rest: String,
    lock: Option<String>,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "lock" => self.lock = Some(format!("{value:?}")),
            name => {
                let _ = write!(self.rest, " {name}={value:?}");
            }
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "lock" => self.lock = Some(value.to_owned()),
            name => {
                let _ = write!(self.rest, " {name}={value}");
            }
        }
    }
}

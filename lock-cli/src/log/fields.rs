//! The fields of a log line, and of a line of any command that prints what happens: one table for
//! all of them.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use turnlock::{Entry, ErrorKind, LockName, Mode, SessionId, Token};

use super::timestamp::format_utc;
use super::{Level, run};
use crate::output::{escape_controls, escape_json};

/// One line. What does not apply to it is left out. docs/command.md describes each field.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line<'a> {
    /// RFC 3339, in UTC, with milliseconds.
    pub timestamp: String,
    pub level: Level,
    /// The part of the program that speaks, as a path of modules.
    pub target: Cow<'a, str>,
    pub message: Cow<'a, str>,
    /// What happened, in snake case. A message to people has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<&'a str>,
    /// Joins the lines of one run of the command with those of others.
    pub correlation_id: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<Cow<'a, str>>,
    /// How long it took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// A string, since many readers of JSON keep no more than 53 bits of a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<&'static str>,
    /// 32 hexadecimal digits.
    #[serde(rename = "trace_id", skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Cow<'a, str>>,
    /// 16 hexadecimal digits.
    #[serde(rename = "span_id", skip_serializing_if = "Option::is_none")]
    pub span_id: Option<Cow<'a, str>>,
    /// The contender whom the line is about, if that is not this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Cow<'a, str>>,
}

impl<'a> Line<'a> {
    /// Returns a line of this moment, with the fields that all lines of this run have.
    pub fn new(level: Level, target: &'a str, message: impl Into<Cow<'a, str>>) -> Self {
        let run = run();
        Line {
            timestamp: format_utc(SystemTime::now()),
            level,
            target: target.into(),
            message: message.into(),
            event: None,
            correlation_id: run.correlation_id.as_str().into(),
            tenant_id: run.tenant_id.as_deref().map(Cow::Borrowed),
            latency_ms: None,
            lock: None,
            mode: None,
            token: None,
            session: None,
            error_kind: None,
            trace_id: run.trace_id.as_deref().map(Cow::Borrowed),
            span_id: run.span_id.as_deref().map(Cow::Borrowed),
            owner: None,
            host: None,
            pid: None,
            command: None,
        }
    }

    /// Sets whom the line is about: the contender of this entry, as far as the entry tells.
    #[must_use]
    pub fn entry(mut self, entry: &'a Entry) -> Self {
        let metadata = entry.metadata.as_ref();
        let text = |text: Option<&'a str>| text.filter(|text| !text.is_empty()).map(Cow::Borrowed);
        self.mode = Some(entry.mode);
        self.token = Some(entry.token.to_string());
        self.session = entry.session.map(|session| session.to_string());
        let trace = metadata.and_then(|metadata| metadata.traceparent);
        self.trace_id = trace.map(|trace| trace.trace_id().into());
        self.span_id = trace.map(|trace| trace.span_id().into());
        self.owner = text(metadata.map(|metadata| metadata.owner.as_str()));
        self.host = text(metadata.map(|metadata| metadata.host.as_str()));
        self.pid = metadata
            .map(|metadata| metadata.pid)
            .filter(|pid| *pid != 0);
        self.command = text(metadata.and_then(|metadata| metadata.command.as_deref()));
        self
    }

    /// Sets what happened.
    #[must_use]
    pub fn event(mut self, name: &'a str) -> Self {
        self.event = Some(name);
        self
    }

    /// Sets the lock.
    #[must_use]
    pub fn lock(mut self, lock: &'a LockName) -> Self {
        self.lock = Some(lock.as_str().into());
        self
    }

    /// Sets how the lock is held, or is to be held.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Sets the fencing token.
    #[must_use]
    pub fn token(mut self, token: Token) -> Self {
        self.token = Some(token.to_string());
        self
    }

    /// Sets the session.
    #[must_use]
    pub fn session(mut self, session: SessionId) -> Self {
        self.session = Some(session.to_string());
        self
    }

    /// Sets how long it took.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        // Microseconds are enough, and keep the number short.
        self.latency_ms = Some(latency.as_micros() as f64 / 1000.0);
        self
    }

    /// Sets the kind of the error.
    #[must_use]
    pub fn error_kind(mut self, kind: ErrorKind) -> Self {
        self.error_kind = Some(kind.name());
        self
    }

    /// Returns the line as a JSON object, without characters that control a terminal.
    pub fn to_json(&self) -> String {
        // Strings and numbers always serialise.
        escape_json(&serde_json::to_string(self).unwrap_or_default())
    }

    /// Returns the line as text for people, without characters that control a terminal.
    pub fn to_text(&self) -> String {
        let mut text = format!("{} {:5} {}", self.timestamp, self.level, self.message);
        let latency = self.latency_ms.map(|latency| latency.to_string());
        let mode = self.mode.map(|mode| mode.to_string());
        let fields = [
            ("lock", self.lock.as_deref()),
            ("mode", mode.as_deref()),
            ("token", self.token.as_deref()),
            ("session", self.session.as_deref()),
            ("errorKind", self.error_kind),
            ("latencyMs", latency.as_deref()),
            ("trace_id", self.trace_id.as_deref()),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                let _ = write!(text, " {name}={value}");
            }
        }
        escape_controls(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_describes_each_field() {
        let name = LockName::new("a").expect("a valid name");
        let mut line = Line::new(Level::Info, "t", "m")
            .event("e")
            .lock(&name)
            .mode(Mode::Shared)
            .token(Token(1))
            .session(SessionId(1))
            .latency(Duration::ZERO)
            .error_kind(ErrorKind::Internal);
        line.tenant_id = Some("t".into());
        line.trace_id = Some("t".into());
        line.span_id = Some("s".into());
        let page = include_str!("../../../docs/command.md");
        let read: serde_json::Value = serde_json::from_str(&line.to_json()).expect("JSON");
        let fields = read.as_object().expect("an object");
        assert_eq!(fields.len(), 15);
        for field in fields.keys() {
            let is_described = page
                .lines()
                .any(|row| row.starts_with("| `") && row.contains(&format!("`{field}`")));
            assert!(is_described, "docs/command.md lacks {field}");
        }
    }

    #[test]
    fn a_line_has_the_fields_that_apply_and_drives_no_terminal() {
        let name = LockName::new("a\u{202e}b").expect("a valid name");
        let line = Line::new(Level::Warn, "lock", "it\u{1b}[2J \u{202e}\"ended\"\n")
            .event("hold_ended")
            .lock(&name)
            .mode(Mode::Shared)
            .token(Token(u64::MAX))
            .session(SessionId(255))
            .latency(Duration::from_micros(1_500))
            .error_kind(ErrorKind::Unreachable);
        let json = line.to_json();
        assert!(
            !json.chars().any(|c| c.is_control() || c == '\u{202e}'),
            "{json}"
        );
        let read: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let expected = serde_json::json!({
            "timestamp": read["timestamp"],
            "correlationId": read["correlationId"],
            "level": "warn",
            "target": "lock",
            "message": "it\u{1b}[2J \u{202e}\"ended\"\n",
            "event": "hold_ended",
            "lock": "a\u{202e}b",
            "mode": "shared",
            "token": "18446744073709551615",
            "session": "ff",
            "latencyMs": 1.5,
            "errorKind": read["errorKind"],
        });
        assert_eq!(read, expected);
        let text = line.to_text();
        assert!(text.contains(" warn  it\\u{1b}[2J"), "{text}");
        assert!(
            text.contains(" lock=a\\u{202e}b mode=shared token="),
            "{text}"
        );
        assert!(!text.chars().any(char::is_control), "{text}");
    }
}

//! Shows what is known about a coordinator.

use std::time::Duration;

use serde_json::json;
use turnlock::Error;

use super::measure::{Load, RoundTrip};
#[cfg(feature = "embedded")]
use super::usage::Usage;
use crate::exit::{Exit, Failure};
use crate::output::{escape_controls, format_age, format_duration, format_table};
#[cfg(feature = "etcd")]
use crate::version::split_api_version;

/// The facts shown about the coordinator.
#[derive(Default)]
pub struct Report {
    /// The kind: `own`, `machine` or `named`.
    pub kind: &'static str,
    /// The URL, or the folder.
    pub place: String,
    /// The option, variable or file that decided on it.
    pub decided_by: String,
    pub pid: Option<u32>,
    pub uptime: Option<Duration>,
    pub version: Option<Version>,
    pub round_trip: Option<RoundTrip>,
    pub load: Option<Load>,
    /// The number of sessions, of whatever client.
    pub sessions: Option<usize>,
    /// The size of its store.
    pub store: Option<Size>,
    /// What its metrics say, if it gives them on this machine.
    #[cfg(feature = "embedded")]
    pub usage: Option<Usage>,
    pub clock: Clock,
    /// What it says is wrong with itself.
    pub warnings: Vec<String>,
    /// The reason why it does not reply.
    pub trouble: Option<String>,
}

/// What is known of the difference between its clock and ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// It runs on this machine, so both clocks are one.
    Same,
    /// It does not tell the time.
    #[default]
    Unknown,
}

/// How much of something is used, in bytes or in numbers, and the most there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub used: u64,
    pub limit: Option<u64>,
}

impl Size {
    pub fn to_text(self, format: fn(u64) -> String) -> String {
        let full = self.limit.map(|limit| {
            let part = 100.0 * self.used as f64 / limit.max(1) as f64;
            format!(" of {}, {part:.1} % full", format(limit))
        });
        format(self.used) + &full.unwrap_or_default()
    }
}

/// The coordinator's program, and the version of the etcd API that it speaks, if it does.
#[derive(Debug, PartialEq, Eq)]
pub struct Version {
    pub program: String,
    pub api: String,
}

#[cfg(feature = "etcd")]
impl Version {
    /// Parses the version of the API.
    pub fn parse(text: &str) -> Self {
        let (api, program) = match split_api_version(text) {
            Some((api, version)) => (api, format!("turnlock {version}")),
            None => (text, format!("etcd {text}")),
        };
        Version {
            program,
            api: api.to_owned(),
        }
    }

    /// Returns whether it is a `turnlock serve`.
    pub fn is_ours(&self) -> bool {
        self.program.starts_with("turnlock ")
    }
}

impl Report {
    /// Records why it does not reply, if it does not.
    ///
    /// # Errors
    /// A failure other than a coordinator that cannot be reached: the user made a mistake.
    pub fn record(&mut self, answer: Result<(), Error>) -> Result<(), Failure> {
        if let Err(error) = answer {
            let failure = Failure::from(error);
            if failure.exit != Exit::Unavailable {
                return Err(failure);
            }
            self.trouble = Some(failure.message);
        }
        Ok(())
    }

    pub fn to_text(&self) -> String {
        let kind = match self.kind {
            "own" => "your own",
            "machine" => "this machine's",
            _ => "named",
        };
        let mut rows = vec![
            ["coordinator".to_owned(), format!("{kind}, {}", self.place)],
            ["decided by".to_owned(), self.decided_by.clone()],
        ];
        if let Some(pid) = self.pid {
            rows.push(["process".to_owned(), pid.to_string()]);
        }
        if let Some(uptime) = self.uptime {
            rows.push(["running for".to_owned(), format_duration(uptime)]);
        }
        if let Some(version) = &self.version {
            let text = format!("{}, etcd API {}", version.program, version.api);
            rows.push(["version".to_owned(), text]);
        }
        let state = self.trouble.as_deref().unwrap_or("answers");
        rows.push(["state".to_owned(), state.to_owned()]);
        for warning in &self.warnings {
            rows.push(["warning".to_owned(), warning.clone()]);
        }
        rows.extend(self.rows_of_answers());
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(|cell| escape_controls(cell)).collect())
            .collect();
        format_table(&rows, &[])
    }

    /// Returns the lines about what a coordinator that replies has told.
    fn rows_of_answers(&self) -> Vec<[String; 2]> {
        let mut rows = Vec::new();
        let mut add = |what: &str, text: String| rows.push([what.to_owned(), text]);
        if let Some(RoundTrip { median, slowest }) = self.round_trip {
            add(
                "round trip",
                format!(
                    "{:.1} ms, the slowest {:.1} ms",
                    millis(median),
                    millis(slowest)
                ),
            );
        }
        if self.trouble.is_none() {
            let clock = match self.clock {
                Clock::Same => "this machine's",
                Clock::Unknown => "not known: it does not tell the time",
            };
            add("clock", clock.to_owned());
        }
        if let Some(sessions) = self.sessions {
            let size = Size {
                used: sessions as u64,
                limit: self.max_sessions(),
            };
            add("sessions", size.to_text(|count| count.to_string()));
        }
        if let Some(size) = self.store {
            add("store", size.to_text(bytes));
        }
        #[cfg(feature = "embedded")]
        for [what, text] in self.usage.iter().flat_map(Usage::rows) {
            add(&what, text);
        }
        if let Some(load) = &self.load {
            let at_least = if load.is_complete { "" } else { "at least " };
            add(
                "locks",
                format!(
                    "{at_least}{} in use, {} contended, {} waiting",
                    load.held, load.contended, load.waiting
                ),
            );
            for (what, longest) in [
                ("longest hold", &load.longest_hold),
                ("longest wait", &load.longest_wait),
            ] {
                if let Some((since, name)) = longest {
                    add(what, format!("{}: {name}", format_age(*since)));
                }
            }
        }
        rows
    }

    pub fn to_json(&self) -> serde_json::Value {
        #[cfg_attr(not(feature = "embedded"), expect(unused_mut))]
        let mut fields = self.fields();
        #[cfg(feature = "embedded")]
        if let Some(fields) = fields.as_object_mut() {
            fields.extend(self.usage.as_ref().map(Usage::to_json).unwrap_or_default());
        }
        fields
    }

    /// Returns the most sessions that there may be, if its metrics say that.
    fn max_sessions(&self) -> Option<u64> {
        #[cfg(feature = "embedded")]
        return self.usage.as_ref()?.leases?.limit;
        #[cfg(not(feature = "embedded"))]
        return None;
    }

    fn fields(&self) -> serde_json::Value {
        json!({
            "kind": self.kind,
            "place": self.place,
            "decided_by": self.decided_by,
            "pid": self.pid,
            "uptime_s": self.uptime.map(|uptime| uptime.as_secs()),
            "version": self.version.as_ref().map(|version| &version.program),
            "api": self.version.as_ref().map(|version| &version.api),
            "round_trip_ms": self.round_trip.map(|trip| millis(trip.median)),
            "slowest_round_trip_ms": self.round_trip.map(|trip| millis(trip.slowest)),
            "clock_difference_ms": match self.clock {
                Clock::Same => Some(0),
                Clock::Unknown => None,
            },
            "sessions": self.sessions,
            "sessions_limit": self.max_sessions(),
            "store_bytes": self.store.map(|size| size.used),
            "store_limit_bytes": self.store.and_then(|size| size.limit),
            "locks": self.load.as_ref().map(Load::to_json),
            "answers": self.trouble.is_none(),
            "trouble": self.trouble,
            "warnings": self.warnings,
        })
    }
}

/// Returns a duration in milliseconds. Microseconds are enough, and keep the number short.
pub fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

/// Formats a number of bytes for people.
pub fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} bytes"),
        1024..0x10_0000 => format!("{:.0} KiB", count as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", count as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", count as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_with_their_unit() {
        let shown = [0, 1023, 1024, 3 << 20, 5 << 30].map(bytes);
        assert_eq!(
            shown,
            ["0 bytes", "1023 bytes", "1 KiB", "3.0 MiB", "5.0 GiB"]
        );
    }
}

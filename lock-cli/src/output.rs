//! What users see: data on stdout, all else on stderr, and nothing from others unescaped.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use turnlock::{Entry, clock};

use crate::child::unstopped;

/// Text that somebody else chose, made safe for a terminal: control characters, and the ones that
/// reorder text, are escaped.
pub fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || reorders {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Says something about what goes on, on stderr.
pub fn say(message: impl AsRef<str>) {
    // Nobody to tell: stderr is closed.
    let _ = unstopped(|| writeln!(io::stderr(), "turnlock: {}", safe(message.as_ref())));
}

/// Prints one line of data on stdout.
///
/// # Errors
/// If stdout is closed.
pub fn print(line: impl AsRef<str>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", line.as_ref())?;
    out.flush()
}

/// A line on stderr that changes. Erased when it is dropped.
pub struct StatusLine(());

impl StatusLine {
    /// `None` where stderr is not a terminal, or one that cannot erase a line (`TERM=dumb`).
    pub fn on_terminal() -> Option<Self> {
        // Lazily: one that is made is also dropped, which erases the line.
        (io::stderr().is_terminal() && can_erase(std::env::var_os("TERM"))).then(|| StatusLine(()))
    }

    /// Puts this in the place of what is shown.
    pub fn show(&self, text: &str) {
        let _ = write!(io::stderr(), "\r\x1b[Kturnlock: {text}");
        let _ = io::stderr().flush();
    }

    /// Shows nothing until the next [`show`](StatusLine::show).
    pub fn clear(&self) {
        let _ = write!(io::stderr(), "\r\x1b[K");
        let _ = io::stderr().flush();
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Whether a terminal of this type, as `TERM` says, knows the codes that move the cursor.
fn can_erase(term: Option<OsString>) -> bool {
    term.is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// A duration for people: its two largest units.
pub fn human(duration: Duration) -> String {
    let s = duration.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86400, s / 3600 % 24),
    }
}

/// Who an entry belongs to: `owner@host pid 12`.
pub fn who(entry: &Entry) -> String {
    match &entry.metadata {
        Some(m) if m.pid != 0 || !m.host.is_empty() => {
            let at = if m.owner.is_empty() {
                String::new()
            } else {
                format!("{}@", m.owner)
            };
            safe(&format!("{at}{} pid {}", m.host, m.pid))
        }
        _ => match entry.session {
            Some(session) => format!("another client, session {session}"),
            None => "another client".to_owned(),
        },
    }
}

/// How long ago an entry queued, by the wall clocks of two machines.
pub fn age(entry: &Entry) -> Option<Duration> {
    let since = entry
        .metadata
        .as_ref()
        .map(|m| m.since_unix_ms)
        .filter(|ms| *ms != 0)?;
    Some(Duration::from_millis(
        clock::unix_millis().saturating_sub(since),
    ))
}

/// Lines up columns; the last one is not padded.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        rows.iter()
            .filter_map(|r| r.get(c))
            .map(|s| s.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row
            .iter()
            .enumerate()
            .map(|(c, cell)| match c + 1 == row.len() {
                true => cell.clone(),
                false => format!("{cell:<width$}", width = widths[c]),
            });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_cannot_drive_the_terminal() {
        assert_eq!(
            safe("a\u{1b}[2Jb\r\u{202e}c\u{9b}ü"),
            "a\\u{1b}[2Jb\\u{d}\\u{202e}c\\u{9b}ü"
        );
    }

    #[test]
    fn a_dumb_terminal_gets_no_cursor_codes() {
        assert!(can_erase(Some("xterm".into())));
        for term in [None, Some(OsString::new()), Some("dumb".into())] {
            assert!(!can_erase(term));
        }
    }

    #[test]
    fn durations_show_two_units() {
        let shown = [0, 59, 61, 3600, 90_000].map(|s| human(Duration::from_secs(s)));
        assert_eq!(shown, ["0s", "59s", "1m01s", "1h00m", "1d01h"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["a".into(), "bb".into()],
            vec!["ccc".into(), "d".into()],
        ];
        assert_eq!(table(&rows), "a    bb\nccc  d");
    }
}

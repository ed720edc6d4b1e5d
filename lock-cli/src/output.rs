//! What users see: data on stdout, all else on stderr, and nothing from others unescaped.

mod stdout;
mod table;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use turnlock::{Entry, clock};

use crate::child::unstopped;

pub use self::stdout::{print, print_json, unreported, unwritable};
pub use self::table::{Shrinks, cut, table};

use self::table::width_of;

/// Text that somebody else chose, made safe for a terminal: control characters, and the ones that
/// reorder text, are escaped.
pub fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if drives_a_terminal(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

fn drives_a_terminal(c: char) -> bool {
    let reorders = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || reorders
}

/// How much is said on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Errors (`-q`).
    Quiet,
    /// And what a person wants to know.
    Normal,
    /// And what happens (`-v`).
    Verbose,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Normal as u8);

/// Sets how much is said from now on.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Whether what is of this level is said.
pub fn speaks(level: Level) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

/// Says on stderr what went wrong.
pub fn say(message: impl AsRef<str>) {
    // Nobody to tell: stderr is closed, or its disk is full.
    let _ = unstopped(|| writeln!(io::stderr(), "turnlock: {}", safe(message.as_ref())));
}

/// Says on stderr what goes on, unless it is to be quiet.
pub fn inform(message: impl AsRef<str>) {
    if speaks(Level::Normal) {
        say(message);
    }
}

/// Says on stderr what happens, if that was asked for.
pub fn narrate(message: impl AsRef<str>) {
    if speaks(Level::Verbose) {
        say(message);
    }
}

/// A line on stderr that changes. Erased when it is dropped.
pub struct StatusLine(());

impl StatusLine {
    /// `None` where stderr is not a terminal, or one that cannot erase a line (`TERM=dumb`).
    pub fn on_terminal() -> Option<Self> {
        // Lazily: one that is made is also dropped, which erases the line.
        (io::stderr().is_terminal() && can_erase(std::env::var_os("TERM"))).then(|| StatusLine(()))
    }

    /// Puts this in the place of what is shown. It is cut to one line: what goes on in the next one
    /// could not be erased.
    pub fn show(&self, text: &str) {
        const NAME: &str = "turnlock: ";
        let columns = width_of(&io::stderr()).unwrap_or(80);
        let text = cut(text, columns.saturating_sub(NAME.len() + 1));
        let _ = write!(io::stderr(), "\r\x1b[K{NAME}{text}");
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

/// Longest owner, host or note that a line shows, in characters. They are others' to choose.
const LONGEST: usize = 64;

/// Who an entry belongs to: `owner@host pid 12`.
pub fn who(entry: &Entry) -> String {
    let short = |text: &str| cut(&safe(text), LONGEST);
    match &entry.metadata {
        Some(m) if m.pid != 0 || !m.host.is_empty() => {
            let at = if m.owner.is_empty() {
                String::new()
            } else {
                format!("{}@", short(&m.owner))
            };
            format!("{at}{} pid {}", short(&m.host), m.pid)
        }
        _ => match entry.session {
            Some(session) => format!("another client, session {session}"),
            None => "another client".to_owned(),
        },
    }
}

/// How long ago an entry queued, by the wall clocks of two machines: `3m02s ago`.
pub fn queued(entry: &Entry) -> Option<String> {
    let told = entry.metadata.as_ref().map(|m| m.since_unix_ms);
    told.filter(|ms| *ms != 0)
        .map(|ms| format!("{} ago", since(ms)))
}

/// How long it is since then, by our wall clock.
pub fn since(unix_ms: u64) -> String {
    let age = clock::unix_millis().saturating_sub(unix_ms);
    human(Duration::from_millis(age))
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
}

//! Prints the output that users see: data on stdout, everything else on stderr, and no unescaped
//! text of other users.

mod stdout;
mod table;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use turnlock::{Entry, clock};

use crate::log::{self, Line};

pub use self::stdout::{
    add_changed_file, escape_json, from_stdout_error, has_reader_left, print, print_json,
};
pub use self::table::{Shrinks, cut, format_table};

use self::table::terminal_width;

/// Makes a text that somebody else chose safe for a terminal. Escapes control characters, and
/// characters that reorder text.
pub fn escape_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_terminal_control(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

fn is_terminal_control(c: char) -> bool {
    let reorders = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || reorders
}

/// The amount of output to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only errors (`-q`).
    Quiet,
    /// Errors and the messages that a person wants to read.
    Normal,
    /// All of those and progress messages (`-v`).
    Verbose,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Normal as u8);

/// Sets the level of this process.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Returns whether messages of this level are written.
pub fn is_enabled(level: Level) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

/// Writes a message about the failure of this command to stderr.
pub fn fail(message: impl AsRef<str>) {
    write_message(log::Level::Error, message.as_ref());
}

/// Writes a message to stderr that a person has to know.
pub fn say(message: impl AsRef<str>) {
    write_message(log::Level::Warn, message.as_ref());
}

/// Writes a message to stderr that is what the command is for, whatever `-q` says.
#[cfg(feature = "embedded")]
pub fn announce(message: impl AsRef<str>) {
    write_message(log::Level::Info, message.as_ref());
}

/// Writes a message to stderr that a person wants to know, unless `-q` was given.
pub fn inform(message: impl AsRef<str>) {
    if is_enabled(Level::Normal) {
        write_message(log::Level::Info, message.as_ref());
    }
}

/// Writes a progress message to stderr, if `-v` was given.
pub fn narrate(message: impl AsRef<str>) {
    if is_enabled(Level::Verbose) {
        write_message(log::Level::Info, message.as_ref());
    }
}

/// Writes a message to people. Its level is for those who read JSON.
fn write_message(level: log::Level, message: &str) {
    match log::is_json() {
        true => log::write(&Line::new(level, "turnlock", message)),
        false => log::write_line(&format!("turnlock: {}", escape_controls(message))),
    }
}

/// A line on stderr that changes. It is erased when it is dropped.
pub struct StatusLine(());

impl StatusLine {
    /// Returns the line. `None` if stderr is not a terminal, or a terminal that cannot erase a line
    /// (`TERM=dumb`), and if stderr is a log of JSON.
    pub fn on_terminal() -> Option<Self> {
        let is_for_people = io::stderr().is_terminal() && !log::is_json();
        // Made only if it is returned: a drop erases the line.
        (is_for_people && can_erase(std::env::var_os("TERM"))).then(|| StatusLine(()))
    }

    /// Replaces the text on the screen. The text is cut to one line, because a second line could
    /// not be erased.
    pub fn show(&self, text: &str) {
        const NAME: &str = "turnlock: ";
        let columns = terminal_width(&io::stderr()).unwrap_or(80);
        let text = cut(text, columns.saturating_sub(NAME.len() + 1));
        let _ = write!(io::stderr(), "\r\x1b[K{NAME}{text}");
        let _ = io::stderr().flush();
    }

    /// Erases the line until the next [`show`](StatusLine::show).
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

/// Returns whether a terminal of this `TERM` type knows the codes that move the cursor.
fn can_erase(term: Option<OsString>) -> bool {
    term.is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Formats a duration for people, with its two largest units.
pub fn format_duration(duration: Duration) -> String {
    let s = duration.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86400, s / 3600 % 24),
    }
}

/// The longest owner or host that a line shows, in characters. Others choose these texts.
const MAX_CHARS: usize = 64;

/// Describes the owner of an entry, such as `owner@host pid 12`.
pub fn describe_owner(entry: &Entry) -> String {
    let short = |text: &str| cut(&escape_controls(text), MAX_CHARS);
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

/// Formats how long ago an entry was queued, by the wall clocks of two machines, such as `3m02s
/// ago`.
pub fn format_queued(entry: &Entry) -> Option<String> {
    let queued_at = entry.metadata.as_ref().map(|m| m.since_unix_ms);
    queued_at
        .filter(|ms| *ms != 0)
        .map(|ms| format!("{} ago", format_age(ms)))
}

/// Formats how long ago a moment was, by our wall clock.
pub fn format_age(unix_ms: u64) -> String {
    let age = clock::unix_millis().saturating_sub(unix_ms);
    format_duration(Duration::from_millis(age))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_cannot_drive_the_terminal() {
        assert_eq!(
            escape_controls("a\u{1b}[2Jb\r\u{202e}c\u{9b}ü"),
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
        let shown = [0, 59, 61, 3600, 90_000].map(|s| format_duration(Duration::from_secs(s)));
        assert_eq!(shown, ["0s", "59s", "1m01s", "1h00m", "1d01h"]);
    }
}

//! The exit statuses of the command. `--help` and the manual pages are made from this table, and a
//! test compares `docs/command.md` with it.

use std::io;
use std::process::ExitCode;

use rustix::io::Errno;
use turnlock::{Error, ErrorKind, fence};

use crate::child::{Signal, SpawnError};
use crate::reference::indent_text;

/// How `turnlock` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command did its work.
    Success,
    /// The command that ran under the lock ended with this status (128 + signal, if a signal ended
    /// it).
    Of(u8),
    /// This signal ended the command or the wait for the lock.
    Signal(Signal),
    /// The coordinator does not keep a promise that was tested.
    #[cfg(feature = "conformance")]
    NotConforming,
    /// Contenders wait for each other.
    Deadlock,
    /// The rules do not allow it.
    #[cfg(feature = "embedded")]
    Denied,
    /// An argument or a name breaks a rule.
    Usage,
    /// The coordinator cannot be reached, or the session ended during the wait.
    Unavailable,
    /// A bug of `turnlock` or of the coordinator.
    Internal,
    /// A file cannot be read or changed, or stdout cannot be written to.
    File,
    /// The lock was not acquired.
    NotAcquired,
    /// The lock was lost while the command ran.
    Lost,
    /// The coordinator refuses the request.
    Refused,
    /// A setting, a URL or a file is wrong.
    Configuration,
    /// The file has seen a higher token.
    Stale,
    /// The command has started before, and its end is not known.
    Unknown,
    /// The command cannot be executed.
    NotExecutable,
    /// The command was not found.
    NotFound,
}

/// The statuses in the order in which they are shown: number and meaning.
pub const TABLE: &[(&str, &str)] = &[
    (
        "0",
        "done; `run` ends with the command's own status, whatever it is",
    ),
    (
        "1",
        "`conformance`: a case failed; `why`: there is a deadlock; `rules check`: denied",
    ),
    (
        "64",
        "usage: an option, an argument or a name breaks a rule",
    ),
    (
        "69",
        "the coordinator cannot be reached, or descriptors, threads or memory are short",
    ),
    ("70", "an internal error: please report it"),
    (
        "74",
        "a file, or stdout, cannot be read or written as asked",
    ),
    (
        "75",
        "not acquired: somebody else has the lock (`-E` sets another status)",
    ),
    ("76", "the lock was lost while it was held"),
    ("77", "refused: the coordinator does not let you do this"),
    ("78", "configuration: a URL, a file or a setting is wrong"),
    (
        "79",
        "stale: the file has seen a higher token, and nothing was changed",
    ),
    (
        "80",
        "unknown: a run with this `--once` key has started before, and its end is not known",
    ),
    ("126", "the command cannot be executed"),
    ("127", "the command was not found"),
    (
        "128+N",
        "the command, or `turnlock` while it waited, was ended by signal N",
    ),
];

impl Exit {
    /// Returns the number of the status.
    pub fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Of(code) => code,
            Exit::Signal(signal) => signal.status(),
            #[cfg(feature = "conformance")]
            Exit::NotConforming => 1,
            Exit::Deadlock => 1,
            #[cfg(feature = "embedded")]
            Exit::Denied => 1,
            Exit::Usage => 64,
            Exit::Unavailable => 69,
            Exit::Internal => 70,
            Exit::File => 74,
            Exit::NotAcquired => 75,
            Exit::Lost => 76,
            Exit::Refused => 77,
            Exit::Configuration => 78,
            Exit::Stale => 79,
            Exit::Unknown => 80,
            Exit::NotExecutable => 126,
            Exit::NotFound => 127,
        }
    }
}

impl From<Exit> for ExitCode {
    /// Ends this process by the signal, if the exit is one; returns the status to exit with
    /// otherwise.
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Signal(signal) => signal.end_this_process(),
            other => ExitCode::from(other.code()),
        }
    }
}

/// A failure as it is reported to the user: what happened, what to do, and the exit status.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    pub hint: Option<String>,
    pub reported: Reported,
}

/// Whether a failure is reported on stderr, beside its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    Always,
    /// With `-q` the status says enough: the failure was to be expected.
    UnlessQuiet,
    /// Never, because nobody would read it.
    Never,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Failure {
            exit,
            message: message.into(),
            hint: None,
            reported: Reported::Always,
        }
    }

    /// Makes the failure of a call that the operating system refused. It counts as a bug of
    /// `turnlock`, unless descriptors, threads or memory are short.
    pub fn from_system(what: &str, error: &io::Error) -> Self {
        let message = format!("{what}: {error}");
        match is_short(error) {
            true => Failure::new(Exit::Unavailable, message).hint(RAISE_LIMITS),
            false => Failure::new(Exit::Internal, message),
        }
    }

    /// Adds a hint about the remedy.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Makes this a failure that is not reported with `-q`.
    pub fn hide_if_quiet(mut self) -> Self {
        self.reported = Reported::UnlessQuiet;
        self
    }
}

/// The hint for a shortage of resources.
const RAISE_LIMITS: &str = "raise the limits (`ulimit -n`, `ulimit -u`), or try again later";

fn is_short(error: &io::Error) -> bool {
    const SHORT: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| SHORT.contains(&errno))
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::InvalidName | ErrorKind::InvalidArgument => Exit::Usage,
            ErrorKind::Configuration | ErrorKind::Unsupported => Exit::Configuration,
            ErrorKind::Unreachable | ErrorKind::Exhausted | ErrorKind::SessionLost(_) => {
                Exit::Unavailable
            }
            ErrorKind::Refused => Exit::Refused,
            ErrorKind::Evicted => Exit::NotAcquired,
            _ => Exit::Internal,
        };
        Failure::new(exit, with_causes(&error))
    }
}

impl From<fence::Error> for Failure {
    fn from(error: fence::Error) -> Self {
        let exit = match error.kind() {
            fence::ErrorKind::Stale { .. } => Exit::Stale,
            fence::ErrorKind::Shared | fence::ErrorKind::Malformed => Exit::Usage,
            fence::ErrorKind::Lost => Exit::Lost,
            _ => Exit::File,
        };
        Failure::new(exit, with_causes(&error))
    }
}

/// Returns the message with those of its causes. A cause that the message has already is left out.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let text = source.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = source.source();
    }
    message
}

impl From<SpawnError> for Failure {
    fn from(error: SpawnError) -> Self {
        let message = error.to_string();
        let exit = match error {
            SpawnError::NotFound(_) => Exit::NotFound,
            SpawnError::NotExecutable(..) => Exit::NotExecutable,
            SpawnError::Supervision(error) => return error.into(),
        };
        Failure::new(exit, message)
    }
}

impl From<crate::child::Error> for Failure {
    fn from(error: crate::child::Error) -> Self {
        if error.is_permanent() {
            return Failure::new(Exit::Configuration, error.to_string())
                .hint("mount it (mount -t proc proc /proc); `turnlock hold` does not need it");
        }
        Failure::from_system(&error.what(), error.cause())
    }
}

/// Returns the table as `--help` shows it, in lines of 80 columns.
pub fn help() -> String {
    let mut text = String::from("Exit status:\n");
    for (code, meaning) in TABLE {
        let lines = indent_text(meaning, 9);
        text.push_str(&format!("  {code:<6}{}", &lines[8..]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_ours_is_in_the_table_and_on_the_page() {
        let all = [
            Exit::Success,
            Exit::Deadlock,
            Exit::Usage,
            Exit::Unavailable,
            Exit::Internal,
            Exit::File,
            Exit::NotAcquired,
            Exit::Lost,
            Exit::Refused,
            Exit::Configuration,
            Exit::Stale,
            Exit::Unknown,
            Exit::NotExecutable,
            Exit::NotFound,
        ];
        for exit in all {
            let code = exit.code().to_string();
            assert!(
                TABLE.iter().any(|(c, _)| *c == code),
                "{exit:?} is not in the table"
            );
        }
        let page = include_str!("../../docs/command.md");
        for (code, meaning) in TABLE {
            let row = format!("| {code} | {meaning} |");
            assert!(page.contains(&row), "docs/command.md lacks the row {row}");
        }
    }
}

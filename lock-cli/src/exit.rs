//! What the command's exit status says. One table: `--help`, `docs/command.md` and a test are made
//! from it.

use std::io;
use std::process::ExitCode;

use rustix::io::Errno;
use turnlock::{Error, ErrorKind, fence};

use crate::child::{Signal, SpawnError};

/// How the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// As asked.
    Success,
    /// With the status of the command that ran under the lock (128 + signal, if a signal ended it).
    Of(u8),
    /// By this signal, which ended the command, or our wait for the lock.
    Signal(Signal),
    /// The coordinator does not keep a promise that it was asked for.
    #[cfg(feature = "conformance")]
    NotConforming,
    /// Usage: an argument or a name breaks a rule.
    Usage,
    /// The coordinator is out of reach, or ended our session while we waited.
    Unavailable,
    /// A bug of ours or of the coordinator's.
    Internal,
    /// A file cannot be read or changed, or stdout not be written to.
    File,
    /// Not acquired.
    NotAcquired,
    /// The lock was lost while the command ran.
    Lost,
    /// The coordinator says no.
    Refused,
    /// A setting, a URL or a file is wrong.
    Configuration,
    /// The file has seen a higher token.
    Stale,
    /// The command cannot be executed.
    NotExecutable,
    /// The command was not found.
    NotFound,
}

/// The statuses in the order they are shown: number, meaning.
pub const TABLE: &[(&str, &str)] = &[
    (
        "0",
        "done; `run` ends with the command's own status, whatever it is",
    ),
    ("1", "`conformance`: a case failed"),
    (
        "64",
        "usage: an option, an argument or a name breaks a rule",
    ),
    (
        "69",
        "the coordinator is out of reach, or descriptors, threads or memory are short",
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
    ("77", "refused: the coordinator knows you and says no"),
    ("78", "configuration: a URL, a file or a setting is wrong"),
    (
        "79",
        "stale: the file has seen a higher token, and nothing was changed",
    ),
    ("126", "the command cannot be executed"),
    ("127", "the command was not found"),
    (
        "128+N",
        "the command, or `turnlock` while it waited, was ended by signal N",
    ),
];

impl Exit {
    /// The status.
    pub fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Of(code) => code,
            Exit::Signal(signal) => signal.status(),
            #[cfg(feature = "conformance")]
            Exit::NotConforming => 1,
            Exit::Usage => 64,
            Exit::Unavailable => 69,
            Exit::Internal => 70,
            Exit::File => 74,
            Exit::NotAcquired => 75,
            Exit::Lost => 76,
            Exit::Refused => 77,
            Exit::Configuration => 78,
            Exit::Stale => 79,
            Exit::NotExecutable => 126,
            Exit::NotFound => 127,
        }
    }
}

impl From<Exit> for ExitCode {
    /// For a process that ends now: by a signal, if that is how.
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Signal(signal) => signal.end_this_process(),
            other => ExitCode::from(other.code()),
        }
    }
}

/// A failure to tell the user about: what happened, what to do, and the status.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    pub hint: Option<String>,
    pub said: Said,
}

/// Whether a failure is said, or its status says it all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Always,
    /// Not with `-q`: it was to be expected.
    UnlessQuiet,
    /// Nobody would read it.
    Never,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Failure {
            exit,
            message: message.into(),
            hint: None,
            said: Said::Always,
        }
    }

    /// The failure of what the operating system refused: a bug of ours, unless it is short of
    /// descriptors, threads or memory.
    pub fn of_system(what: &str, error: &io::Error) -> Self {
        let message = format!("{what}: {error}");
        match is_short(error) {
            true => Failure::new(Exit::Unavailable, message).hint(MORE),
            false => Failure::new(Exit::Internal, message),
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With `-q` its status says it all.
    pub fn expected(mut self) -> Self {
        self.said = Said::UnlessQuiet;
        self
    }
}

/// What to do where something is short.
const MORE: &str = "raise the limits (`ulimit -n`, `ulimit -u`), or try again later";

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

/// The chain of causes, each of which says something of its own.
fn with_causes(error: &dyn std::error::Error) -> String {
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
                .hint("mount it (mount -t proc proc /proc); `turnlock hold` does without");
        }
        Failure::of_system(&error.what(), error.cause())
    }
}

/// The table as it stands under `--help`.
pub fn help() -> String {
    let mut text = String::from("Exit status:\n");
    for (code, meaning) in TABLE {
        text.push_str(&format!("  {code:<6} {meaning}\n"));
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
            Exit::Usage,
            Exit::Unavailable,
            Exit::Internal,
            Exit::File,
            Exit::NotAcquired,
            Exit::Lost,
            Exit::Refused,
            Exit::Configuration,
            Exit::Stale,
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

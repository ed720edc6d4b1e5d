//! Defines the errors of starting and supervising the command.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::io;

/// An error of the system that prevents the supervision.
#[derive(Debug)]
pub struct Error {
    what: Cow<'static, str>,
    source: io::Error,
}

impl Error {
    pub(super) fn new(what: impl Into<Cow<'static, str>>, source: io::Error) -> Self {
        Error {
            what: what.into(),
            source,
        }
    }

    /// Returns whether the system is not set up for supervision, so that trying again does not
    /// help.
    pub fn is_permanent(&self) -> bool {
        self.source.kind() == io::ErrorKind::Unsupported
    }

    /// Returns a description of the operation that failed.
    pub fn what(&self) -> String {
        format!("cannot {}", self.what)
    }

    /// Returns the reason.
    pub fn cause(&self) -> &io::Error {
        &self.source
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.what, self.source)
    }
}

impl std::error::Error for Error {}

/// The reason why the command could not be started.
#[derive(Debug)]
pub enum SpawnError {
    /// There is no such program. A shell exits with 127 then.
    NotFound(OsString),
    /// The program exists but cannot be executed. A shell exits with 126 then.
    NotExecutable(OsString, io::Error),
    /// Supervision could not be set up, so the program was not executed.
    Supervision(Error),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The names come from the user and may contain any bytes, so they are quoted and escaped.
        match self {
            SpawnError::NotFound(program) => write!(f, "{program:?}: command not found"),
            SpawnError::NotExecutable(program, source) => {
                write!(f, "cannot execute {program:?}: {source}")
            }
            SpawnError::Supervision(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SpawnError {}

impl From<Error> for SpawnError {
    fn from(error: Error) -> Self {
        SpawnError::Supervision(error)
    }
}

//! What can go wrong around the command.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::io;

/// The system denied something that supervision needs.
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

    /// Whether the system is not set up for supervision, which will not change by itself.
    pub fn is_permanent(&self) -> bool {
        self.source.kind() == io::ErrorKind::Unsupported
    }

    /// What failed.
    pub fn what(&self) -> String {
        format!("cannot {}", self.what)
    }

    /// Why.
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

/// Why the command could not be started.
#[derive(Debug)]
pub enum SpawnError {
    /// There is no such program. A shell ends with 127 then.
    NotFound(OsString),
    /// The program is there but cannot be executed. A shell ends with 126 then.
    NotExecutable(OsString, io::Error),
    /// The program was not tried: supervision could not be set up.
    Supervision(Error),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The names are the user's and may contain anything: quoted and escaped.
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

//! What can go wrong at a fence.

use std::error::Error as StdError;
use std::io;
use std::path::Path;

use lock_core::Token;

/// Why a write was not done.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kinds of failure that a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The resource has seen a higher token: the lock is another's by now. Nothing was changed.
    Stale {
        /// The token of the write.
        offered: Token,
        /// The highest that the resource has seen.
        highest: Token,
    },
    /// The resource is fenced by another lock, whose tokens cannot be compared with ours.
    OtherLock,
    /// The lock is held in shared mode, as readers hold it: they do not write.
    Shared,
    /// The lock was known to be lost before the write began.
    Lost,
    /// The mark is damaged, so what the resource has seen is not known.
    Untrusted,
    /// Another process has been in the middle of a change for too long. It may be stopped.
    Busy,
    /// The file was changed between the reading and the writing of an edit.
    Changed,
    /// The file is not one that a fence can protect, or the path names none.
    Unsuitable,
    /// The register has no room for one more lock.
    Full,
    /// The text is not a fencing token.
    Malformed,
    /// The caller's own part of an edit failed.
    Edit,
    /// The operating system refused: see [`io::ErrorKind`].
    Io(io::ErrorKind),
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: message.into(),
            source: None,
        }
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// `what` was tried on this path, and the system said no.
    pub(crate) fn io(what: &str, path: &Path, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        let message = format!("cannot {what} {}: {error}", path.display());
        Error::new(ErrorKind::Io(error.kind()), message).because(error)
    }

    pub(crate) fn unsuitable(path: &Path, why: &str) -> Self {
        let message = format!("{} cannot be fenced: {why}", path.display());
        Error::new(ErrorKind::Unsuitable, message)
    }

    /// What to act on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the token was refused because a higher one has been seen.
    pub fn is_stale(&self) -> bool {
        matches!(self.kind, ErrorKind::Stale { .. })
    }
}

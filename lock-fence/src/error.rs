//! The errors of a fence.

use std::error::Error as StdError;
use std::io;
use std::path::Path;

use lock_core::Token;

/// The reason why a write was not done.
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
    /// The resource has seen a higher token: another contender has held the lock since. Nothing was
    /// changed.
    Stale {
        /// The token of the write.
        offered: Token,
        /// The highest token that the resource has seen.
        highest: Token,
    },
    /// The resource is fenced by another lock. Tokens of different locks cannot be compared.
    OtherLock,
    /// The token is a reader's. Readers do not write.
    Shared,
    /// The lock was known to be lost before the write began.
    Lost,
    /// The mark is damaged, is no regular file, or can be a stranger's, so the highest token seen is
    /// not known.
    Untrusted,
    /// Another process has been changing the resource for too long. It may be stopped.
    Busy,
    /// The file was changed after an edit had read it and before the edit wrote it.
    Changed,
    /// A fence cannot protect this file, or the path names no file.
    Unsuitable,
    /// The register has no room for one more lock.
    Full,
    /// The text is not a fencing token, or its number is above [`MAX_TOKEN`](crate::MAX_TOKEN).
    Malformed,
    /// The closure that the caller passed to an edit failed.
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

    /// Returns the error of the operating system for an attempt to do `what` to this path.
    pub(crate) fn io(what: &str, path: &Path, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        let message = format!("cannot {what} {}: {error}", path.display());
        Error::new(ErrorKind::Io(error.kind()), message).because(error)
    }

    pub(crate) fn unsuitable_error(path: &Path, why: &str) -> Self {
        let message = format!("{} cannot be fenced: {why}", path.display());
        Error::new(ErrorKind::Unsuitable, message)
    }

    /// Returns the kind of failure, for the caller to act on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns whether the token was refused because the resource has seen a higher one.
    pub fn is_stale(&self) -> bool {
        matches!(self.kind, ErrorKind::Stale { .. })
    }
}

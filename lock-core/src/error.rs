//! What can go wrong, and what a caller may conclude from it.

use std::error::Error as StdError;
use std::sync::Arc;

use crate::name::NameError;

/// Why an operation failed.
///
/// Somebody else having the lock is never an error: see
/// [`Mutex::try_acquire`](crate::Mutex::try_acquire).
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    effect: Effect,
    /// Shared, so that all who waited for one thing can be told the same.
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The kinds of failure that a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A lock's name breaks a rule. Mend the name.
    InvalidName,
    /// An argument other than a name is out of bounds (a note too long, a time to live too short).
    /// Mend it.
    InvalidArgument,
    /// A URL, a file or a setting is wrong, or a backend was not compiled in. Mend the
    /// configuration.
    Configuration,
    /// The coordinator cannot be reached, or did not answer in time. Worth a retry.
    Unreachable,
    /// The coordinator is there but short of something (disk, quota, a leader, room in a queue), or
    /// this process is (descriptors, threads). Worth a retry later.
    Exhausted,
    /// The coordinator knows us and says no (permission, credentials, certificate).
    Refused,
    /// The session that the operation needed has ended. Acquire again: that opens a new session.
    SessionLost(LossReason),
    /// Our entry in the queue was removed by somebody else, while we waited or held the lock.
    /// Acquire again to queue anew.
    Evicted,
    /// The coordinator does not do what was asked.
    Unsupported,
    /// An answer breaks the protocol, or a bug of ours.
    Internal,
    /// This process was forked from one that uses locks, and cannot use any. Fork before the first
    /// use, or execute a program in the child.
    Forked,
}

/// Why a session, or one lock, was lost. For ever: neither comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum LossReason {
    /// The deadline passed without a renewal: the coordinator out of reach, or this process or
    /// machine stood still.
    #[error("it could not be renewed before its deadline")]
    Expired,
    /// The coordinator says that the session is gone.
    #[error("the coordinator ended the session")]
    SessionGone,
    /// Our entry in the queue was removed, by an administrator or by another client.
    #[error("the entry was removed from the queue")]
    EntryGone,
    /// We closed it.
    #[error("it was closed")]
    Closed,
    /// The coordinator has lost its store, and the session with it.
    #[error("the coordinator's folder was moved, removed or replaced")]
    StoreGone,
}

/// Whether a failed operation may have taken effect all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// Certainly not.
    None,
    /// The reply was lost: perhaps.
    Unknown,
}

impl Error {
    /// An error of this kind with a message that names the input or address and the remedy. No
    /// effect, no source.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: message.into(),
            effect: Effect::None,
            source: None,
        }
    }

    /// With the error that caused it. The message should not repeat the source's text.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// With what is known about the effect.
    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    /// Returns the error of an operation whose session was lost for this reason. No effect, no
    /// source.
    ///
    /// # Examples
    /// ```
    /// use lock_core::{Error, ErrorKind, LossReason};
    ///
    /// let error = Error::session_lost(LossReason::SessionGone);
    /// assert_eq!(error.kind(), ErrorKind::SessionLost(LossReason::SessionGone));
    /// assert!(!error.is_retryable());
    /// ```
    pub fn session_lost(reason: LossReason) -> Self {
        Error::new(
            ErrorKind::SessionLost(reason),
            format!("the session is over: {reason}"),
        )
    }

    /// A held lock was lost, for this reason.
    pub(crate) fn hold_lost(reason: LossReason) -> Self {
        match reason {
            LossReason::EntryGone => {
                Error::new(ErrorKind::Evicted, format!("the lock was lost: {reason}"))
            }
            reason => Error::session_lost(reason),
        }
    }

    /// What to act on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the operation may have taken effect.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Whether the same call may succeed later with nothing changed by the caller.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Unreachable | ErrorKind::Exhausted)
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Error::new(ErrorKind::InvalidName, error.to_string())
    }
}

// `&LockName -> LockName` goes through `TryFrom` with the same bound as a text does.
impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_does_not_repeat_the_source() {
        let error = Error::new(ErrorKind::Unreachable, "no answer from 127.0.0.1:1")
            .with_source(std::io::Error::other("refused"))
            .with_effect(Effect::Unknown);
        assert_eq!(error.to_string(), "no answer from 127.0.0.1:1");
        assert_eq!(error.source().expect("a source").to_string(), "refused");
        assert!(error.is_retryable());
        assert_eq!(error.effect(), Effect::Unknown);
    }
}

//! Failures, and what a caller may conclude from them.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::name::{LockName, NameError};
use crate::operation::Operation;

/// The failure of an operation: its kind, what is known of its effect, and a text that names the
/// input or the address and the remedy.
///
/// A lock that another contender has is never an error: see
/// [`Mutex::try_acquire`](crate::Mutex::try_acquire). The text does not repeat the texts of the
/// [`source`](StdError::source), nor [`operation`](Error::operation) and [`lock`](Error::lock): a
/// program that logs an error prints what it wants of them.
///
/// ```
/// # futures_executor::block_on(async {
/// # let backend = backend_embedded::EmbeddedBackend::open("embedded:memory").await?;
/// # let locks = lock_core::Locks::new(backend, lock_core::Options::default())?;
/// use lock_core::{ErrorKind, Operation};
///
/// let guard = locks.mutex("nightly")?.acquire().await?;
/// let error = guard.put("../escape", "x").await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidArgument);
/// assert_eq!(error.operation(), Some(Operation::Put));
/// assert_eq!(error.lock().map(|name| name.as_str()), Some("nightly"));
/// assert!(!error.is_retryable());
/// # Ok::<(), lock_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    effect: Effect,
    /// Shared, so that all callers that waited for one thing get the same error.
    source: Option<Arc<dyn StdError + Send + Sync>>,
    operation: Option<Operation>,
    lock: Option<LockName>,
    retry_after: Option<Duration>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Written by hand, since a derived implementation would return the `Arc` as the source. A caller
/// can downcast the error in it.
impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = self.source.as_deref()?;
        Some(source)
    }
}

/// The kinds of failure that a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A lock's name breaks a rule. Correct the name.
    InvalidName,
    /// An argument other than a name is out of bounds: a note is too long, a time to live too
    /// short. Correct it.
    InvalidArgument,
    /// A URL, a file or a setting is wrong, or a backend was not compiled in; or the coordinator
    /// went back to an older state, and the token offset is too low for it. Correct the
    /// configuration.
    Configuration,
    /// The coordinator cannot be reached, or did not answer in time. A later try may succeed.
    Unreachable,
    /// The coordinator answers but is short of something (disk, quota, a leader, room in a queue),
    /// or this process is (descriptors, threads). A later try may succeed.
    Exhausted,
    /// The coordinator denies the request (permission, credentials, certificate).
    Refused,
    /// The session that the operation needed has ended. Acquire again: that opens a new session.
    SessionLost(LossReason),
    /// Another client removed our entry from the queue, while we waited or held the lock. Acquire
    /// again to queue anew.
    Evicted,
    /// The coordinator does not support the operation.
    Unsupported,
    /// An answer breaks the protocol, or Turnlock has a bug.
    Internal,
    /// This process was forked from one that uses locks, and cannot use any. Fork before the first
    /// use, or execute a program in the child.
    Forked,
}

impl ErrorKind {
    /// Returns the name of the kind for metrics, traces and logs, in snake case.
    ///
    /// # Examples
    /// ```
    /// use lock_core::{ErrorKind, LossReason};
    ///
    /// assert_eq!(ErrorKind::Unreachable.name(), "unreachable");
    /// assert_eq!(ErrorKind::SessionLost(LossReason::Expired).name(), "session_lost");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::InvalidName => "invalid_name",
            ErrorKind::InvalidArgument => "invalid_argument",
            ErrorKind::Configuration => "configuration",
            ErrorKind::Unreachable => "unreachable",
            ErrorKind::Exhausted => "exhausted",
            ErrorKind::Refused => "refused",
            ErrorKind::SessionLost(_) => "session_lost",
            ErrorKind::Evicted => "evicted",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Internal => "internal",
            ErrorKind::Forked => "forked",
        }
    }
}

/// Why a session or one lock was lost. What was lost once does not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum LossReason {
    /// The deadline passed without a renewal: the coordinator could not be reached, or this process
    /// or machine stood still.
    #[error("it could not be renewed before its deadline")]
    Expired,
    /// The coordinator reports that the session is gone.
    #[error("the coordinator ended the session")]
    SessionGone,
    /// An administrator or another client removed our entry from the queue.
    #[error("the entry was removed from the queue")]
    EntryGone,
    /// This process closed the session.
    #[error("it was closed")]
    Closed,
    /// The coordinator has lost its store, and the session with it, or its store went back to an
    /// older state.
    #[error("the coordinator's store was moved, removed or replaced")]
    StoreGone,
}

impl LossReason {
    /// Returns the name of the reason for metrics, traces and logs, in snake case.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(lock_core::LossReason::EntryGone.name(), "entry_gone");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            LossReason::Expired => "expired",
            LossReason::SessionGone => "session_gone",
            LossReason::EntryGone => "entry_gone",
            LossReason::Closed => "closed",
            LossReason::StoreGone => "store_gone",
        }
    }
}

/// What is known of the effect of an operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// It certainly had none.
    None,
    /// The reply was lost, so it may have taken effect.
    Unknown,
}

impl Error {
    /// Returns an error of this kind with a message that names the input or address and the remedy.
    /// No effect, no source.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: message.into(),
            effect: Effect::None,
            source: None,
            operation: None,
            lock: None,
            retry_after: None,
        }
    }

    /// Sets the error that caused this one. The message should not repeat the source's text.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Sets what is known about the effect.
    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    /// Sets how long the caller should wait before it tries again; see
    /// [`retry_after`](Error::retry_after).
    #[must_use]
    pub fn with_retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
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

    /// Sets the operation and the lock, for what they are not set yet: the innermost operation
    /// stays.
    pub(crate) fn during(mut self, operation: Operation, lock: Option<&LockName>) -> Self {
        self.operation.get_or_insert(operation);
        if self.lock.is_none() {
            self.lock = lock.cloned();
        }
        self
    }

    /// Returns the error of an operation on a held lock that was lost for this reason.
    pub(crate) fn hold_lost(reason: LossReason) -> Self {
        match reason {
            LossReason::EntryGone => {
                Error::new(ErrorKind::Evicted, format!("the lock was lost: {reason}"))
            }
            reason => Error::session_lost(reason),
        }
    }

    /// Returns the operation that failed: the innermost one, such as the opening of a session for
    /// an acquire. `None` if no coordinator was to be asked yet.
    pub fn operation(&self) -> Option<Operation> {
        self.operation
    }

    /// Returns the name of the lock that the operation was for, if it was for one.
    pub fn lock(&self) -> Option<&LockName> {
        self.lock.as_ref()
    }

    /// Returns the kind of the failure, which is what a program acts on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns whether the operation may have taken effect.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Returns how long to wait before another try, if that is known: the coordinator said so,
    /// or this process sends nothing before. No earlier try can be expected to succeed.
    ///
    /// The core itself waits at least that long between the tries of one operation, and fails at
    /// once if the time that the operation has would be over by then.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use lock_core::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Exhausted, "the coordinator has too many leases")
    ///     .with_retry_after(Duration::from_secs(1));
    /// assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    /// ```
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns whether the same call may succeed later although the caller changes nothing.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Unreachable | ErrorKind::Exhausted)
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Error::new(ErrorKind::InvalidName, error.to_string())
    }
}

// `LockName -> LockName` goes through the `TryFrom` of the standard library, whose error is this,
// so that a name is taken where a text is.
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
        let source = error.source().expect("a source");
        assert_eq!(source.to_string(), "refused");
        assert!(source.is::<std::io::Error>(), "a caller can ask what it is");
        assert!(error.is_retryable());
        assert_eq!(error.effect(), Effect::Unknown);
    }
}

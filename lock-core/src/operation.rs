//! The operations that an error can name.

use std::fmt;

/// The operation that failed with an error; see [`Error::operation`](crate::Error::operation).
///
/// Displayed as a verb with its object, such as "open a session".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Opens the session, for an acquire that found none.
    OpenSession,
    /// Closes the session.
    CloseSession,
    /// Acquires a lock.
    Acquire,
    /// Releases a lock.
    Release,
    /// Announces a hold.
    Announce,
    /// Reads a value.
    Get,
    /// Stores a value.
    Put,
    /// Removes a value.
    Delete,
    /// Reads the queue of a lock.
    ReadQueue,
    /// Lists the locks of a namespace.
    ListLocks,
    /// Removes an entry of any owner.
    Evict,
    /// Raises the offset of the tokens.
    RaiseTokenOffset,
}

impl Operation {
    /// Returns the name of the operation for metrics, traces and logs, in snake case.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(lock_core::Operation::OpenSession.name(), "open_session");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Operation::OpenSession => "open_session",
            Operation::CloseSession => "close_session",
            Operation::Acquire => "acquire",
            Operation::Release => "release",
            Operation::Announce => "announce",
            Operation::Get => "get",
            Operation::Put => "put",
            Operation::Delete => "delete",
            Operation::ReadQueue => "read_queue",
            Operation::ListLocks => "list_locks",
            Operation::Evict => "evict",
            Operation::RaiseTokenOffset => "raise_token_offset",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::OpenSession => "open a session",
            Operation::CloseSession => "close the session",
            Operation::Acquire => "acquire a lock",
            Operation::Release => "release a lock",
            Operation::Announce => "announce a hold",
            Operation::Get => "read a value",
            Operation::Put => "store a value",
            Operation::Delete => "remove a value",
            Operation::ReadQueue => "read a queue",
            Operation::ListLocks => "list locks",
            Operation::Evict => "evict an entry",
            Operation::RaiseTokenOffset => "raise the token offset",
        })
    }
}

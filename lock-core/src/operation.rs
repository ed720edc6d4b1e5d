//! What an error was met by.

use std::fmt;

/// What was asked for when an error was met: see [`Error::operation`](crate::Error::operation).
///
/// Displayed as a verb with its object, such as "open a session".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// To open the session, for an acquire that found none.
    OpenSession,
    /// To close the session.
    CloseSession,
    /// To acquire a lock.
    Acquire,
    /// To release a lock.
    Release,
    /// To announce a hold.
    Announce,
    /// To read a value.
    Get,
    /// To store a value.
    Put,
    /// To remove a value.
    Delete,
    /// To read the queue of a lock.
    ReadQueue,
    /// To list the locks of a namespace.
    ListLocks,
    /// To remove an entry of anybody.
    Evict,
    /// To raise the offset of the tokens.
    RaiseTokenOffset,
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

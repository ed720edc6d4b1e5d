//! What can go wrong in the coordinator.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lock_core::{Effect, ErrorKind, LossReason};

use crate::machine::op::{LeaseId, Revision};

/// Why the coordinator refused a request, or cannot be opened.
///
/// A refused request has changed nothing, with one exception: after [`Error::Stopped`] or
/// [`Error::Displaced`] a request that was under way may or may not have been recorded; what the
/// store holds tells when it is opened again.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The revision asked for is no longer kept: read the current state, and watch from there.
    #[error(
        "revision {requested} is no longer kept, the oldest available is {compact_revision}; read the current state and go on from its revision"
    )]
    Compacted {
        /// The revision asked for.
        requested: Revision,
        /// The oldest revision that this request could be answered for.
        compact_revision: Revision,
    },

    /// The revision asked for has not happened yet.
    #[error("revision {requested} is in the future, the store is at {current}")]
    FutureRevision {
        /// The revision asked for.
        requested: Revision,
        /// The store's revision.
        current: Revision,
    },

    /// There is no such lease: it expired, was revoked, or never existed.
    #[error("lease {id} not found: it expired, was revoked, or never existed")]
    LeaseNotFound {
        /// The lease asked for.
        id: LeaseId,
    },

    /// A lease with the chosen id exists already.
    #[error("lease {id} exists already; choose another id, or 0 to have one chosen")]
    LeaseExists {
        /// The id asked for.
        id: LeaseId,
    },

    /// A lease id must be positive, or 0 where one is to be chosen.
    #[error("lease id {id} is negative; use a positive one, or 0 to have one chosen")]
    InvalidLeaseId {
        /// The id asked for.
        id: LeaseId,
    },

    /// The time to live is above the limit.
    #[error("a time to live of {} s is above the limit of {} s", .ttl.as_secs(), .max.as_secs())]
    LeaseTtlTooLarge {
        /// The time to live asked for.
        ttl: Duration,
        /// The longest that is granted.
        max: Duration,
    },

    /// The number of leases is at its limit.
    #[error(
        "there are {limit} leases, which is the limit; revoke some, or wait for some to expire"
    )]
    TooManyLeases {
        /// The limit.
        limit: usize,
    },

    /// The number of watches is at its limit.
    #[error("there are {limit} watches, which is the limit; cancel some")]
    TooManyWatches {
        /// The limit.
        limit: usize,
    },

    /// A write that keeps the old value or lease found no such key.
    #[error("key not found, so there is no old value or lease to keep")]
    KeyNotFound,

    /// A key is empty.
    #[error("an empty key is not allowed")]
    EmptyKey,

    /// A transaction writes one key twice, or writes and deletes it.
    #[error("a transaction may change each key once, but {key:?} is changed again")]
    DuplicateKey {
        /// The key, with bytes that are not text escaped.
        key: String,
    },

    /// A transaction has too many operations or conditions, nested ones counted.
    #[error("a transaction may have at most {limit} operations or conditions along any path")]
    TooManyOps {
        /// The limit.
        limit: usize,
    },

    /// A request is too large.
    #[error("the request has {size} bytes of keys and values, the limit is {limit}")]
    RequestTooLarge {
        /// Bytes of keys and values in the request.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },

    /// The keys and values together are at the limit.
    #[error("the store holds its limit of {limit} bytes of keys and values; delete some keys")]
    QuotaExceeded {
        /// The limit in bytes.
        limit: u64,
    },

    /// The disk or the user's quota is full. Nothing is lost; writing resumes by itself once there
    /// is space. Releases and renewals go on.
    #[error(
        "no space left for {}: {source}; free some space, writing resumes by itself",
        .path.display()
    )]
    NoSpace {
        /// The file that cannot grow.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },

    /// Too many requests wait for the disk; try again after a pause. Releases and renewals go on.
    #[error("too many requests are waiting for the disk; try again after a pause")]
    Overloaded,

    /// A watch's consumer is so slow that its queue is full: watch again from `resume_revision`.
    #[error(
        "the watch was cancelled because its consumer is too slow; watch again from revision {resume_revision}"
    )]
    SlowWatcher {
        /// The first revision that was not delivered.
        resume_revision: Revision,
    },

    /// Another coordinator has the data folder open.
    #[error(
        "{} is in use by {}; stop that process or use another folder",
        .path.display(),
        .pid.map_or_else(|| "another process".to_string(), |pid| format!("process {pid}"))
    )]
    AlreadyOpen {
        /// The data folder.
        path: PathBuf,
        /// The process that has it open, if it has said so.
        pid: Option<u32>,
    },

    /// The folder that this coordinator serves is not the one at its path any more, so whoever
    /// comes now finds another one there. It has stopped for good.
    #[error(
        "the coordinator has stopped: {} was moved, removed or replaced while it was served",
        .path.display()
    )]
    Displaced {
        /// The path at which something else, or nothing, is now.
        path: PathBuf,
    },

    /// The folder is free, but the process that served the folder that was at this path before
    /// does not end.
    #[error(
        "{} still serves the folder that was at {} before: end it, or let it go on if it is stopped; `kill -9` loses nothing that was acknowledged",
        .pid.map_or_else(|| "another process".to_string(), |pid| format!("process {pid}")),
        .path.display()
    )]
    Lingering {
        /// The path of the data folder.
        path: PathBuf,
        /// The process, if the system tells which it is.
        pid: Option<u32>,
    },

    /// A file is damaged: what it holds is not, or may not be, all that was acknowledged.
    #[error(
        "{} is damaged: {detail}; restore the folder from a backup, or move it away to start empty",
        .path.display()
    )]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },

    /// The store was written in a format that this program does not know.
    #[error(
        "{} has format version {found}, this program knows {supported}; use the program that wrote it, or a newer one",
        .path.display()
    )]
    FormatVersion {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u64,
        /// The version that this program reads and writes.
        supported: u64,
    },

    /// The coordinator has stopped and answers nothing more.
    #[error("the coordinator has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: Arc<str>,
    },

    /// The system refused an operation on a file.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

/// Converts an error from opening a coordinator into the error that a user of locks gets.
pub(crate) fn to_open_error(error: Error) -> lock_core::Error {
    lock_core::Error::new(ErrorKind::Configuration, error.to_string())
}

/// Converts an error of the coordinator into the error that a user of locks gets.
pub(crate) fn to_lock_error(error: Error) -> lock_core::Error {
    let (kind, effect) = match &error {
        Error::LeaseNotFound { .. } => (
            ErrorKind::SessionLost(LossReason::SessionGone),
            Effect::None,
        ),
        Error::NoSpace { .. }
        | Error::QuotaExceeded { .. }
        | Error::Overloaded
        | Error::TooManyLeases { .. }
        | Error::TooManyWatches { .. } => (ErrorKind::Exhausted, Effect::None),
        // Final: nothing in this process starts the coordinator again.
        Error::Stopped { .. } | Error::Displaced { .. } => {
            (ErrorKind::Configuration, Effect::Unknown)
        }
        Error::AlreadyOpen { .. }
        | Error::Lingering { .. }
        | Error::Damaged { .. }
        | Error::FormatVersion { .. }
        | Error::Io { .. } => (ErrorKind::Configuration, Effect::None),
        _ => (ErrorKind::Internal, Effect::None),
    };
    let message = match &error {
        Error::Stopped { .. } | Error::Displaced { .. } => "the embedded coordinator has stopped",
        Error::LeaseNotFound { .. } => "the coordinator ended the session",
        _ => "the embedded coordinator refused the request",
    };
    lock_core::Error::new(kind, message)
        .with_effect(effect)
        .with_source(error)
}

//! The errors of the coordinator.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lock_core::{Effect, ErrorKind, LossReason};

use crate::machine::op::{LeaseId, Revision};

/// Why the coordinator refused a request, or cannot be opened.
///
/// A refused request has changed nothing, with one exception: after [`Error::Stopped`] or
/// [`Error::Displaced`] a request in progress may or may not have been recorded. That is known when
/// the store is opened again.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The requested revision is no longer kept. Read the current state, and watch from there.
    #[error(
        "revision {requested} is no longer kept, the oldest available one is {compact_revision}; \
         read the current state and continue from its revision"
    )]
    Compacted {
        /// The requested revision.
        requested: Revision,
        /// The oldest revision for which this request would be possible.
        compact_revision: Revision,
    },

    /// The requested revision is in the future.
    #[error("revision {requested} is in the future, the store is at revision {current}")]
    FutureRevision {
        /// The requested revision.
        requested: Revision,
        /// The store's revision.
        current: Revision,
    },

    /// There is no such lease: it expired, was revoked, or never existed.
    #[error("lease {id} not found: it expired, was revoked, or never existed")]
    LeaseNotFound {
        /// The id of the lease.
        id: LeaseId,
    },

    /// A lease with the chosen id exists already.
    #[error("lease {id} exists already; use another id, or 0 to let the coordinator choose one")]
    LeaseExists {
        /// The requested id.
        id: LeaseId,
    },

    /// The lease id is negative. It must be positive, or 0 for the coordinator to choose one.
    #[error(
        "lease id {id} is negative; use a positive one, or 0 to let the coordinator choose one"
    )]
    InvalidLeaseId {
        /// The requested id.
        id: LeaseId,
    },

    /// The time to live is above the limit.
    #[error("a time to live of {} s is above the limit of {} s", .ttl.as_secs(), .max.as_secs())]
    LeaseTtlTooLarge {
        /// The requested time to live.
        ttl: Duration,
        /// The longest time to live that is granted.
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

    /// The lease has as many keys as one may have.
    #[error("the lease has {limit} keys, which is the limit; use a lease for each group of keys")]
    TooManyLeaseKeys {
        /// The limit.
        limit: usize,
    },

    /// The queue is as long as it may be.
    #[error(
        "{entries} contenders are in this queue, which is the limit, so there is no place {}; try \
         again after a pause",
        entries + 1
    )]
    QueueFull {
        /// The number of contenders in the queue, those that hold the lock among them.
        entries: usize,
    },

    /// The request would look at too many keys.
    #[error(
        "the request would look at more than {limit} keys, which is the limit; ask for a smaller \
         range, or for a page at a time"
    )]
    TooManyKeys {
        /// The limit.
        limit: usize,
    },

    /// The answer would be too long.
    #[error(
        "the answer would be longer than {limit} bytes, which is the limit; ask for a page at a \
         time, or for the keys only"
    )]
    AnswerTooLarge {
        /// The limit in bytes.
        limit: usize,
    },

    /// The number of watches is at its limit.
    #[error("there are {limit} watches, which is the limit; cancel some")]
    TooManyWatches {
        /// The limit.
        limit: usize,
    },

    /// The number of watches of ranges that are neither one key nor a prefix is at its limit.
    #[error(
        "there are {limit} watches of ranges that are no prefixes, which is the limit; watch a \
         prefix, or cancel some"
    )]
    TooManyRangeWatches {
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

    /// A path through a transaction, with its nested ones, has too many operations or conditions.
    #[error("a transaction may have at most {limit} operations or conditions along any path")]
    TooManyOps {
        /// The limit.
        limit: usize,
    },

    /// A request is too large.
    #[error("the request has {size} bytes of keys and values, but the limit is {limit}")]
    RequestTooLarge {
        /// Bytes of keys and values in the request.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },

    /// The store holds its limit of keys and values.
    #[error("the store holds its limit of {limit} bytes of keys and values; delete some keys")]
    QuotaExceeded {
        /// The limit in bytes.
        limit: u64,
    },

    /// The disk or the user's quota is full. Nothing is lost, and writes resume by themselves once
    /// there is space. Releases and renewals continue.
    #[error(
        "no space left for {}: {source}; free some space, and writes resume by themselves",
        .path.display()
    )]
    NoSpace {
        /// The file that cannot grow.
        path: PathBuf,
        /// The system's error.
        source: Arc<io::Error>,
    },

    /// Too many requests wait for the disk. Try again after a pause. Releases and renewals
    /// continue.
    #[error("too many requests are waiting for the disk; try again after a pause")]
    Overloaded,

    /// Another client takes a snapshot.
    #[error("another snapshot is being taken; try again when it has ended")]
    SnapshotUnderWay,

    /// The queue of a watch is full, because its consumer is too slow. Watch again from
    /// `resume_revision`.
    #[error(
        "the watch was cancelled because its consumer is too slow; watch again from revision \
         {resume_revision}"
    )]
    SlowWatcher {
        /// The first revision that was not delivered.
        resume_revision: Revision,
    },

    /// The subject of the request may not do this. What it asked about is not told.
    #[error("permission denied; `turnlock rules check` says why, at the server")]
    PermissionDenied,

    /// Another coordinator has the data folder open.
    #[error(
        "{} is in use by {}; stop that process or use another folder",
        .path.display(),
        .pid.map_or_else(|| "another process".to_string(), |pid| format!("process {pid}"))
    )]
    AlreadyOpen {
        /// The data folder.
        path: PathBuf,
        /// The id of that process, if it has written it into the folder.
        pid: Option<u32>,
    },

    /// The folder of this coordinator is no longer the one at its path, so a newcomer finds another
    /// folder there. The coordinator has stopped for good.
    #[error(
        "the coordinator has stopped: {} was moved, removed or replaced while it was served",
        .path.display()
    )]
    Displaced {
        /// The path that now leads to another folder, or to none.
        path: PathBuf,
    },

    /// The folder is free, but the process that served an earlier folder at this path does not end.
    #[error(
        "{} still serves the folder that was at {} before: end it, or resume it if it is stopped; \
         `kill -9` loses nothing that was acknowledged",
        .pid.map_or_else(|| "another process".to_string(), |pid| format!("process {pid}")),
        .path.display()
    )]
    Lingering {
        /// The path of the data folder.
        path: PathBuf,
        /// The id of the process, if the system reports it.
        pid: Option<u32>,
    },

    /// A file is damaged: it does not, or may not, hold everything that was acknowledged.
    #[error(
        "{} is damaged: {detail}; restore the folder from a backup, or move it away to start empty",
        .path.display()
    )]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with the file.
        detail: String,
    },

    /// The store has a format that this program does not know.
    #[error(
        "{} has format version {found}, but this program knows only {supported}; use the program \
         that wrote it, or a newer one",
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

    /// The coordinator has stopped and serves no more requests.
    #[error("the coordinator has stopped: {reason}")]
    Stopped {
        /// The reason.
        reason: Arc<str>,
    },

    /// The system refused an operation on a file.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
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
        | Error::TooManyLeaseKeys { .. }
        | Error::QueueFull { .. }
        | Error::TooManyKeys { .. }
        | Error::AnswerTooLarge { .. }
        | Error::TooManyWatches { .. }
        | Error::TooManyRangeWatches { .. }
        | Error::SnapshotUnderWay => (ErrorKind::Exhausted, Effect::None),
        // Final: nothing in this process starts the coordinator again.
        Error::Stopped { .. } | Error::Displaced { .. } => {
            (ErrorKind::Configuration, Effect::Unknown)
        }
        Error::AlreadyOpen { .. }
        | Error::Lingering { .. }
        | Error::Damaged { .. }
        | Error::FormatVersion { .. }
        | Error::Io { .. } => (ErrorKind::Configuration, Effect::None),
        Error::PermissionDenied => (ErrorKind::Refused, Effect::None),
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

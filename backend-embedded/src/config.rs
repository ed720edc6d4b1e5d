//! The settings of a coordinator: where it keeps its data, and its limits.

use std::path::PathBuf;
use std::time::Duration;

/// The shortest time to live of a lease. A lease that asks for less is granted this.
pub const MIN_LEASE_TTL: Duration = Duration::from_secs(1);

/// The longest time to live of a lease (as in etcd). A request for more is refused.
pub const MAX_LEASE_TTL: Duration = Duration::from_secs(9_000_000_000);

/// The most operations, or conditions, along any path of a transaction (etcd's default).
pub const MAX_TXN_OPS: usize = 128;

/// The most bytes of keys and values in one request (etcd's default: 1.5 MiB).
pub const MAX_REQUEST_BYTES: usize = 1536 * 1024;

/// The settings of a durable coordinator.
///
/// ```
/// use backend_embedded::{Config, Limits};
///
/// let limits = Limits::default().with_leases(10_000);
/// let config = Config::new("/var/lib/myapp/locks").with_limits(limits);
/// assert_eq!(config.limits.leases, 10_000);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The folder of the store, created with mode 0700 if absent. Only one coordinator can own it.
    pub data_dir: PathBuf,
    /// Bounds on memory and load.
    pub limits: Limits,
}

impl Config {
    /// Returns the settings for a coordinator in this folder, with the default limits.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            limits: Limits::default(),
        }
    }

    /// Sets the limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

/// Bounds on what the coordinator holds in memory. The defaults suit a lock service with thousands
/// of clients.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of keys and values in the store (default 1 GiB). A write beyond that is refused with
    /// [`QuotaExceeded`](crate::Error::QuotaExceeded).
    pub store_bytes: u64,
    /// The number of leases (default 100,000). At the limit, a new lease takes the place of those
    /// that were abandoned: they have no keys, and were not renewed for half of their time to live,
    /// for one minute at least and one hour at most.
    pub leases: usize,
    /// The number of leases of one subject, where there are rules and thus subjects (default
    /// 50,000).
    pub leases_of_subject: usize,
    /// The number of keys that may be attached to one lease (default 100,000). All of them are deleted
    /// at once when the lease ends.
    pub lease_keys: usize,
    /// The number of keys that one request may look at (default 1,000,000): read, count, compare or
    /// delete. An entry of a queue is found without looking at the others. A request for more is
    /// refused with [`TooManyKeys`](crate::Error::TooManyKeys).
    pub request_keys: usize,
    /// Bytes of keys and values in the answer to one request (default 64 MiB). A request for more is
    /// refused with [`AnswerTooLarge`](crate::Error::AnswerTooLarge).
    pub request_answer_bytes: usize,
    /// The number of contenders in one queue, those that hold the lock among them (no limit by
    /// default). A key with a lease counts among those of its directory, which is the key up to its
    /// last `/`, unless the directory's name begins with `@`. A further one is refused with
    /// [`QueueFull`](crate::Error::QueueFull).
    pub queue_entries: usize,
    /// The number of watches of all connections together (default 200,000). Of ranges that are
    /// neither one key nor a prefix, there are 1,000 at most.
    pub watches: usize,
    /// The number of recent events kept so that a watch can start in the past (default 10,000).
    pub history_events: usize,
    /// Bytes of keys and values of those events (default 8 MiB).
    pub history_bytes: usize,
    /// The number of events that may wait for one watch's consumer (default 4,096). Past events that
    /// the watch starts with do not wait: they are read from the history. An empty queue accepts all
    /// events of one commit.
    pub watch_queue_events: usize,
    /// Bytes of keys and values of those events (default 8 MiB).
    pub watch_queue_bytes: usize,
    /// Bytes of all events that wait for all consumers together (default 128 MiB), with about 100
    /// for each event. An event counts for each watch that it waits for. At this limit a watch ends
    /// as one whose consumer is too slow, unless nothing else waits for it and the event is small.
    pub watch_backlog_bytes: usize,
    /// The number of requests that may wait for one commit (default 16,384). Beyond this, or beyond
    /// `pending_bytes`, new requests are refused with [`Overloaded`](crate::Error::Overloaded).
    /// Revokes, and transactions that only delete, are accepted up to twice this number. Renewals
    /// never wait.
    pub pending_requests: usize,
    /// Bytes of keys and values that may wait for one commit (default 32 MiB). See
    /// `pending_requests`.
    pub pending_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            store_bytes: 1 << 30,
            leases: 100_000,
            leases_of_subject: 50_000,
            lease_keys: 100_000,
            request_keys: 1_000_000,
            request_answer_bytes: 64 << 20,
            queue_entries: usize::MAX,
            watches: 200_000,
            history_events: 10_000,
            history_bytes: 8 << 20,
            watch_queue_events: 4_096,
            watch_queue_bytes: 8 << 20,
            watch_backlog_bytes: 128 << 20,
            pending_requests: 16_384,
            pending_bytes: 32 << 20,
        }
    }
}

impl Limits {
    /// Sets [`store_bytes`](Self::store_bytes).
    #[must_use]
    pub fn with_store_bytes(mut self, bytes: u64) -> Self {
        self.store_bytes = bytes;
        self
    }

    /// Sets [`leases`](Self::leases).
    #[must_use]
    pub fn with_leases(mut self, leases: usize) -> Self {
        self.leases = leases;
        self
    }

    /// Sets [`leases_of_subject`](Self::leases_of_subject).
    #[must_use]
    pub fn with_leases_of_subject(mut self, leases: usize) -> Self {
        self.leases_of_subject = leases;
        self
    }

    /// Sets [`lease_keys`](Self::lease_keys).
    #[must_use]
    pub fn with_lease_keys(mut self, keys: usize) -> Self {
        self.lease_keys = keys;
        self
    }

    /// Sets [`request_keys`](Self::request_keys).
    #[must_use]
    pub fn with_request_keys(mut self, keys: usize) -> Self {
        self.request_keys = keys;
        self
    }

    /// Sets [`request_answer_bytes`](Self::request_answer_bytes).
    #[must_use]
    pub fn with_request_answer_bytes(mut self, bytes: usize) -> Self {
        self.request_answer_bytes = bytes;
        self
    }

    /// Sets [`queue_entries`](Self::queue_entries).
    #[must_use]
    pub fn with_queue_entries(mut self, entries: usize) -> Self {
        self.queue_entries = entries;
        self
    }

    /// Sets [`watches`](Self::watches).
    #[must_use]
    pub fn with_watches(mut self, watches: usize) -> Self {
        self.watches = watches;
        self
    }

    /// Sets [`history_events`](Self::history_events).
    #[must_use]
    pub fn with_history_events(mut self, events: usize) -> Self {
        self.history_events = events;
        self
    }

    /// Sets [`history_bytes`](Self::history_bytes).
    #[must_use]
    pub fn with_history_bytes(mut self, bytes: usize) -> Self {
        self.history_bytes = bytes;
        self
    }

    /// Sets [`watch_queue_events`](Self::watch_queue_events).
    #[must_use]
    pub fn with_watch_queue_events(mut self, events: usize) -> Self {
        self.watch_queue_events = events;
        self
    }

    /// Sets [`watch_queue_bytes`](Self::watch_queue_bytes).
    #[must_use]
    pub fn with_watch_queue_bytes(mut self, bytes: usize) -> Self {
        self.watch_queue_bytes = bytes;
        self
    }

    /// Sets [`watch_backlog_bytes`](Self::watch_backlog_bytes).
    #[must_use]
    pub fn with_watch_backlog_bytes(mut self, bytes: usize) -> Self {
        self.watch_backlog_bytes = bytes;
        self
    }

    /// Sets [`pending_requests`](Self::pending_requests).
    #[must_use]
    pub fn with_pending_requests(mut self, requests: usize) -> Self {
        self.pending_requests = requests;
        self
    }

    /// Sets [`pending_bytes`](Self::pending_bytes).
    #[must_use]
    pub fn with_pending_bytes(mut self, bytes: usize) -> Self {
        self.pending_bytes = bytes;
        self
    }
}

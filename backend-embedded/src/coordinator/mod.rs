//! The coordinator: one writer over the state machine and the store.
#![allow(clippy::unimplemented, dead_code, unused_variables)]

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Limits};
use crate::error::Error;
use crate::machine::op::{
    Delete, Event, KeyRange, KeyValue, LeaseId, Put, Range, RangeResult, Revision, Txn, TxnResult,
};

struct Inner;

/// A handle to a coordinator; clones share it. It stops when the last handle and the last
/// [`Watcher`] are gone, or at [`close`](Coordinator::close).
#[derive(Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
}

/// An answer, and the store revision after the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied<T> {
    /// The store's revision after the request (etcd's `header.revision`).
    pub revision: Revision,
    /// The answer.
    pub result: T,
}

/// A granted lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Its id.
    pub id: LeaseId,
    /// The time to live granted, whole seconds.
    pub ttl: Duration,
}

/// What is known of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Its id.
    pub id: LeaseId,
    /// The time to live granted, whole seconds.
    pub granted: Duration,
    /// What is left of it if it is not renewed.
    pub remaining: Duration,
    /// The keys attached, ascending; empty unless asked for.
    pub keys: Vec<bytes::Bytes>,
}

/// The coordinator's vital signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The revision of the last durable change.
    pub revision: Revision,
    /// The revision of the last explicit compaction, 0 if there was none.
    pub compact_revision: Revision,
    /// Random, chosen when the store was created, never 0.
    pub cluster_id: u64,
    /// Random, chosen when the store was created, never 0.
    pub member_id: u64,
    /// Bytes of the store's file; bytes of keys and values when in memory only.
    pub db_size: u64,
    /// Bytes of keys and values.
    pub db_size_in_use: u64,
    /// Number of keys.
    pub keys: usize,
    /// Number of live leases.
    pub leases: usize,
}

impl Coordinator {
    /// Opens (creating if absent) the durable coordinator in `config.data_dir`. Blocking: it reads
    /// and checks the store's file.
    ///
    /// # Errors
    /// [`Error::AlreadyOpen`], [`Error::Damaged`], [`Error::FormatVersion`], [`Error::NoSpace`],
    /// [`Error::Io`].
    pub fn open(config: Config) -> Result<Coordinator, Error> {
        unimplemented!()
    }

    /// Memory only: nothing survives the process.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses the thread that expires leases.
    pub fn in_memory(limits: Limits) -> Result<Coordinator, Error> {
        unimplemented!()
    }

    /// Runs a transaction. Once it is answered it is durable. Not cancel safe in the sense that a
    /// dropped call may still take effect; it takes effect wholly or not at all.
    pub async fn txn(&self, txn: Txn) -> Result<Applied<TxnResult>, Error> {
        unimplemented!()
    }

    /// Reads a range.
    pub async fn range(&self, range: Range) -> Result<Applied<RangeResult>, Error> {
        unimplemented!()
    }

    /// Writes a key; answers its previous state if asked for.
    pub async fn put(&self, put: Put) -> Result<Applied<Option<Arc<KeyValue>>>, Error> {
        unimplemented!()
    }

    /// Deletes a range; answers how many keys went and, if asked for, which.
    pub async fn delete(&self, delete: Delete) -> Result<Applied<(u64, Vec<Arc<KeyValue>>)>, Error> {
        unimplemented!()
    }

    /// Forgets the events before `revision`; answers the store's revision.
    pub async fn compact(&self, revision: Revision) -> Result<Revision, Error> {
        unimplemented!()
    }

    /// Grants a lease; id 0 has one chosen.
    pub async fn grant(&self, id: LeaseId, ttl: Duration) -> Result<Granted, Error> {
        unimplemented!()
    }

    /// Revokes a lease and deletes its keys; answers the store's revision.
    pub async fn revoke(&self, id: LeaseId) -> Result<Revision, Error> {
        unimplemented!()
    }

    /// Renews a lease; answers its time to live. Never waits for the disk.
    pub async fn keep_alive(&self, id: LeaseId) -> Result<Duration, Error> {
        unimplemented!()
    }

    /// What is left of a lease and, if `keys`, which keys are attached.
    pub async fn time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseInfo, Error> {
        unimplemented!()
    }

    /// The ids of all leases, ascending.
    pub async fn leases(&self) -> Result<Vec<LeaseId>, Error> {
        unimplemented!()
    }

    /// Watches `keys` from revision `start`; from now on when `None`.
    ///
    /// # Errors
    /// [`Error::Compacted`] when events from `start` on are no longer kept.
    pub fn watch(&self, keys: KeyRange, start: Option<Revision>) -> Result<Watcher, Error> {
        unimplemented!()
    }

    /// The vital signs, as of the last durable change.
    pub fn status(&self) -> Status {
        unimplemented!()
    }

    /// The number of live leases, to wait for "no session for a while".
    pub fn live_leases(&self) -> tokio::sync::watch::Receiver<usize> {
        unimplemented!()
    }

    /// Resolves, with the reason, once the coordinator has stopped. Cancel safe.
    pub async fn closed(&self) -> Error {
        unimplemented!()
    }

    /// Commits what is pending, stops, and releases the folder. Blocking, for a commit's time.
    ///
    /// # Errors
    /// The reason if the coordinator had stopped by itself before.
    pub fn close(&self) -> Result<(), Error> {
        unimplemented!()
    }
}

/// The changes of one revision that a watch saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchBatch {
    /// The revision that made them.
    pub revision: Revision,
    /// The changes, in the order they were made; never empty.
    pub events: Vec<Arc<Event>>,
}

/// A watch; dropping it cancels it.
pub struct Watcher;

impl Watcher {
    /// The revision that this watch starts from.
    pub fn start_revision(&self) -> Revision {
        unimplemented!()
    }

    /// The revision up to which everything has been taken from this watch; `None` while events wait
    /// in its queue. For progress notifications.
    pub fn progress(&self) -> Option<Revision> {
        unimplemented!()
    }

    /// The next changes. Cancel safe: a dropped call loses nothing.
    ///
    /// # Errors
    /// [`Error::SlowWatcher`] after the queue overflowed, [`Error::Stopped`].
    pub async fn next(&mut self) -> Result<WatchBatch, Error> {
        unimplemented!()
    }
}

//! Requests that are applied and not yet recorded.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::config::Limits;
use crate::error::Error;
use crate::machine::op::{Event, Op, Revision, Txn};
use crate::machine::{Changes, LeaseChange};
use crate::store::Batch;

/// How a request is treated under overload or without disk space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Changes nothing.
    Read,
    /// Only deletes. Such requests are served while new work is refused, because they end the
    /// shortage.
    Release,
    /// Adds something.
    Write,
}

impl Class {
    pub(super) fn of(txn: &Txn) -> Class {
        let mut class = Class::Read;
        for op in txn.then.iter().chain(&txn.or_else) {
            match op {
                Op::Range(_) => {}
                Op::Put(_) => return Class::Write,
                Op::Delete(_) => class = Class::Release,
                Op::Txn(nested) => match Class::of(nested) {
                    Class::Read => {}
                    Class::Release => class = Class::Release,
                    Class::Write => return Class::Write,
                },
            }
        }
        class
    }

    /// Returns whether a request that was undone may be applied once more before it is refused.
    pub(super) fn may_be_repeated(self) -> bool {
        self != Class::Write
    }
}

/// The outcome of a commit.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// The commit is durable.
    Durable,
    /// The commit could not be recorded and is undone.
    Undone(Error),
    /// The coordinator has stopped. Whether the commit was recorded is unknown.
    Stopped(Error),
}

/// The requests that share the next commit.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) batch: Batch,
    pub(super) events: Vec<(Revision, Vec<Arc<Event>>)>,
    pub(super) compacted: Option<Revision>,
    waiters: Vec<oneshot::Sender<Outcome>>,
    requests: usize,
    bytes: usize,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty() && self.batch.is_empty()
    }

    /// Returns the number of requests.
    #[cfg(feature = "server")]
    pub(super) fn requests(&self) -> usize {
        self.requests
    }

    pub(super) fn has_room(&self, class: Class, limits: &Limits) -> bool {
        let factor = if class == Class::Release { 2 } else { 1 };
        self.requests < limits.pending_requests.saturating_mul(factor)
            && self.bytes < limits.pending_bytes.saturating_mul(factor)
    }

    /// Adds the changes of one request, which brought the store to `revision`.
    pub(super) fn add(&mut self, revision: Revision, changes: Changes) {
        self.requests += 1;
        for event in &changes.events {
            self.bytes += event.kv.size();
            let kv = (!event.deleted).then(|| Arc::clone(&event.kv));
            self.batch.keys.insert(event.kv.key.clone(), kv);
        }
        for change in changes.leases {
            match change {
                LeaseChange::Granted { id, ttl } => self.batch.leases.insert(id, Some(ttl)),
                LeaseChange::Removed { id } => self.batch.leases.insert(id, None),
            };
        }
        self.compacted = changes.compacted.or(self.compacted);
        self.batch.compacted = self.compacted;
        if !changes.events.is_empty() {
            self.batch.revision = Some(revision);
            self.events.push((revision, changes.events));
        }
    }

    /// Returns a receiver of the outcome of this commit.
    pub(super) fn add_waiter(&mut self) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        self.waiters.push(sender);
        // A request that changed something was counted by `add`.
        if self.waiters.len() > self.requests {
            self.requests = self.waiters.len();
        }
        receiver
    }

    /// Reports the outcome to all waiters. Those whose caller has gone are skipped.
    pub(super) fn notify(self, outcome: &Outcome) {
        for waiter in self.waiters {
            let _ = waiter.send(outcome.clone());
        }
    }
}

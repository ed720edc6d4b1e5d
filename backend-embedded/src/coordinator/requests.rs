//! The requests that read and write keys, and how each of them waits for the disk.

use std::sync::Arc;

use super::pending::{Class, Outcome};
use super::shared::{Answer, Clock};
use super::{Coordinator, Operation, Watcher};
use crate::error::Error;
use crate::machine::op::{
    Delete, Deleted, KeyRange, KeyValue, Put, Range, RangeResult, Revision, Txn, TxnResult,
};
use crate::machine::{Changes, Machine};

/// The result of a request, and the store's revision after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied<T> {
    /// The store's revision after the request (etcd's `header.revision`).
    pub revision: Revision,
    /// The result.
    pub result: T,
}

#[cfg(feature = "server")]
impl<T> Applied<Option<T>> {
    /// Returns the result with the revision, if there is one.
    pub(super) fn transpose(self) -> Option<Applied<T>> {
        let Applied { revision, result } = self;
        result.map(|result| Applied { revision, result })
    }
}

/// Requests on keys. They take the types of the state machine, which are not a stable API.
#[doc(hidden)]
impl Coordinator {
    /// Runs a transaction: wholly, at one new revision if it changes anything, or not at all.
    ///
    /// # Errors
    /// A fault of the request ([`Error::DuplicateKey`], [`Error::LeaseNotFound`] and so on), or the
    /// reason why it cannot be recorded now ([`Error::NoSpace`], [`Error::Overloaded`],
    /// [`Error::QuotaExceeded`], [`Error::Stopped`], [`Error::Displaced`]).
    ///
    /// # Cancel safety
    /// If the future is dropped after its first poll, the transaction may still take effect, wholly
    /// or not at all.
    pub async fn txn(&self, txn: Txn) -> Result<Applied<TxnResult>, Error> {
        self.submit(Class::of(&txn), |machine, _, changes| {
            self.authorize(Operation::Txn(&txn), machine)?;
            machine.txn(&txn, changes)
        })
        .await
    }

    /// Reads a range.
    ///
    /// # Errors
    /// [`Error::Compacted`] for a past revision from before the history, which
    /// [`Limits`](crate::Limits) bounds; [`Error::FutureRevision`], [`Error::EmptyKey`],
    /// [`Error::Overloaded`], [`Error::Stopped`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn range(&self, range: Range) -> Result<Applied<RangeResult>, Error> {
        self.submit(Class::Read, |machine, _, _| {
            self.authorize(Operation::Range(&range), machine)?;
            machine.range(&range)
        })
        .await
    }

    /// Writes a key, and returns its previous state if the request asks for it.
    ///
    /// # Errors
    /// As [`txn`](Self::txn).
    ///
    /// # Cancel safety
    /// As [`txn`](Self::txn).
    pub async fn put(&self, put: Put) -> Result<Applied<Option<Arc<KeyValue>>>, Error> {
        self.submit(Class::Write, |machine, _, changes| {
            self.authorize(Operation::Put(&put), machine)?;
            machine.put(&put, changes)
        })
        .await
    }

    /// Deletes a range. Returns how many keys were deleted, and the keys if the request asks for
    /// them.
    ///
    /// # Errors
    /// As [`txn`](Self::txn).
    ///
    /// # Cancel safety
    /// As [`txn`](Self::txn).
    pub async fn delete(&self, delete: Delete) -> Result<Applied<Deleted>, Error> {
        self.submit(Class::Release, |machine, _, changes| {
            self.authorize(Operation::Delete(&delete), machine)?;
            machine.delete(&delete, changes)
        })
        .await
    }

    /// Forgets the events before `revision`, and returns the store's revision.
    ///
    /// # Errors
    /// [`Error::Compacted`] if the store is compacted up to that revision already;
    /// [`Error::FutureRevision`]; and the reason why it cannot be recorded now, as
    /// [`txn`](Self::txn).
    ///
    /// # Cancel safety
    /// As [`txn`](Self::txn).
    pub async fn compact(&self, revision: Revision) -> Result<Revision, Error> {
        let applied = self
            .submit(Class::Write, |machine, _, changes| {
                self.authorize(Operation::Compact, machine)?;
                machine.compact(revision, changes)
            })
            .await?;
        Ok(applied.revision)
    }

    /// Watches `keys` from revision `start`, or from the next change if `start` is `None`.
    ///
    /// Of the events from before the coordinator was opened, a watch delivers only the last one of
    /// each key. A watch of one existing key that has not changed since `start` is never refused,
    /// unless `start` was compacted away by request.
    ///
    /// # Errors
    /// [`Error::Compacted`] if events from `start` on are no longer kept: [`Limits`](crate::Limits)
    /// bounds the history by `history_events` and `history_bytes`; [`Error::TooManyWatches`],
    /// [`Error::EmptyKey`], [`Error::Stopped`].
    pub fn watch(&self, keys: KeyRange, start: Option<Revision>) -> Result<Watcher, Error> {
        self.check_authority(Operation::Watch(&keys))?;
        // What is delivered later is decided on again: the rights may be withdrawn by then.
        let authorizer = self.authorizer.clone().map(|it| (it, keys.clone()));
        let watched = self.shared().hub().watch(keys, start);
        let (id, queue) = watched.inspect_err(|error| self.shared().note_refusal(error))?;
        let shared = Arc::clone(self.shared());
        Ok(Watcher::new(shared, id, queue, authorizer))
    }
}

impl Coordinator {
    /// Applies a request, and waits until what it has changed or seen is durable.
    pub(super) async fn submit<T>(
        &self,
        class: Class,
        mut apply: impl FnMut(&mut Machine, &Clock, &mut Changes) -> Result<T, Error>,
    ) -> Result<Applied<T>, Error> {
        let mut again = class.may_be_repeated();
        loop {
            let applied = self.shared().apply(class, &mut apply)?;
            if let Some(answer) = self.settle(applied, &mut again).await {
                return answer;
            }
        }
    }

    /// Waits until what a request has changed or seen is durable. Returns nothing if it was undone
    /// and is to be applied once more.
    pub(super) async fn settle<T>(
        &self,
        (answer, durable): Answer<T>,
        again: &mut bool,
    ) -> Option<Result<Applied<T>, Error>> {
        let Some(durable) = durable else {
            return Some(answer);
        };
        match durable.await {
            Ok(Outcome::Durable) => Some(answer),
            // Undone together with requests that needed space. Those are refused now, so this one
            // may fit.
            Ok(Outcome::Undone(_)) if std::mem::take(again) => None,
            Ok(Outcome::Undone(error) | Outcome::Stopped(error)) => {
                self.shared().note_refusal(&error);
                Some(Err(error))
            }
            Err(_) => Some(Err(self.shared().wait_for_end().await)),
        }
    }
}

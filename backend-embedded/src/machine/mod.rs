//! The state machine: etcd's keys, revisions, leases and transactions as a function of the requests
//! applied to it. It does no I/O and reads no clock: the time is an argument. So the same code is
//! the store's memory, a model to compare other stores with, and what a simulation runs.
//!
//! Its types are public for tests and measurements. They are not a stable API.

mod budget;
mod compare;
mod key_range;
mod keys;
mod lease;
pub mod op;
mod parts;
mod past;
mod range;
#[cfg(test)]
mod tests;
mod txn;
mod validate;

#[cfg(feature = "server")]
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::{Limits, MAX_LEASE_TTL, MIN_LEASE_TTL};
use crate::error::Error;
#[cfg(feature = "server")]
pub(crate) use budget::LIGHT_KEYS;
use budget::{Allowance, Budget};
use keys::KeySpace;
use lease::LeaseTable;
#[cfg(feature = "server")]
use op::KeyRange;
use op::{
    Delete, Deleted, Event, KeyValue, LeaseId, Put, Range, RangeResult, Revision, Txn, TxnResult,
};
use past::Past;

/// The revision of a store in which nothing has been written yet (as in etcd).
pub const FIRST_REVISION: Revision = 1;

/// The keys, the leases and the revision. Times are durations since an epoch of the caller's
/// choice, on a clock that never goes back.
#[derive(Debug)]
pub struct Machine {
    keys: KeySpace,
    leases: LeaseTable,
    revision: Revision,
    compact_revision: Revision,
    past: Past,
    limits: Limits,
}

/// What a request changed: to be recorded and to be sent to the watches.
#[derive(Debug, Default)]
pub struct Changes {
    /// The changes of keys, in order, all at the machine's revision after the request.
    pub events: Vec<Arc<Event>>,
    /// The leases that were granted or removed.
    pub leases: Vec<LeaseChange>,
    /// The new compact revision.
    pub compacted: Option<Revision>,
}

impl Changes {
    /// Returns whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.leases.is_empty() && self.compacted.is_none()
    }
}

/// A lease that was granted or removed. Renewals are not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseChange {
    /// The lease was granted.
    Granted {
        /// Its id.
        id: LeaseId,
        /// Its time to live, whole seconds.
        ttl: Duration,
    },
    /// The lease was revoked or expired.
    Removed {
        /// Its id.
        id: LeaseId,
    },
}

/// A state to start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The store's revision.
    pub revision: Revision,
    /// The revision of the last explicit compaction, 0 if there was none.
    pub compact_revision: Revision,
    /// All keys.
    pub keys: Vec<Arc<KeyValue>>,
    /// All leases and their time to live.
    pub leases: Vec<(LeaseId, Duration)>,
}

impl Snapshot {
    /// Returns the state of a store in which nothing has been written yet.
    pub fn empty() -> Self {
        Snapshot {
            revision: FIRST_REVISION,
            compact_revision: 0,
            keys: Vec::new(),
            leases: Vec::new(),
        }
    }
}

impl Machine {
    /// Returns an empty store.
    pub fn new(limits: Limits) -> Self {
        Self {
            keys: KeySpace::default(),
            leases: LeaseTable::default(),
            revision: FIRST_REVISION,
            compact_revision: 0,
            past: Past::new(FIRST_REVISION, &limits),
            limits,
        }
    }

    /// Returns a store in the given state. Every lease has its full time to live from `now`: the
    /// time for which the store could not be reached counts against nobody.
    pub fn restore(limits: Limits, snapshot: Snapshot, now: Duration) -> Self {
        let mut machine = Self {
            revision: snapshot.revision,
            compact_revision: snapshot.compact_revision,
            past: Past::new(snapshot.revision, &limits),
            ..Self::new(limits)
        };
        for (id, ttl) in snapshot.leases {
            machine.leases.grant(now, id, ttl);
        }
        for kv in snapshot.keys {
            if kv.lease != 0 {
                machine.leases.attach(kv.lease, kv.key.clone());
            }
            machine.keys.insert(kv);
        }
        machine
    }

    /// Takes over the deadlines and the owners of the leases that `old` has too, so that going back
    /// to the recorded state neither shortens nor prolongs them, and gives them to nobody else.
    pub fn adopt_volatile(&mut self, old: &Machine) {
        self.leases.adopt_volatile(&old.leases);
    }

    /// Returns the revision of the last change.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the revision of the last explicit compaction, 0 if there was none.
    pub fn compact_revision(&self) -> Revision {
        self.compact_revision
    }

    /// Returns the number of keys.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Returns the bytes of keys and values.
    pub fn bytes(&self) -> u64 {
        self.keys.bytes()
    }

    /// Runs a transaction: wholly, at one new revision if it changes anything, or not at all.
    ///
    /// # Errors
    /// A fault of the request, or [`Error::QuotaExceeded`].
    pub fn txn(&mut self, txn: &Txn, changes: &mut Changes) -> Result<TxnResult, Error> {
        self.txn_within(txn, Allowance::of(&self.limits), changes)
    }

    /// Runs a transaction if it is light: if it looks at few keys and its answer is short. Returns
    /// nothing otherwise.
    ///
    /// # Errors
    /// Those of [`txn`](Self::txn).
    #[cfg(feature = "server")]
    pub fn txn_if_light(
        &mut self,
        txn: &Txn,
        changes: &mut Changes,
    ) -> Result<Option<TxnResult>, Error> {
        if_light(self.txn_within(txn, Allowance::light(), changes))
    }

    fn txn_within(
        &mut self,
        txn: &Txn,
        allowance: Allowance,
        changes: &mut Changes,
    ) -> Result<TxnResult, Error> {
        let reads = validate::txn(txn)?;
        let mut budget = Budget::new(&self.keys, allowance, reads);
        let mut path = Vec::with_capacity(1);
        txn::choose_branches(self, txn, &mut budget, &mut path)?;
        txn::Check::new(self, budget).txn(txn, &mut path.iter().copied())?;
        let mut write = txn::Write::new(self, changes);
        let result = write.txn(txn, &mut path.into_iter());
        write.finish();
        Ok(result)
    }

    /// Reads a range.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`], [`Error::EmptyKey`],
    /// [`Error::RequestTooLarge`], [`Error::TooManyKeys`], [`Error::AnswerTooLarge`].
    pub fn range(&self, range: &Range) -> Result<RangeResult, Error> {
        self.range_within(range, Allowance::of(&self.limits))
    }

    /// Reads a range if that is light; see [`txn_if_light`](Self::txn_if_light).
    ///
    /// # Errors
    /// Those of [`range`](Self::range).
    #[cfg(feature = "server")]
    pub fn range_if_light(&self, range: &Range) -> Result<Option<RangeResult>, Error> {
        if_light(self.range_within(range, Allowance::light()))
    }

    fn range_within(&self, range: &Range, allowance: Allowance) -> Result<RangeResult, Error> {
        validate::range(range)?;
        let budget = Budget::new(&self.keys, allowance, 1);
        txn::Check::new(self, budget).range(range)?;
        Ok(range::read(&self.keys, &self.past, range))
    }

    /// Writes a key, and returns its previous state if the request asks for it.
    ///
    /// # Errors
    /// A fault of the request, or [`Error::QuotaExceeded`].
    pub fn put(
        &mut self,
        put: &Put,
        changes: &mut Changes,
    ) -> Result<Option<Arc<KeyValue>>, Error> {
        validate::put(put)?;
        // It reads one key at most.
        let budget = Budget::new(&self.keys, Allowance::of(&self.limits), 0);
        txn::Check::new(self, budget).put(put)?;
        let mut write = txn::Write::new(self, changes);
        let prev = write.put(put);
        write.finish();
        Ok(prev)
    }

    /// Deletes a range. Returns how many keys were deleted, and the keys if the request asks for
    /// them.
    ///
    /// # Errors
    /// [`Error::EmptyKey`], [`Error::RequestTooLarge`], [`Error::TooManyKeys`],
    /// [`Error::AnswerTooLarge`].
    pub fn delete(&mut self, delete: &Delete, changes: &mut Changes) -> Result<Deleted, Error> {
        self.delete_within(delete, Allowance::of(&self.limits), changes)
    }

    /// Deletes a range if that is light; see [`txn_if_light`](Self::txn_if_light).
    ///
    /// # Errors
    /// Those of [`delete`](Self::delete).
    #[cfg(feature = "server")]
    pub fn delete_if_light(
        &mut self,
        delete: &Delete,
        changes: &mut Changes,
    ) -> Result<Option<Deleted>, Error> {
        if_light(self.delete_within(delete, Allowance::light(), changes))
    }

    fn delete_within(
        &mut self,
        delete: &Delete,
        allowance: Allowance,
        changes: &mut Changes,
    ) -> Result<Deleted, Error> {
        validate::delete(delete)?;
        let budget = Budget::new(&self.keys, allowance, 1);
        txn::Check::new(self, budget).delete(delete)?;
        let mut write = txn::Write::new(self, changes);
        let deleted = write.delete(delete);
        write.finish();
        Ok(deleted)
    }

    /// Fails if the state at a revision is not known any more, or not yet.
    fn check_known(&self, revision: Revision) -> Result<(), Error> {
        let known_since = self.past.known_since();
        if revision > self.revision {
            return Err(Error::FutureRevision {
                requested: revision,
                current: self.revision,
            });
        }
        if revision < known_since {
            return Err(Error::Compacted {
                requested: revision,
                compact_revision: known_since,
            });
        }
        Ok(())
    }

    /// Notes that the events before `revision` may be forgotten.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`].
    pub fn compact(&mut self, revision: Revision, changes: &mut Changes) -> Result<(), Error> {
        if revision <= self.compact_revision {
            return Err(Error::Compacted {
                requested: revision,
                compact_revision: self.compact_revision,
            });
        }
        if revision > self.revision {
            return Err(Error::FutureRevision {
                requested: revision,
                current: self.revision,
            });
        }
        self.compact_revision = revision;
        self.past.compact(revision);
        changes.compacted = Some(revision);
        Ok(())
    }

    /// Grants a lease, and returns its time to live, in whole seconds and not below the minimum.
    /// The id must be positive.
    ///
    /// # Errors
    /// [`Error::InvalidLeaseId`], [`Error::LeaseTtlTooLarge`], [`Error::LeaseExists`],
    /// [`Error::TooManyLeases`].
    pub fn grant(
        &mut self,
        now: Duration,
        id: LeaseId,
        ttl: Duration,
        changes: &mut Changes,
    ) -> Result<Duration, Error> {
        if id <= 0 {
            return Err(Error::InvalidLeaseId { id });
        }
        if ttl > MAX_LEASE_TTL {
            return Err(Error::LeaseTtlTooLarge {
                ttl,
                max: MAX_LEASE_TTL,
            });
        }
        if self.leases.contains(id) {
            return Err(Error::LeaseExists { id });
        }
        if self.leases.len() >= self.limits.leases {
            self.revoke_abandoned(now, changes)?;
        }
        // Rounded up: nobody gets less than the request asks for.
        let whole = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let ttl = Duration::from_secs(whole).clamp(MIN_LEASE_TTL, MAX_LEASE_TTL);
        self.leases.grant(now, id, ttl);
        changes.leases.push(LeaseChange::Granted { id, ttl });
        Ok(ttl)
    }

    /// Makes room for a lease where there are as many as there may be: what a client left behind must
    /// not keep others out.
    fn revoke_abandoned(&mut self, now: Duration, changes: &mut Changes) -> Result<(), Error> {
        let abandoned = self.leases.find_abandoned(now);
        for id in &abandoned {
            self.leases.remove(*id);
            changes.leases.push(LeaseChange::Removed { id: *id });
        }
        match abandoned.is_empty() {
            true => Err(Error::TooManyLeases {
                limit: self.limits.leases,
            }),
            false => Ok(()),
        }
    }

    /// Fails if a subject has as many leases as one may have.
    ///
    /// # Errors
    /// [`Error::TooManyLeases`].
    pub fn check_leases_of(&self, owner: &str) -> Result<(), Error> {
        let limit = self.limits.leases_of_subject;
        match self.leases.count_of(owner) < limit {
            true => Ok(()),
            false => Err(Error::TooManyLeases { limit }),
        }
    }

    /// Removes a lease and deletes its keys, ascending, at one revision.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    pub fn revoke(&mut self, id: LeaseId, changes: &mut Changes) -> Result<(), Error> {
        let keys = (self.leases.remove(id)).ok_or(Error::LeaseNotFound { id })?;
        changes.leases.push(LeaseChange::Removed { id });
        let mut write = txn::Write::new(self, changes);
        for key in &keys {
            write.remove(key);
        }
        write.finish();
        Ok(())
    }

    /// Gives a lease its full time to live from `now`, and returns that time.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    pub fn renew(&mut self, now: Duration, id: LeaseId) -> Result<Duration, Error> {
        self.leases
            .renew(now, id)
            .ok_or(Error::LeaseNotFound { id })
    }

    /// Returns the granted time to live of a lease, the time that remains, and the attached keys,
    /// ascending.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    pub fn lease(
        &self,
        now: Duration,
        id: LeaseId,
    ) -> Result<(Duration, Duration, impl Iterator<Item = &Bytes>), Error> {
        let not_found = || Error::LeaseNotFound { id };
        let (ttl, keys) = self.leases.get(id).ok_or_else(not_found)?;
        let expires_at = self.leases.expires_at(id).ok_or_else(not_found)?;
        Ok((ttl, expires_at.saturating_sub(now), keys.iter()))
    }

    /// Returns whether a lease has so few keys that a light request may look at all of them.
    #[cfg(feature = "server")]
    pub fn has_few_keys(&self, id: LeaseId) -> bool {
        let found = self.leases.get(id);
        found.is_none_or(|(_, keys)| keys.len() <= LIGHT_KEYS)
    }

    /// Returns the owner of a lease, if that is known, and its keys, ascending; `None` if there is no
    /// such lease.
    pub fn lease_use(&self, id: LeaseId) -> Option<(Option<&str>, &BTreeSet<Bytes>)> {
        self.leases.get_use(id)
    }

    /// Notes who owns a lease. This is not a change: it is not recorded.
    pub fn set_lease_owner(&mut self, id: LeaseId, owner: &Arc<str>) {
        self.leases.set_owner(id, owner);
    }

    /// Returns the ids of all leases, the first to expire first.
    pub fn leases(&self) -> Vec<LeaseId> {
        self.leases.ids()
    }

    /// Returns the number of leases.
    pub fn lease_count(&self) -> usize {
        self.leases.len()
    }

    /// Returns at most `limit` keys after this one, ascending.
    #[cfg(feature = "server")]
    pub fn keys_after(&self, after: &[u8], limit: usize) -> Vec<Arc<KeyValue>> {
        self.keys.after(after).take(limit).cloned().collect()
    }

    /// Returns the revision, and keeps all changes after it until [`end_copy`](Self::end_copy). There is
    /// one copy at a time.
    #[cfg(feature = "server")]
    pub fn begin_copy(&mut self) -> Revision {
        self.past.hold(self.revision);
        self.revision
    }

    /// Returns what a copy lacks of the keys that were read page by page since it was begun at this
    /// revision: the present states of those that have changed. Returns nothing if this is not the
    /// machine that the copy was begun on.
    #[cfg(feature = "server")]
    pub fn end_copy(&mut self, since: Revision) -> Option<BTreeMap<Bytes, Option<Arc<KeyValue>>>> {
        self.past.release(since)
    }

    /// Returns what those of these keys that have changed after a revision were then.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`].
    #[cfg(feature = "server")]
    pub fn states_at(
        &self,
        revision: Revision,
        keys: &KeyRange,
    ) -> Result<BTreeMap<Bytes, Option<Arc<KeyValue>>>, Error> {
        self.check_known(revision)?;
        Ok(self.past.states_at(revision, keys))
    }

    /// Returns all leases with their time to live, in the order of their ids.
    #[cfg(feature = "server")]
    pub fn leases_with_ttl(&self) -> Vec<(LeaseId, Duration)> {
        self.leases.with_ttl()
    }

    /// Returns the part of its time to live that is left to the lease that expires first.
    #[cfg(feature = "server")]
    pub fn least_remaining(&self, now: Duration) -> Option<f64> {
        let (expires_at, id) = self.leases.first_to_expire()?;
        let (ttl, _) = self.leases.get(id)?;
        let left = expires_at.saturating_sub(now);
        Some(left.as_secs_f64() / ttl.as_secs_f64())
    }

    /// Returns when the first lease expires unless it is renewed.
    pub fn next_expiry(&self) -> Option<Duration> {
        Some(self.leases.first_to_expire()?.0)
    }

    /// Returns the lease that expired first, if one has expired by `now`. The caller has to revoke
    /// it.
    pub fn first_expired(&self, now: Duration) -> Option<LeaseId> {
        let (expires_at, id) = self.leases.first_to_expire()?;
        (expires_at <= now).then_some(id)
    }

    /// Moves every lease's deadline later by `delay`, a time in which renewals could not be
    /// applied.
    pub fn extend_leases(&mut self, delay: Duration) {
        self.leases.extend_all(delay);
    }
}

/// Returns nothing for a request that has exceeded the allowance of light ones.
#[cfg(feature = "server")]
fn if_light<T>(done: Result<T, Error>) -> Result<Option<T>, Error> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(Error::TooManyKeys { .. } | Error::AnswerTooLarge { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

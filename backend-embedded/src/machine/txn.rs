//! Transactions. The branches are chosen, and all their operations checked against the state,
//! before the first operation is applied. So a transaction is applied wholly or not at all.

use std::sync::Arc;

use bytes::Bytes;

use super::budget::Budget;
use super::compare;
use super::keys::queue_of;
use super::op::{
    Delete, Deleted, Event, KeyValue, Op, OpResult, Put, Range, Revision, Txn, TxnResult,
};
use super::{Changes, Machine, range};
use crate::error::Error;

/// Chooses the branch of each transaction, nested ones in the order they are met. All conditions
/// are evaluated on the state before the whole transaction (as in etcd).
pub(super) fn choose_branches(
    machine: &Machine,
    txn: &Txn,
    budget: &mut Budget,
    path: &mut Vec<bool>,
) -> Result<(), Error> {
    let mut succeeded = true;
    for compare in &txn.compare {
        budget.charge_compare(&machine.keys, compare)?;
        if !compare::is_satisfied(&machine.keys, compare) {
            succeeded = false;
            break;
        }
    }
    path.push(succeeded);
    for op in branch(txn, succeeded) {
        if let Op::Txn(nested) = op {
            choose_branches(machine, nested, budget, path)?;
        }
    }
    Ok(())
}

fn branch(txn: &Txn, succeeded: bool) -> &[Op] {
    if succeeded { &txn.then } else { &txn.or_else }
}

/// Checks the operations of the chosen branches against the state.
pub(super) struct Check<'a> {
    machine: &'a Machine,
    budget: Budget,
    /// The bytes of keys and values that the store would hold.
    bytes: u64,
    wrote: bool,
    /// The bytes of keys and values that the request has put.
    written: usize,
    /// The entries of queues that the request has made, if queues have a limit.
    entries: Vec<Bytes>,
}

impl<'a> Check<'a> {
    pub(super) fn new(machine: &'a Machine, budget: Budget) -> Self {
        Self {
            machine,
            budget,
            bytes: machine.keys.bytes(),
            wrote: false,
            written: 0,
            entries: Vec::new(),
        }
    }

    pub(super) fn txn(
        &mut self,
        txn: &Txn,
        path: &mut impl Iterator<Item = bool>,
    ) -> Result<(), Error> {
        let succeeded = path.next().unwrap_or_default();
        for op in branch(txn, succeeded) {
            match op {
                Op::Range(range) => self.range(range)?,
                Op::Put(put) => self.put(put)?,
                Op::Delete(delete) => self.delete(delete)?,
                Op::Txn(nested) => self.txn(nested, path)?,
            }
        }
        Ok(())
    }

    pub(super) fn range(&mut self, range: &Range) -> Result<(), Error> {
        let (keys, past) = (&self.machine.keys, &self.machine.past);
        if range.revision != 0 {
            self.machine.check_known(range.revision)?;
            // After a write of its own, the transaction is past the current revision.
            if range.revision < self.machine.revision || self.wrote {
                return self.budget.charge_past(keys, past, range);
            }
        }
        self.budget.charge_range(keys, range, self.written)
    }

    pub(super) fn delete(&mut self, delete: &Delete) -> Result<(), Error> {
        self.wrote = true;
        self.budget.charge_delete(&self.machine.keys, delete)
    }

    pub(super) fn put(&mut self, put: &Put) -> Result<(), Error> {
        self.wrote = true;
        self.written += put.key.len() + put.value.as_ref().map_or(0, Bytes::len);
        self.budget.charge_put(&self.machine.keys, put)?;
        if let Some(id) = put.lease.filter(|&id| id != 0)
            && !self.machine.leases.contains(id)
        {
            return Err(Error::LeaseNotFound { id });
        }
        self.check_lease_keys(put)?;
        let old = self.machine.keys.get(&put.key);
        if old.is_none() && (put.value.is_none() || put.lease.is_none()) {
            return Err(Error::KeyNotFound);
        }
        if old.is_none() {
            self.check_queue(put)?;
        }
        let old_value = old.map_or(0, |old| old.value.len());
        let new_value = put.value.as_ref().map_or(old_value, Bytes::len);
        let key = if old.is_some() { 0 } else { put.key.len() };
        let (grown, limit) = (new_value + key, self.machine.limits.store_bytes);
        self.bytes = (self.bytes + grown as u64).saturating_sub(old_value as u64);
        // A put that does not grow the store is accepted. So values can still be replaced if the
        // limit is set below what the store holds.
        if self.bytes > limit && grown > old_value {
            return Err(Error::QuotaExceeded { limit });
        }
        Ok(())
    }
}

impl Check<'_> {
    /// Fails if the lease of a put has as many keys as it may have.
    fn check_lease_keys(&self, put: &Put) -> Result<(), Error> {
        let limit = self.machine.limits.lease_keys;
        let attached = put.lease.and_then(|id| self.machine.leases.get(id));
        match attached {
            Some((_, keys)) if keys.len() >= limit && !keys.contains(&put.key) => {
                Err(Error::TooManyLeaseKeys { limit })
            }
            _ => Ok(()),
        }
    }
}

impl Check<'_> {
    /// Fails if a put would make an entry of a queue that is as long as it may be.
    fn check_queue(&mut self, put: &Put) -> Result<(), Error> {
        let limit = self.machine.limits.queue_entries;
        if limit == usize::MAX || put.lease.is_none_or(|id| id == 0) {
            return Ok(());
        }
        let Some(queue) = queue_of(&put.key) else {
            return Ok(());
        };
        let made = self
            .entries
            .iter()
            .filter(|key| queue_of(key) == Some(queue));
        let entries = self.machine.keys.queue_length(queue) + made.count();
        if entries >= limit {
            return Err(Error::QueueFull { entries });
        }
        self.entries.push(put.key.clone());
        Ok(())
    }
}

/// Applies checked operations, all at one new revision.
pub(super) struct Write<'a> {
    machine: &'a mut Machine,
    changes: &'a mut Changes,
    revision: Revision,
}

impl<'a> Write<'a> {
    pub(super) fn new(machine: &'a mut Machine, changes: &'a mut Changes) -> Self {
        Self {
            revision: machine.revision + 1,
            machine,
            changes,
        }
    }

    /// Takes the revision if anything was changed at it.
    pub(super) fn finish(self) {
        if !self.changes.events.is_empty() {
            self.machine.revision = self.revision;
            self.machine.past.trim();
        }
    }

    pub(super) fn txn(&mut self, txn: &Txn, path: &mut impl Iterator<Item = bool>) -> TxnResult {
        let succeeded = path.next().unwrap_or_default();
        let ops = branch(txn, succeeded);
        let mut results = Vec::with_capacity(ops.len());
        for op in ops {
            results.push(match op {
                Op::Range(range) => {
                    OpResult::Range(range::read(&self.machine.keys, &self.machine.past, range))
                }
                Op::Put(put) => OpResult::Put(self.put(put)),
                Op::Delete(delete) => {
                    let (deleted, prev_kvs) = self.delete(delete);
                    OpResult::Delete { deleted, prev_kvs }
                }
                Op::Txn(nested) => OpResult::Txn(self.txn(nested, path)),
            });
        }
        TxnResult { succeeded, results }
    }

    pub(super) fn put(&mut self, put: &Put) -> Option<Arc<KeyValue>> {
        let machine = &mut *self.machine;
        let old = machine.keys.get(&put.key);
        let old_lease = old.map_or(0, |old| old.lease);
        let lease = put.lease.unwrap_or(old_lease);
        let kept = || old.map(|old| old.value.clone()).unwrap_or_default();
        let kv = Arc::new(KeyValue {
            // The key's first allocation serves all its later versions and the indexes.
            key: old.map_or_else(|| put.key.clone(), |old| old.key.clone()),
            value: put.value.clone().unwrap_or_else(kept),
            create_revision: old.map_or(self.revision, |old| old.create_revision),
            mod_revision: self.revision,
            version: old.map_or(0, |old| old.version) + 1,
            lease,
        });
        if old_lease != lease {
            if old_lease != 0 {
                machine.leases.detach(old_lease, &kv.key);
            }
            if lease != 0 {
                machine.leases.attach(lease, kv.key.clone());
            }
        }
        let prev = machine.keys.insert(Arc::clone(&kv));
        let answer = if put.prev_kv { prev.clone() } else { None };
        self.push(Event {
            kv,
            prev,
            deleted: false,
        });
        answer
    }

    pub(super) fn delete(&mut self, delete: &Delete) -> Deleted {
        let found: Vec<_> = (self.machine.keys.iter(&delete.keys))
            .map(Arc::clone)
            .collect();
        for kv in &found {
            if kv.lease != 0 {
                self.machine.leases.detach(kv.lease, &kv.key);
            }
            self.remove(&kv.key);
        }
        let deleted = found.len() as u64;
        (deleted, if delete.prev_kv { found } else { Vec::new() })
    }

    /// Removes one key, and leaves its lease alone.
    pub(super) fn remove(&mut self, key: &Bytes) {
        let Some(prev) = self.machine.keys.remove(key) else {
            return;
        };
        self.push(Event {
            kv: Arc::new(KeyValue::deleted(prev.key.clone(), self.revision)),
            prev: Some(prev),
            deleted: true,
        });
    }

    fn push(&mut self, event: Event) {
        let event = Arc::new(event);
        self.machine.past.push(&event);
        self.changes.events.push(event);
    }
}

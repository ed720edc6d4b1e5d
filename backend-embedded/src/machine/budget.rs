//! What one request may cost: how many keys it may look at, and how long its answer may be. A
//! request is charged before anything is applied.

use super::keys::KeySpace;
use super::op::{Compare, Delete, KeyRange, Put, Range};
use super::past::Past;
use super::range;
use crate::config::{Limits, MAX_REQUEST_BYTES};
use crate::error::Error;

/// The keys that a light request looks at, at most. The thread that serves all clients takes well
/// below a millisecond for that.
#[cfg(feature = "server")]
pub(crate) const LIGHT_KEYS: usize = 1_000;

/// The bytes of keys and values in the answer to a light request, at most.
#[cfg(feature = "server")]
const LIGHT_BYTES: usize = 256 * 1024;

/// The keys that a read at a past revision looks at, at most.
const PAST_KEYS: usize = 10_000;

/// How many keys of now a key of the past costs, or a change since then: it is copied.
const PAST_COST: usize = 10;

/// The most that a request may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    keys: usize,
    bytes: usize,
}

impl Allowance {
    pub(super) fn of(limits: &Limits) -> Self {
        Allowance {
            keys: limits.request_keys,
            bytes: limits.request_answer_bytes,
        }
    }

    #[cfg(feature = "server")]
    pub(super) fn light() -> Self {
        Allowance {
            keys: LIGHT_KEYS,
            bytes: LIGHT_BYTES,
        }
    }
}

/// What is left for the rest of a request.
#[derive(Debug)]
pub(super) struct Budget {
    allowance: Allowance,
    keys: usize,
    bytes: usize,
    /// Whether the request cannot look at more keys than the allowance on this store, so that they need
    /// not be counted.
    has_ample_keys: bool,
    /// Whether the answer cannot be longer than the allowance on this store.
    has_ample_bytes: bool,
}

impl Budget {
    /// Returns the budget of a request with this many operations that read.
    pub(super) fn new(store: &KeySpace, allowance: Allowance, reads: usize) -> Self {
        let all_keys = store.len().max(1);
        // A read also sees what the request itself has written before.
        let all_bytes = usize::try_from(store.bytes()).unwrap_or(usize::MAX);
        let all_bytes = all_bytes.saturating_add(MAX_REQUEST_BYTES);
        Budget {
            allowance,
            keys: allowance.keys,
            bytes: allowance.bytes,
            has_ample_keys: reads.saturating_mul(all_keys) <= allowance.keys,
            has_ample_bytes: reads.saturating_mul(all_bytes) <= allowance.bytes,
        }
    }

    pub(super) fn charge_compare(
        &mut self,
        store: &KeySpace,
        compare: &Compare,
    ) -> Result<(), Error> {
        self.charge_count(store, &compare.keys)
    }

    /// Charges a read. `written` is the size of what the request itself has written before.
    pub(super) fn charge_range(
        &mut self,
        store: &KeySpace,
        range: &Range,
        written: usize,
    ) -> Result<(), Error> {
        let mut returned = range::returned_at_most(range).min(store.len());
        if !self.has_ample_keys {
            let extent = range::extent(store, range, self.keys);
            self.charge_keys(extent.looked_at)?;
            returned = extent.returned;
        }
        if self.has_ample_bytes || returned == 0 {
            return Ok(());
        }
        let mut most = returned.saturating_mul(store.largest());
        if most.saturating_add(written) > self.bytes {
            let found = range::read_current(store, range).kvs;
            if found.is_empty() {
                return Ok(());
            }
            most = found.iter().map(|kv| kv.size()).sum();
        }
        self.charge_bytes(most.saturating_add(written))
    }

    /// Charges a read at a past revision, which is carried out for that: what it returns may have been
    /// larger than all that there is now.
    pub(super) fn charge_past(
        &mut self,
        store: &KeySpace,
        past: &Past,
        range: &Range,
    ) -> Result<(), Error> {
        let looked_at = count(store, &range.keys, PAST_KEYS);
        if looked_at > PAST_KEYS {
            return Err(Error::TooManyKeys { limit: PAST_KEYS });
        }
        let undone = past.count_after(range.revision);
        self.charge_keys((looked_at + undone).saturating_mul(PAST_COST))?;
        let found = range::read(store, past, range);
        self.charge_bytes(found.kvs.iter().map(|kv| kv.size()).sum())
    }

    pub(super) fn charge_put(&mut self, store: &KeySpace, put: &Put) -> Result<(), Error> {
        if self.has_ample_bytes || !put.prev_kv {
            return Ok(());
        }
        self.charge_bytes(store.get(&put.key).map_or(0, |old| old.size()))
    }

    pub(super) fn charge_delete(&mut self, store: &KeySpace, delete: &Delete) -> Result<(), Error> {
        self.charge_count(store, &delete.keys)?;
        if self.has_ample_bytes || !delete.prev_kv {
            return Ok(());
        }
        self.charge_bytes(store.iter(&delete.keys).map(|kv| kv.size()).sum())
    }

    fn charge_count(&mut self, store: &KeySpace, keys: &KeyRange) -> Result<(), Error> {
        if self.has_ample_keys {
            return Ok(());
        }
        self.charge_keys(count(store, keys, self.keys))
    }

    fn charge_keys(&mut self, count: usize) -> Result<(), Error> {
        let limit = self.allowance.keys;
        let left = self.keys.checked_sub(count);
        self.keys = left.ok_or(Error::TooManyKeys { limit })?;
        Ok(())
    }

    fn charge_bytes(&mut self, bytes: usize) -> Result<(), Error> {
        let limit = self.allowance.bytes;
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or(Error::AnswerTooLarge { limit })?;
        Ok(())
    }
}

/// Counts the keys of a range, up to one more than `limit`.
fn count(store: &KeySpace, keys: &KeyRange, limit: usize) -> usize {
    if let KeyRange::One(_) = keys {
        return 1;
    }
    store.iter(keys).take(limit.saturating_add(1)).count()
}

//! The keys of a session's tickets, and what is known of the requests about them.
//!
//! etcd keeps every key that ever existed in its index until a compaction, and a read of a queue
//! scans all of them. So keys are used again: a session leaves as many keys behind in a queue as it
//! ever had entries at once, not one for each acquire.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The key slots of one session. Bounded by the tickets in use.
#[derive(Debug, Default)]
pub struct KeySlots {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
struct Inner {
    slots: BTreeMap<u64, KeySlot>,
    free: Vec<u64>,
    /// How many slots there have been so far.
    count: u64,
}

/// The slot of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeySlot {
    /// The part of the key that differs from those of all other tickets in use.
    pub number: u64,
    /// A request of the ticket is under way, or the outcome of an earlier one is not known. A copy of
    /// that may still be executed.
    pub is_uncertain: bool,
}

impl KeySlots {
    /// Takes a slot for the ticket if it has none, and marks it as uncertain. Returns its number,
    /// and whether it was certain before.
    pub(crate) fn begin(&self, serial: u64) -> (u64, bool) {
        let mut inner = self.inner();
        let Inner { slots, free, count } = &mut *inner;
        let slot = slots.entry(serial).or_insert_with(|| KeySlot {
            number: free.pop().unwrap_or_else(|| {
                *count += 1;
                *count
            }),
            is_uncertain: false,
        });
        let was_certain = !std::mem::replace(&mut slot.is_uncertain, true);
        (slot.number, was_certain)
    }

    /// Marks the slot as certain. To be called when the outcome of the only request since
    /// [`begin`](Self::begin) is known, or when no copy of one can be executed any more.
    pub fn resolve(&self, serial: u64) {
        if let Some(slot) = self.inner().slots.get_mut(&serial) {
            slot.is_uncertain = false;
        }
    }

    /// Returns the slot of a ticket, if it has one.
    pub fn get(&self, serial: u64) -> Option<KeySlot> {
        self.inner().slots.get(&serial).copied()
    }

    /// Frees the slot of a ticket that has no entry and will get none. An uncertain slot is never
    /// used again. A removal for good compares no incarnation, so a late copy of one would delete the
    /// entry of the slot's next ticket.
    pub(crate) fn free(&self, serial: u64) {
        let mut inner = self.inner();
        if let Some(slot) = inner.slots.remove(&serial)
            && !slot.is_uncertain
        {
            inner.free.push(slot.number);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an explorer needs: a copy for each state, and what tells two states apart.
#[cfg(feature = "models")]
mod models {
    use std::hash::{Hash, Hasher};

    use super::*;

    impl Clone for KeySlots {
        fn clone(&self) -> Self {
            KeySlots {
                inner: Mutex::new(self.inner().clone()),
            }
        }
    }

    impl Hash for KeySlots {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.inner().hash(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again_unless_they_are_uncertain() {
        let key_slots = KeySlots::default();
        assert_eq!(key_slots.begin(1), (1, true));
        assert_eq!(key_slots.begin(2), (2, true));
        key_slots.resolve(1);
        key_slots.free(1);
        assert_eq!(key_slots.get(1), None);
        assert_eq!(key_slots.begin(3), (1, true), "used again");
        // A retry of an enqueue whose outcome is not known leaves the slot uncertain.
        assert_eq!(key_slots.begin(2), (2, false));
        key_slots.free(2);
        assert_eq!(key_slots.begin(4), (3, true), "retired");
        key_slots.free(9);
    }
}

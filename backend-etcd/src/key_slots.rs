//! Which key of the session's each ticket has, and what is known of the requests about it.
//!
//! etcd keeps every key that ever was in its index until a compaction, and a read of a queue goes
//! through all that lie in it. So keys are used again: a session leaves as many behind in a queue
//! as it ever had entries in all queues at once, not one for each acquire.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The key_slots of one session. Bounded by the tickets in use.
#[derive(Debug, Default)]
pub(crate) struct KeySlots {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    taken: HashMap<u64, KeySlot>,
    free: Vec<u64>,
    /// How many there ever were.
    count: u64,
}

/// What a ticket has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeySlot {
    /// The part of the key that no other ticket in use has.
    pub(crate) number: u64,
    /// An enqueue is under way, or there was one whose outcome is not known: a copy of it may be
    /// carried out yet.
    pub(crate) unsettled: bool,
}

impl KeySlots {
    /// The ticket's place, or a new one, from now on unsettled; and whether it was settled before.
    pub(crate) fn begin(&self, serial: u64) -> (u64, bool) {
        let mut inner = self.inner();
        let Inner { taken, free, count } = &mut *inner;
        let place = taken.entry(serial).or_insert_with(|| KeySlot {
            number: free.pop().unwrap_or_else(|| {
                *count += 1;
                *count
            }),
            unsettled: false,
        });
        let settled = !std::mem::replace(&mut place.unsettled, true);
        (place.number, settled)
    }

    /// The outcome of the only enqueue that made the place unsettled is known.
    pub(crate) fn resolve(&self, serial: u64) {
        if let Some(place) = self.inner().taken.get_mut(&serial) {
            place.unsettled = false;
        }
    }

    pub(crate) fn get(&self, serial: u64) -> Option<KeySlot> {
        self.inner().taken.get(&serial).copied()
    }

    /// There is no entry of this ticket, and none will come. A place that was ever in doubt is not
    /// given to anybody again: a late copy of a removal "for good", which names no incarnation, must
    /// not find another ticket's entry.
    pub(crate) fn free(&self, serial: u64) {
        let mut inner = self.inner();
        if let Some(place) = inner.taken.remove(&serial)
            && !place.unsettled
        {
            inner.free.push(place.number);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_again_unless_they_were_in_doubt() {
        let key_slots = KeySlots::default();
        assert_eq!(key_slots.begin(1), (1, true));
        assert_eq!(key_slots.begin(2), (2, true));
        key_slots.resolve(1);
        key_slots.free(1);
        assert_eq!(key_slots.get(1), None);
        assert_eq!(key_slots.begin(3), (1, true), "used again");
        // A retry of an enqueue whose outcome is not known settles nothing.
        assert_eq!(key_slots.begin(2), (2, false));
        key_slots.free(2);
        assert_eq!(key_slots.begin(4), (3, true), "retired");
        key_slots.free(9);
    }
}

//! The acquires that are under way.

use std::array;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lock_core::clock::BootInstant;

/// The number of acquires that need no mutex, if they do not collide.
const SLOTS: usize = 64;
/// How many slots an acquire looks at.
const PROBES: usize = 4;
/// The value of a free slot. It is the instant of the boot, at which no acquire begins.
const FREE: u64 = 0;

/// When each acquire that is under way began.
///
/// Most locks are free, and most acquires end within microseconds. So each puts its begin into one
/// of a few slots, which the begin itself chooses, and finds it there again: two atomic operations,
/// and no mutex. Those that find no free slot go into a list.
#[derive(Debug)]
pub(crate) struct Waits {
    slots: [AtomicU64; SLOTS],
    /// Ascending. Acquires begin at the end, and end at the start if they waited in the queue, or at
    /// the end if they did not. So both are cheap, however many there are.
    others: Mutex<VecDeque<BootInstant>>,
}

impl Default for Waits {
    fn default() -> Self {
        Waits {
            slots: array::from_fn(|_| AtomicU64::new(FREE)),
            others: Mutex::default(),
        }
    }
}

impl Waits {
    pub(crate) fn begin(&self, begun: BootInstant) {
        if self.replace(begun, FREE, begun.as_nanos()) {
            return;
        }
        let mut others = self.lock_others();
        let at = others.partition_point(|other| *other <= begun);
        others.insert(at, begun);
    }

    /// Ends an acquire that began then. If several began at the same instant, it is no matter which
    /// of them is taken for it.
    pub(crate) fn end(&self, begun: BootInstant) {
        if self.replace(begun, begun.as_nanos(), FREE) {
            return;
        }
        let mut others = self.lock_others();
        if let Ok(at) = others.binary_search(&begun) {
            others.remove(at);
        }
    }

    /// Returns how many acquires are under way, and when the oldest of them began. Those that begin
    /// or end meanwhile may be counted or not.
    pub(crate) fn look(&self) -> (usize, Option<BootInstant>) {
        let others = self.lock_others();
        let slots = self.slots.iter().map(|slot| slot.load(Ordering::Relaxed));
        let begins: Vec<_> = slots.filter(|nanos| *nanos != FREE).collect();
        let oldest = begins.iter().min().copied().map(BootInstant::from_nanos);
        let oldest = oldest.into_iter().chain(others.front().copied()).min();
        (begins.len() + others.len(), oldest)
    }

    /// Replaces a value in a slot of this begin. Returns whether one of them had the old value.
    fn replace(&self, begun: BootInstant, old: u64, new: u64) -> bool {
        // Multiplied, so that acquires that begin at regular intervals spread over the slots.
        let first = (begun.as_nanos().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize;
        (first..first + PROBES).any(|probe| {
            let slot = &self.slots[probe % SLOTS];
            // A slot has no other memory to order, and the task that ends an acquire has begun it.
            let replaced = slot.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
            replaced.is_ok()
        })
    }

    fn lock_others(&self) -> MutexGuard<'_, VecDeque<BootInstant>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> BootInstant {
        BootInstant::from_nanos(nanos)
    }

    #[test]
    fn the_oldest_is_known_in_whatever_order_they_begin_and_end() {
        let waits = Waits::default();
        assert_eq!(waits.look(), (0, None));
        for begun in [3, 1, 2, 2] {
            waits.begin(at(begun));
        }
        assert_eq!(waits.look(), (4, Some(at(1))));
        waits.end(at(1));
        waits.end(at(2));
        assert_eq!(waits.look(), (2, Some(at(2))));
        waits.end(at(9)); // never begun
        waits.end(at(2));
        waits.end(at(3));
        assert_eq!(waits.look(), (0, None));
    }

    #[test]
    fn those_without_a_slot_are_known_all_the_same() {
        let waits = Waits::default();
        let all = 10 * SLOTS as u64;
        for begun in (1..=all).rev() {
            waits.begin(at(begun));
        }
        for begun in 1..=all {
            let left = usize::try_from(all - begun + 1).expect("few");
            assert_eq!(waits.look(), (left, Some(at(begun))));
            waits.end(at(begun));
        }
        assert_eq!(waits.look(), (0, None));
    }
}

//! The slots of the sessions in the file.

use std::collections::{HashMap, HashSet};

use crate::machine::op::LeaseId;

/// The slots of the sessions. A released slot keeps its bytes until it is used again, so that the
/// end of a session costs nothing. What it holds is known.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// The lease whose bytes each slot holds.
    content: Vec<LeaseId>,
    slots: HashMap<LeaseId, u32>,
    free: Vec<u32>,
}

impl Slots {
    /// Takes a slot for a lease.
    pub(super) fn take(&mut self, id: LeaseId) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.content.push(id);
            u32::try_from(self.content.len() - 1).unwrap_or(u32::MAX)
        });
        self.content[slot as usize] = id;
        self.slots.insert(id, slot);
        slot
    }

    /// Releases the slot of a lease.
    pub(super) fn release(&mut self, id: LeaseId) {
        if let Some(slot) = self.slots.remove(&id) {
            self.free.push(slot);
        }
    }

    /// Returns the released slots that still hold this lease, for the caller to clear.
    pub(super) fn take_stale(&mut self, id: LeaseId) -> Vec<u32> {
        if self.slots.contains_key(&id) {
            return Vec::new(); // The lease is alive, so the grant will be refused.
        }
        let free: HashSet<u32> = self.free.iter().copied().collect();
        let stale = self
            .content
            .iter_mut()
            .zip(0..)
            .filter_map(|(content, slot)| {
                let is_stale = *content == id && free.contains(&slot);
                is_stale.then(|| {
                    *content = 0;
                    slot
                })
            });
        stale.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [u32; 0] = [];

    #[test]
    fn a_slot_is_reused_and_its_former_content_is_known() {
        let mut slots = Slots::default();
        assert_eq!((slots.take(7), slots.take(8)), (0, 1));
        assert_eq!(slots.take_stale(7), NONE, "it lives");
        slots.release(7);
        slots.release(7);
        assert_eq!(slots.take_stale(8), NONE);
        assert_eq!(slots.take_stale(7), [0]);
        assert_eq!(slots.take_stale(7), NONE, "cleared");
        assert_eq!((slots.take(9), slots.take(10)), (0, 2));
        slots.release(9);
        assert_eq!(slots.take(11), 0);
        assert_eq!(slots.take_stale(9), NONE, "written over");
    }
}

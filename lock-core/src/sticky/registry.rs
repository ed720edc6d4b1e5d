//! The slots of a client, by the names of their locks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxBuildHasher;
use tokio::sync::Semaphore;

use super::slot::Slot;
use crate::name::LockName;

/// The least number of slots at which those that are out of use are looked for.
const CROWD: usize = 64;

/// The most questions of keepers that are under way at once.
const QUESTIONS: usize = 16;

/// The slots of a client. Those that are out of use go once they are as many as the others.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: Mutex<Table>,
    keepers: Arc<Keepers>,
}

#[derive(Debug, Default)]
struct Table {
    by_name: HashMap<LockName, Arc<Slot>, FxBuildHasher>,
    /// How many slots there were in use when that was last looked for.
    used: usize,
}

impl Slots {
    /// Returns the slot of this lock, and makes it if there is none.
    pub(super) fn of_lock(&self, name: &LockName) -> Arc<Slot> {
        let mut table = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = table.by_name.get(name) {
            return slot.clone();
        }
        if table.by_name.len() >= CROWD.max(2 * table.used) {
            table
                .by_name
                .retain(|_, slot| Arc::strong_count(slot) > 1 || slot.is_in_use());
            table.used = table.by_name.len();
        }
        let slot = Slot::new(name.clone(), self.keepers.clone());
        table.by_name.insert(name.clone(), slot.clone());
        slot
    }
}

/// What the keepers of a client share.
#[derive(Debug)]
pub(super) struct Keepers {
    count: AtomicUsize,
    pub(super) questions: Semaphore,
}

impl Default for Keepers {
    fn default() -> Self {
        Keepers {
            count: AtomicUsize::new(0),
            questions: Semaphore::new(QUESTIONS),
        }
    }
}

impl Keepers {
    /// Returns how many there are. A rough number will do, so the order of other memory is no matter.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

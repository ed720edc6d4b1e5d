//! A lock's whole queue, as it is listed.

use crate::entry::Entry;
use crate::name::LockName;
use crate::rule;

/// A lock's whole queue, in the order of arrival.
///
/// # Examples
/// ```
/// use lock_core::{LockName, Queue};
///
/// let queue = Queue::new(LockName::new("nightly")?, vec![]);
/// assert_eq!(queue.holders(), 0);
/// # Ok::<(), lock_core::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Queue {
    /// The lock.
    pub name: LockName,
    /// The entries, first come first.
    pub entries: Vec<Entry>,
}

impl Queue {
    /// Returns the queue of this lock with these entries, first come first.
    #[must_use]
    pub fn new(name: LockName, entries: Vec<Entry>) -> Self {
        Queue { name, entries }
    }

    /// Returns how many of the entries hold the lock, by the same rule that grants it. The holders
    /// are the first entries.
    pub fn holders(&self) -> usize {
        rule::count_holders(self.entries.iter().map(|entry| entry.mode))
    }
}

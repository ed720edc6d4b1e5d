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
/// let queue = Queue { name: LockName::new("nightly")?, entries: vec![] };
/// assert_eq!(queue.holders(), 0);
/// # Ok::<(), lock_core::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// The lock.
    pub name: LockName,
    /// The entries, first come first.
    pub entries: Vec<Entry>,
}

impl Queue {
    /// Returns how many of the entries hold the lock, by the same rule that grants it. The holders
    /// are the first entries.
    pub fn holders(&self) -> usize {
        rule::count_holders(self.entries.iter().map(|entry| entry.mode))
    }
}

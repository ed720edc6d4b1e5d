//! A lock's whole queue, as it is listed.

use crate::entry::Entry;
use crate::name::LockName;
use crate::rule;

/// A lock's whole queue, in the order of arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// The lock.
    pub name: LockName,
    /// First come first.
    pub entries: Vec<Entry>,
}

impl Queue {
    /// How many of the entries hold the lock, by the same rule that grants it: they are the first
    /// ones.
    pub fn holders(&self) -> usize {
        rule::holders(self.entries.iter().map(|entry| entry.mode))
    }
}

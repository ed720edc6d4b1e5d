//! Counts the locks and those who wait for them.

use std::collections::BTreeMap;

use crate::coordinator::Coordinator;
use crate::machine::op::Revision;

/// How many keys are read while the coordinator's state is held.
const PAGE: usize = 256;

/// The most keys that are read for one scrape. Locks after them are not counted.
const MAX_KEYS: usize = 200_000;

/// The directories of the entries of a lock.
const READ: &[u8] = b"/read/";
const WRITE: &[u8] = b"/write/";

/// The locks at about one time: they change while they are counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Queues {
    /// Held, and nobody waits.
    pub(super) held: u64,
    /// Held, and somebody waits.
    pub(super) contended: u64,
    pub(super) waiters: u64,
    pub(super) longest: u64,
}

/// The entries of one lock.
#[derive(Debug, Default)]
struct Entries {
    shared: Vec<Revision>,
    exclusive: Vec<Revision>,
}

impl Entries {
    /// Returns how many of them wait: all but the first exclusive one, or all but the shared ones
    /// before it.
    fn waiters(&self) -> u64 {
        let first_exclusive = self.exclusive.iter().min().copied();
        let is_first = |shared: &&Revision| first_exclusive.is_none_or(|first| **shared < first);
        let holders = self.shared.iter().filter(is_first).count().max(1);
        let all = self.shared.len() + self.exclusive.len();
        u64::try_from(all.saturating_sub(holders)).unwrap_or(u64::MAX)
    }
}

impl Queues {
    /// Reads the keys page by page, so that no request waits for more than a page.
    pub(super) fn count(coordinator: &Coordinator) -> Self {
        let mut locks = BTreeMap::<Vec<u8>, Entries>::new();
        let mut last = Vec::new();
        let mut read = 0;
        while read < MAX_KEYS {
            let page = coordinator.keys_after(&last, PAGE);
            let Some(end) = page.last() else {
                break;
            };
            last = end.key.to_vec();
            read += page.len();
            for kv in page.iter().filter(|kv| kv.lease != 0) {
                if let Some((lock, is_shared)) = parse(&kv.key) {
                    let entries = locks.entry(lock.to_vec()).or_default();
                    match is_shared {
                        true => entries.shared.push(kv.create_revision),
                        false => entries.exclusive.push(kv.create_revision),
                    }
                }
            }
        }
        let mut queues = Queues::default();
        for entries in locks.values() {
            let waiters = entries.waiters();
            match waiters {
                0 => queues.held += 1,
                _ => queues.contended += 1,
            }
            queues.waiters += waiters;
            queues.longest = queues.longest.max(waiters);
        }
        queues
    }
}

/// Returns the lock of an entry's key, and whether the entry is a shared one.
fn parse(key: &[u8]) -> Option<(&[u8], bool)> {
    let name = key.iter().rposition(|byte| *byte == b'/')?;
    let directory = &key[..=name];
    match directory.strip_suffix(WRITE) {
        Some(lock) => Some((lock, false)),
        None => directory.strip_suffix(READ).map(|lock| (lock, true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_told_from_other_keys() {
        let entry = |key| parse(key).map(|(lock, shared)| (lock.to_vec(), shared));
        assert_eq!(entry(b"a/b/write/1-1"), Some((b"a/b".to_vec(), false)));
        assert_eq!(entry(b"a/b/read/1-1"), Some((b"a/b".to_vec(), true)));
        for other in ["a", "a/b", "a/@session/1", "a/@data/write", "a/writes/1"] {
            assert_eq!(entry(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn whoever_is_not_first_waits() {
        let waiters = |shared: &[Revision], exclusive: &[Revision]| {
            let (shared, exclusive) = (shared.to_vec(), exclusive.to_vec());
            Entries { shared, exclusive }.waiters()
        };
        assert_eq!(waiters(&[], &[7]), 0);
        assert_eq!(waiters(&[], &[7, 5, 9]), 2);
        assert_eq!(waiters(&[1, 2], &[]), 0);
        assert_eq!(waiters(&[1, 2, 4], &[3]), 2);
        assert_eq!(waiters(&[4, 5], &[3]), 2);
    }
}

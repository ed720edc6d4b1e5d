//! Counts the locks and those who wait for them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::census::Census;
use crate::coordinator::{Coordinator, RevisionTimes};
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
    pub(super) held: Locks,
    /// Held, and somebody waits.
    pub(super) contended: Locks,
    pub(super) waiters: u64,
    /// The most that wait for one lock.
    pub(super) longest: u64,
    /// For how long the longest wait has gone on; zero without waiters.
    pub(super) longest_wait: Duration,
}

/// Locks of one kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Locks {
    pub(super) count: u64,
    /// For how long the longest hold has gone on; zero without locks.
    pub(super) longest_hold: Duration,
}

/// The entries of one lock, by their create revisions.
#[derive(Debug, Default)]
struct Entries {
    shared: Vec<Revision>,
    exclusive: Vec<Revision>,
}

/// Those of one lock who hold it, and those who wait.
#[derive(Debug, PartialEq, Eq)]
struct Parted {
    holders: Vec<Revision>,
    waiters: u64,
    /// The one that arrived first of those who wait.
    first_waiter: Option<Revision>,
}

impl Entries {
    /// Parts holders and waiters: the shared entries before the first exclusive one hold, or else
    /// that one.
    fn part(self) -> Parted {
        let Entries {
            mut shared,
            exclusive,
        } = self;
        let first_exclusive = exclusive.iter().min().copied();
        let mut waiting = exclusive;
        let is_first = |shared: &mut Revision| first_exclusive.is_none_or(|first| *shared < first);
        let mut holders: Vec<_> = shared.extract_if(.., is_first).collect();
        waiting.extend(shared);
        if holders.is_empty()
            && let Some(first) = first_exclusive
        {
            holders.push(first);
            waiting.retain(|entry| *entry != first);
        }
        Parted {
            holders,
            waiters: waiting.len() as u64,
            first_waiter: waiting.into_iter().min(),
        }
    }
}

impl Queues {
    /// Reads the keys page by page, so that no request waits for more than a page.
    pub(super) fn count(coordinator: &Coordinator, census: &mut Census) -> Self {
        let (_, revision) = coordinator.instant();
        let locks = read(coordinator);
        // Behind the reading, so that no entry is younger than the time and the revisions.
        let (now, _) = coordinator.instant();
        let times = coordinator.figures().revisions();
        summarize(locks, &times, now, revision, census)
    }
}

fn read(coordinator: &Coordinator) -> impl Iterator<Item = Entries> + use<> {
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
            let Some((lock, is_shared)) = parse(&kv.key) else {
                continue;
            };
            let entries = match locks.get_mut(lock) {
                Some(entries) => entries,
                None => locks.entry(lock.to_vec()).or_default(),
            };
            match is_shared {
                true => entries.shared.push(kv.create_revision),
                false => entries.exclusive.push(kv.create_revision),
            }
        }
    }
    locks.into_values()
}

/// Sums up the locks, and replaces the census by theirs, which began at this revision.
fn summarize(
    locks: impl Iterator<Item = Entries>,
    times: &RevisionTimes,
    now: Duration,
    revision: Revision,
    census: &mut Census,
) -> Queues {
    let mut queues = Queues::default();
    let mut all_holders = Vec::new();
    for entries in locks {
        let Parted {
            holders,
            waiters,
            first_waiter,
        } = entries.part();
        let locks = match waiters {
            0 => &mut queues.held,
            _ => &mut queues.contended,
        };
        locks.count += 1;
        for holder in holders {
            let since = census.held_since(holder, times.time_of(holder, now), now);
            locks.longest_hold = locks.longest_hold.max(now.saturating_sub(since));
            all_holders.push((holder, since));
        }
        queues.waiters += waiters;
        queues.longest = queues.longest.max(waiters);
        if let Some(first) = first_waiter {
            let waited = now.saturating_sub(times.time_of(first, now));
            queues.longest_wait = queues.longest_wait.max(waited);
        }
    }
    census.replace(all_holders, revision);
    queues
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

    fn entries(shared: &[Revision], exclusive: &[Revision]) -> Entries {
        Entries {
            shared: shared.to_vec(),
            exclusive: exclusive.to_vec(),
        }
    }

    #[test]
    fn whoever_is_not_first_waits() {
        for (shared, exclusive, holders, waiters, first_waiter) in [
            (&[][..], &[7][..], &[7][..], 0, None),
            (&[], &[7, 5, 9], &[5], 2, Some(7)),
            (&[1, 2], &[], &[1, 2], 0, None),
            (&[1, 4, 2], &[3], &[1, 2], 2, Some(3)),
            (&[4, 5], &[3], &[3], 2, Some(4)),
        ] {
            let expected = Parted {
                holders: holders.to_vec(),
                waiters,
                first_waiter,
            };
            assert_eq!(entries(shared, exclusive).part(), expected);
        }
    }

    #[test]
    fn the_longest_of_each_kind_is_found() {
        let seconds = Duration::from_secs;
        let mut times = RevisionTimes::new(0);
        for revision in 1..100 {
            times.note(revision, seconds(revision));
        }
        let mut census = Census::default();
        let mut count = |locks: Vec<Entries>, now| {
            summarize(locks.into_iter(), &times, seconds(now), now, &mut census)
        };
        let queues = count(
            vec![
                entries(&[], &[10]),
                entries(&[], &[20, 30, 40]),
                entries(&[25, 50], &[35]),
            ],
            60,
        );
        let locks = |count, longest_hold| Locks {
            count,
            longest_hold: seconds(longest_hold),
        };
        let expected = Queues {
            held: locks(1, 50),
            contended: locks(2, 40),
            waiters: 4,
            longest: 2,
            longest_wait: seconds(30),
        };
        assert_eq!(queues, expected);
        // The holders of the latter two have gone.
        let queues = count(
            vec![
                entries(&[], &[10]),
                entries(&[], &[30, 40]),
                entries(&[50], &[35]),
            ],
            70,
        );
        assert_eq!((queues.held, queues.contended), (locks(1, 60), locks(2, 0)));
        assert_eq!(queues.longest_wait, seconds(30));
        let queues = count(vec![entries(&[], &[30, 40]), entries(&[], &[71])], 75);
        assert_eq!((queues.held, queues.contended), (locks(1, 4), locks(1, 5)));
        assert_eq!(count(vec![], 80), Queues::default());
    }
}

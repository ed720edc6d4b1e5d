//! Compares two readings of the queues, and says what happened between.
//!
//! No backend can watch a whole namespace, so the queues are read again and again. What begins and
//! ends between two readings is not seen.

use std::collections::HashMap;

use turnlock::{Entry, EntryId, LockName, Queue};

use crate::commands::queue::{held_since, queued_since};

/// What happened to a contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It stands in the queue, and waits.
    Waits,
    /// It holds the lock.
    Granted,
    /// It held the lock, and its entry is gone: it released the lock, or lost it.
    HoldEnded,
    /// It waited, and its entry is gone: it gave up, was evicted, or its session has ended.
    WaitEnded,
}

/// A contender as it was last seen.
#[derive(Debug, Clone)]
pub struct Seen {
    pub lock: LockName,
    pub entry: Entry,
    pub holds: bool,
    /// When it began to hold or to wait, in milliseconds since the Unix epoch by our clock: as its
    /// contender says, or else when it was first seen so.
    pub since: u64,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Change {
    pub kind: Kind,
    pub seen: Seen,
    /// How long the wait or the hold was that has ended, in milliseconds.
    pub lasted: Option<u64>,
}

/// The contenders of the last reading.
#[derive(Debug, Default)]
pub struct Snapshot {
    seen: HashMap<EntryId, Seen>,
}

impl Snapshot {
    /// Takes a reading of this time, and returns what happened since the former one: first what has
    /// ended, then what has begun, each in the order of locks and queues. An incomplete
    /// reading reports no ends of contenders.
    pub fn advance(&mut self, queues: Vec<Queue>, is_complete: bool, now: u64) -> Vec<Change> {
        let mut next = HashMap::new();
        let mut begun = Vec::new();
        for queue in queues {
            let holders = queue.holders();
            for (place, entry) in queue.entries.into_iter().enumerate() {
                let holds = place < holders;
                let before = self.seen.remove(&entry.id);
                let told = match holds {
                    true => held_since(&entry),
                    false => queued_since(&entry),
                };
                let same = before.as_ref().filter(|before| before.holds == holds);
                // A contender that announces its hold late has said when it queued until then.
                let since = match (same, &before) {
                    (Some(same), _) => same.since,
                    (None, Some(_)) => now,
                    (None, None) => told.unwrap_or(now).min(now),
                };
                let id = entry.id.clone();
                let seen = Seen {
                    lock: queue.name.clone(),
                    entry,
                    holds,
                    since,
                };
                if same.is_none() {
                    begun.push(Change {
                        kind: if holds { Kind::Granted } else { Kind::Waits },
                        lasted: holds.then(|| waited(before.as_ref(), &seen)).flatten(),
                        seen: seen.clone(),
                    });
                }
                next.insert(id, seen);
            }
        }
        let gone = std::mem::replace(&mut self.seen, next);
        if !is_complete {
            // Those that were not read are as they were, for all that is known.
            for (id, seen) in gone {
                self.seen.entry(id).or_insert(seen);
            }
            return begun;
        }
        let mut changes: Vec<Change> = gone
            .into_values()
            .map(|seen| Change {
                kind: match seen.holds {
                    true => Kind::HoldEnded,
                    false => Kind::WaitEnded,
                },
                lasted: Some(now.saturating_sub(seen.since)),
                seen,
            })
            .collect();
        changes.sort_by(|a, b| {
            let order = |change: &Change| (change.seen.lock.clone(), change.seen.entry.token);
            order(a).cmp(&order(b))
        });
        changes.extend(begun);
        changes
    }

    /// Returns the contenders of the last reading, in no order.
    #[cfg(feature = "top")]
    pub fn contenders(&self) -> impl Iterator<Item = &Seen> {
        self.seen.values()
    }
}

/// Returns for how long a holder has waited: as it was seen, or else as it says.
fn waited(before: Option<&Seen>, seen: &Seen) -> Option<u64> {
    let queued = match before {
        Some(before) => before.since,
        None => queued_since(&seen.entry)?,
    };
    Some(seen.since.saturating_sub(queued))
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnlock::{Incarnation, Metadata, Mode, Token};

    fn entry(token: u64) -> Entry {
        let id = EntryId {
            key: [1u8].as_slice().into(),
            incarnation: Incarnation::new(token),
        };
        let mut metadata = Metadata::default();
        metadata.since_unix_ms = token;
        Entry::new(id, Token(token), Mode::Exclusive).with_metadata(Some(metadata))
    }

    fn queue(tokens: &[u64]) -> Vec<Queue> {
        let name = LockName::new("a").expect("valid");
        vec![Queue::new(name, tokens.iter().map(|t| entry(*t)).collect())]
    }

    fn told(changes: &[Change]) -> Vec<(Kind, u64, Option<u64>)> {
        let told = |c: &Change| (c.kind, c.seen.entry.token.0, c.lasted);
        changes.iter().map(told).collect()
    }

    #[test]
    fn each_begin_and_end_is_told_once_and_with_its_time() {
        use Kind::*;
        let mut snapshot = Snapshot::default();
        let first = snapshot.advance(queue(&[1000, 2000, 2500]), true, 3000);
        let begun = [(Waits, 2000, None), (Waits, 2500, None)];
        assert_eq!(told(&first)[1..], begun);
        assert_eq!(told(&first)[0].0, Granted);
        assert_eq!(
            told(&snapshot.advance(queue(&[1000, 2000, 2500]), true, 4000)),
            []
        );
        let handed_over = snapshot.advance(queue(&[2000]), true, 5000);
        let expected = [
            (HoldEnded, 1000, Some(2000)),
            (WaitEnded, 2500, Some(2500)),
            (Granted, 2000, Some(3000)),
        ];
        assert_eq!(told(&handed_over), expected);
        assert_eq!(
            told(&snapshot.advance(vec![], true, 6000)),
            [(HoldEnded, 2000, Some(1000))]
        );
    }

    #[test]
    fn a_part_of_the_locks_ends_nothing() {
        let mut snapshot = Snapshot::default();
        snapshot.advance(queue(&[1, 2]), true, 10);
        assert_eq!(told(&snapshot.advance(vec![], false, 20)), []);
        assert_eq!(told(&snapshot.advance(vec![], true, 30)).len(), 2);
    }

    #[test]
    fn an_entry_made_anew_under_the_same_key_is_another_one() {
        let mut snapshot = Snapshot::default();
        snapshot.advance(queue(&[1]), true, 10);
        let told = told(&snapshot.advance(queue(&[2]), true, 20));
        let kinds: Vec<Kind> = told.iter().map(|(kind, ..)| *kind).collect();
        assert_eq!(kinds, [Kind::HoldEnded, Kind::Granted]);
    }
}

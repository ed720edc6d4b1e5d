//! The index of watches: finds those that a key concerns without asking each.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use crate::machine::op::KeyRange;

pub(super) type WatchId = u64;

/// The most watches of ranges that are neither one key nor a prefix. Each change tries all of them,
/// which takes about 20 µs at this number.
pub(super) const MAX_SPANS: usize = 1_000;

/// The most lengths of prefixes that are looked up. A change hashes the beginnings of its key once
/// for each of them. Prefixes of further lengths are tried one by one.
const MAX_LENGTHS: usize = 256;

/// Watches by their keys. Single keys and prefixes are looked up. Other ranges are rare, and are
/// tried one by one. To remove a watch costs the same however many there are.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: HashMap<Bytes, BTreeSet<WatchId>>,
    prefixes: HashMap<Bytes, BTreeSet<WatchId>>,
    /// The number of different prefixes of each length, to know which lengths to look up.
    lengths: BTreeMap<usize, usize>,
    spans: BTreeMap<WatchId, KeyRange>,
}

impl Index {
    /// Returns whether another watch of this range may be added.
    pub(super) fn has_room(&self, keys: &KeyRange) -> bool {
        let is_span = matches!(keys, KeyRange::Span { .. }) && self.prefix_of(keys).is_none();
        !is_span || self.spans.len() < MAX_SPANS
    }

    /// Returns the prefix that the keys of a range have in common and no other key has, if it is
    /// one that is looked up. All keys have the empty one.
    fn prefix_of(&self, keys: &KeyRange) -> Option<Bytes> {
        let prefix = match keys.is_all() {
            true => Bytes::new(),
            false => keys.as_prefix()?.clone(),
        };
        let has_room = self.lengths.len() < MAX_LENGTHS;
        (has_room || self.lengths.contains_key(&prefix.len())).then_some(prefix)
    }

    pub(super) fn insert(&mut self, keys: &KeyRange, id: WatchId) {
        if let KeyRange::One(key) = keys {
            self.keys.entry(key.clone()).or_default().insert(id);
        } else if let Some(prefix) = self.prefix_of(keys) {
            let length = prefix.len();
            let ids = self.prefixes.entry(prefix).or_default();
            if ids.is_empty() {
                *self.lengths.entry(length).or_default() += 1;
            }
            ids.insert(id);
        } else {
            self.spans.insert(id, keys.clone());
        }
    }

    pub(super) fn remove(&mut self, keys: &KeyRange, id: WatchId) {
        if let KeyRange::One(key) = keys {
            remove_from(&mut self.keys, key, id);
        } else if self.spans.remove(&id).is_some() {
            // It was no prefix, or one of a length too many.
        } else if let Some(prefix) = self.prefix_of(keys) {
            let was_last = remove_from(&mut self.prefixes, &prefix, id);
            if was_last && let Some(count) = self.lengths.get_mut(&prefix.len()) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&prefix.len());
                }
            }
        }
    }

    /// Calls `visit` with each watch that `key` concerns.
    pub(super) fn for_each(&self, key: &[u8], mut visit: impl FnMut(WatchId)) {
        self.keys
            .get(key)
            .into_iter()
            .flatten()
            .for_each(|&id| visit(id));
        for &length in self.lengths.keys() {
            let Some(prefix) = key.get(..length) else {
                break;
            };
            (self.prefixes.get(prefix).into_iter().flatten()).for_each(|&id| visit(id));
        }
        for (id, keys) in &self.spans {
            if keys.contains(key) {
                visit(*id);
            }
        }
    }
}

/// Removes `id` from the set of `key`. Returns whether the set was removed with it.
fn remove_from(sets: &mut HashMap<Bytes, BTreeSet<WatchId>>, key: &Bytes, id: WatchId) -> bool {
    let Some(ids) = sets.get_mut(key) else {
        return false;
    };
    ids.remove(&id);
    let was_last = ids.is_empty();
    if was_last {
        sets.remove(key);
    }
    was_last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_exactly_the_watches_whose_range_holds_the_key() {
        let ranges = [
            KeyRange::One(Bytes::from_static(b"a/1")),
            KeyRange::One(Bytes::from_static(b"a/1")),
            KeyRange::prefix("a/"),
            KeyRange::prefix("a/"),
            KeyRange::prefix("a"),
            KeyRange::prefix("b/"),
            KeyRange::all(),
            KeyRange::Span {
                start: Bytes::from_static(b"a/0"),
                end: Some(Bytes::from_static(b"a/2")),
            },
        ];
        let mut index = Index::default();
        let mut live: Vec<usize> = Vec::new();
        let check = |index: &Index, live: &[usize]| {
            for key in [&b"a/1"[..], b"a/2", b"a", b"b/", b"b", b"c", b"a/1/x"] {
                let mut found = Vec::new();
                index.for_each(key, |id| found.push(id as usize));
                found.sort_unstable();
                let expected: Vec<_> = (live.iter().copied())
                    .filter(|&id| ranges[id].contains(key))
                    .collect();
                assert_eq!(found, expected, "{}", key.escape_ascii());
            }
        };
        for (id, range) in ranges.iter().enumerate() {
            index.insert(range, id as WatchId);
            live.push(id);
            check(&index, &live);
        }
        for (id, range) in ranges.iter().enumerate() {
            index.remove(range, id as WatchId);
            live.remove(0);
            check(&index, &live);
        }
        assert!(index.keys.is_empty() && index.prefixes.is_empty());
        assert!(index.lengths.is_empty() && index.spans.is_empty());
    }

    #[test]
    fn prefixes_of_very_many_lengths_are_found_and_removed_too() {
        let mut index = Index::default();
        let prefix = |length: usize| KeyRange::prefix("p".repeat(length));
        for length in 1..=MAX_LENGTHS + 10 {
            index.insert(&prefix(length), length as WatchId);
        }
        assert_eq!((index.lengths.len(), index.spans.len()), (MAX_LENGTHS, 10));
        let mut found = 0;
        index.for_each("p".repeat(MAX_LENGTHS + 5).as_bytes(), |_| found += 1);
        assert_eq!(found, MAX_LENGTHS + 5);
        for length in 1..=MAX_LENGTHS + 10 {
            index.remove(&prefix(length), length as WatchId);
        }
        assert!(index.lengths.is_empty() && index.spans.is_empty() && index.prefixes.is_empty());
    }
}

//! The keys, with an index that finds the newest entry before another one in a queue without
//! reading the queue.

use std::collections::{BTreeMap, BTreeSet};
#[cfg(feature = "server")]
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::op::{Event, KeyRange, KeyValue, Revision};

/// The keys of one directory by create revision. One transaction may create several keys, so the
/// key is part of the order.
pub(super) type Directory = BTreeSet<(Revision, Bytes)>;

/// All keys, and for each directory the keys in it by create revision. The directory of a key is
/// the key up to and including its last `/`, or empty. A lock's queue is one directory. So the
/// entry just before another one, and the length of the queue, cost the same at ten entries and at
/// ten thousand. A reader asks for a part of the queue; see [`parts`](Self::parts).
#[derive(Debug, Default)]
pub(super) struct KeySpace {
    pub(super) keys: BTreeMap<Bytes, Arc<KeyValue>>,
    pub(super) directories: BTreeMap<Bytes, Directory>,
    bytes: u64,
    /// The size of the largest key and value so far: an upper bound for those that there are.
    largest: usize,
}

impl KeySpace {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns the bytes of keys and values.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns a size in bytes that no key together with its value exceeds.
    pub(super) fn largest(&self) -> usize {
        self.largest
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Arc<KeyValue>> {
        self.keys.get(key)
    }

    /// Returns the keys after this one, ascending.
    #[cfg(feature = "server")]
    pub(super) fn after(&self, key: &[u8]) -> impl Iterator<Item = &Arc<KeyValue>> {
        let bounds = (Bound::Excluded(key), Bound::Unbounded);
        self.keys.range::<[u8], _>(bounds).map(|(_, kv)| kv)
    }

    /// Returns the keys of a range, ascending.
    pub(super) fn iter(&self, range: &KeyRange) -> impl Iterator<Item = &Arc<KeyValue>> {
        // One search instead of the two of a range.
        let (one, bounds) = match range {
            KeyRange::One(key) => (self.keys.get(key), None),
            KeyRange::Span { .. } => (None, range.bounds()),
        };
        let span = bounds.map(|bounds| self.keys.range::<[u8], _>(bounds));
        let span = span.into_iter().flatten().map(|(_, kv)| kv);
        one.into_iter().chain(span)
    }

    /// Returns the number of keys in a range.
    pub(super) fn count(&self, range: &KeyRange) -> usize {
        match self.parts(range, usize::MAX) {
            Some(parts) => parts.map(|part| part.len).sum(),
            None => self.iter(range).count(),
        }
    }

    /// Returns the number of keys in this queue.
    pub(super) fn queue_length(&self, queue: &[u8]) -> usize {
        self.directories.get(queue).map_or(0, Directory::len)
    }

    /// Writes a key, and returns what it replaced.
    pub(super) fn insert(&mut self, kv: Arc<KeyValue>) -> Option<Arc<KeyValue>> {
        self.bytes += kv.size() as u64;
        self.largest = self.largest.max(kv.size());
        let key = kv.key.clone();
        let create_revision = kv.create_revision;
        let old = self.keys.insert(key.clone(), kv);
        match &old {
            // The same incarnation keeps its position in the index.
            Some(old) if old.create_revision == create_revision => self.bytes -= old.size() as u64,
            Some(old) => {
                self.bytes -= old.size() as u64;
                self.unindex(&old.key, old.create_revision);
                self.index(key, create_revision);
            }
            None => self.index(key, create_revision),
        }
        old
    }

    /// Removes a key, and returns its last state.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Arc<KeyValue>> {
        let old = self.keys.remove(key)?;
        self.bytes -= old.size() as u64;
        self.unindex(&old.key, old.create_revision);
        Some(old)
    }

    fn index(&mut self, key: Bytes, create_revision: Revision) {
        let length = directory_length(&key);
        if let Some(directory) = self.directories.get_mut(&key[..length]) {
            directory.insert((create_revision, key));
        } else {
            // A copy, not a slice: the name may outlive this key, and a slice would keep the whole
            // key in memory.
            let name = Bytes::copy_from_slice(&key[..length]);
            self.directories
                .insert(name, Directory::from([(create_revision, key)]));
        }
    }

    fn unindex(&mut self, key: &Bytes, create_revision: Revision) {
        let name = &key[..directory_length(key)];
        let Some(directory) = self.directories.get_mut(name) else {
            return;
        };
        directory.remove(&(create_revision, key.clone()));
        if directory.is_empty() {
            self.directories.remove(name);
        }
    }
}

impl KeyValue {
    /// Returns the state of a key that was deleted at this revision, as events show it.
    pub(crate) fn deleted(key: Bytes, revision: Revision) -> Self {
        KeyValue {
            key,
            value: Bytes::new(),
            create_revision: 0,
            mod_revision: revision,
            version: 0,
            lease: 0,
        }
    }

    /// Returns the bytes of key and value.
    pub(crate) fn size(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

impl Event {
    /// Returns the bytes of keys and values that the event keeps in memory.
    pub(crate) fn size(&self) -> usize {
        self.kv.size() + self.prev.as_ref().map_or(0, |prev| prev.size())
    }
}

/// Returns the queue that an entry at this key would stand in: the key up to its last `/`, unless
/// the name of that directory begins with `@`.
pub(super) fn queue_of(key: &[u8]) -> Option<&[u8]> {
    let queue = &key[..directory_length(key)];
    let last = queue.strip_suffix(b"/").unwrap_or(queue);
    let last = &last[directory_length(last)..];
    (!last.starts_with(b"@")).then_some(queue)
}

/// Returns how long the name of the key's directory is.
pub(super) fn directory_length(key: &[u8]) -> usize {
    key.iter()
        .rposition(|&byte| byte == b'/')
        .map_or(0, |slash| slash + 1)
}

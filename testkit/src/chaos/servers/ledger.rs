//! Keeps the history of the queues of a store that follows etcd's rules, change by change.

use std::collections::{BTreeMap, BTreeSet};

use backend_kit::keyspace::Keyspace;
use lock_core::clock::BootInstant;
use lock_core::{Metadata, SessionId, Token, TokenOffset};

use super::Account;
use crate::history::{Cause, Deletion, Entry};

/// A change of one key, or its present state.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value; empty if the key was deleted.
    pub value: &'a [u8],
    /// The lease that the key is attached to; 0 for none.
    pub lease: i64,
    /// The revision that made the key.
    pub created: u64,
    /// The revision of the change.
    pub revision: u64,
    /// Whether the key was made or changed, and not deleted.
    pub is_put: bool,
}

/// All changes that were observed.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Entries by key and revision of creation.
    entries: BTreeMap<(Vec<u8>, u64), Entry>,
    /// The token offsets by the revision that set them.
    offsets: BTreeMap<u64, u64>,
    /// The instant at which a revision was first reported.
    seen: BTreeMap<u64, BootInstant>,
    /// Ranges of revisions that a member had no record of, with both ends included.
    gaps: BTreeSet<(u64, u64)>,
}

impl Ledger {
    /// Records that a key was made or deleted. Several members may report the same change.
    pub fn record(&mut self, change: Change<'_>, at: BootInstant) {
        let Change { key, revision, .. } = change;
        self.seen.entry(revision).or_insert(at);
        if change.is_put {
            if let Some(offset) = to_offset(change) {
                self.offsets.insert(revision, offset);
            }
            // A key that is not in a lock's queue is a session's own, a value or the offset.
            if let Some(entry) = to_entry(change) {
                let id = (key.to_vec(), entry.created);
                self.entries.entry(id).or_insert(entry);
            }
            return;
        }
        let mut incarnations = self.entries.range_mut((key.to_vec(), 0)..);
        let own = |(id, _): &(&(Vec<u8>, u64), &mut Entry)| id.0 == key && id.1 < revision;
        if let Some((_, entry)) = incarnations.by_ref().take_while(own).last() {
            entry.deleted.get_or_insert(Deletion {
                from: revision,
                to: revision,
                cause: Cause::Unknown,
                decided: None,
            });
        }
    }

    /// Continues with the present keys, at `revision`, where a store has forgotten the changes since
    /// `first`.
    pub fn record_gap<'a>(
        &mut self,
        first: u64,
        revision: u64,
        present: impl Iterator<Item = Change<'a>>,
        at: BootInstant,
    ) {
        let mut there = BTreeSet::new();
        for change in present {
            there.insert((change.key.to_vec(), change.created));
            self.record(change, at);
        }
        for (id, entry) in &mut self.entries {
            if entry.deleted.is_none() && !there.contains(id) {
                entry.deleted = Some(Deletion {
                    from: first,
                    to: revision,
                    cause: Cause::Unknown,
                    decided: None,
                });
            }
        }
        self.seen.entry(revision).or_insert(at);
        self.gaps.insert((first, revision));
    }

    /// Returns all that was recorded.
    pub fn account(&self) -> Account {
        let mut entries: Vec<Entry> = self.entries.values().cloned().collect();
        entries.sort_by_key(|entry| entry.created);
        for entry in &mut entries {
            let mut before = self.offsets.range(..entry.created);
            let offset = before.next_back().map_or(0, |(_, offset)| *offset);
            entry.token = Token(offset + entry.created);
        }
        Account {
            entries,
            offsets: self.offsets.iter().map(|(r, o)| (*r, *o)).collect(),
            seen: self.seen.iter().map(|(r, at)| (*r, *at)).collect(),
            gaps: self.gaps.iter().copied().collect(),
        }
    }
}

fn to_entry(change: Change<'_>) -> Option<Entry> {
    let keyspace = Keyspace::default();
    let name = keyspace.name_of(change.key)?;
    let note = Metadata::from_bytes(change.value).and_then(|metadata| metadata.note);
    Some(Entry {
        key: String::from_utf8_lossy(change.key).into_owned(),
        lock: name.as_str().to_owned(),
        mode: keyspace.mode_of(&name, change.key),
        session: SessionId(change.lease),
        op: note.and_then(|note| note.parse().ok()),
        created: change.created,
        token: Token(change.created),
        deleted: None,
    })
}

/// Returns the token offset, if it was set.
fn to_offset(change: Change<'_>) -> Option<u64> {
    let key = Keyspace::default().token_offset_key();
    let is_it = change.key == key.as_bytes();
    let offset = is_it.then(|| TokenOffset::from_bytes(change.value, &key));
    offset?.ok().map(TokenOffset::get)
}

//! The last changes. With what each of them replaced, the state at a past revision can be read, and
//! the state can be copied while it changes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::op::{Event, KeyRange, KeyValue, Revision};
use crate::config::Limits;

/// The states of some keys; `None` for one that does not exist.
pub(super) type States = BTreeMap<Bytes, Option<Arc<KeyValue>>>;

/// Recent events, oldest first, bounded by number and by bytes.
#[derive(Debug)]
pub(super) struct Past {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// The states at this revision and at later ones are known.
    known_since: Revision,
    /// The changes after this revision are kept, whatever the bounds.
    held_since: Option<Revision>,
    max_events: usize,
    max_bytes: usize,
}

impl Past {
    /// Creates a past that knows nothing before `revision`.
    pub(super) fn new(revision: Revision, limits: &Limits) -> Self {
        Past {
            events: VecDeque::new(),
            bytes: 0,
            known_since: revision,
            held_since: None,
            max_events: limits.history_events,
            max_bytes: limits.history_bytes,
        }
    }

    pub(super) fn known_since(&self) -> Revision {
        self.known_since
    }

    /// Adds a change. Nothing is forgotten before [`trim`](Self::trim): the rest of the transaction
    /// may read what was there before it.
    pub(super) fn push(&mut self, event: &Arc<Event>) {
        self.bytes += event.size();
        self.events.push_back(Arc::clone(event));
    }

    /// Forgets what is beyond the bounds.
    pub(super) fn trim(&mut self) {
        while let Some(oldest) = self.events.front() {
            let revision = oldest.kv.mod_revision;
            let is_over = self.events.len() > self.max_events || self.bytes > self.max_bytes;
            let is_held = self.held_since.is_some_and(|since| revision > since);
            if is_held || !is_over && revision > self.known_since {
                break;
            }
            self.known_since = self.known_since.max(revision);
            self.bytes -= oldest.size();
            self.events.pop_front();
        }
    }

    /// Forgets the states before `revision`.
    pub(super) fn compact(&mut self, revision: Revision) {
        self.known_since = self.known_since.max(revision);
        self.trim();
    }

    /// Keeps all changes after this revision until [`release`](Self::release).
    #[cfg(feature = "server")]
    pub(super) fn hold(&mut self, since: Revision) {
        self.held_since = Some(since);
    }

    /// Returns the present states of all keys that have changed since [`hold`](Self::hold), and keeps
    /// them no longer; `None` if they were not kept.
    #[cfg(feature = "server")]
    pub(super) fn release(&mut self, since: Revision) -> Option<States> {
        if self.held_since.take()? != since {
            return None;
        }
        let changed = self.after(since).map(|event| {
            let kv = (!event.deleted).then(|| Arc::clone(&event.kv));
            (event.kv.key.clone(), kv)
        });
        let changed = changed.collect();
        self.trim();
        Some(changed)
    }

    /// Returns how many changes there were after this revision.
    pub(super) fn count_after(&self, revision: Revision) -> usize {
        self.events.len() - self.first_after(revision)
    }

    /// Returns what those of these keys that have changed after `revision` were then.
    pub(super) fn states_at(&self, revision: Revision, keys: &KeyRange) -> States {
        let mut states = States::new();
        for event in self.after(revision) {
            if keys.contains(&event.kv.key) {
                let prev = || event.prev.clone();
                states.entry(event.kv.key.clone()).or_insert_with(prev);
            }
        }
        states
    }

    fn after(&self, revision: Revision) -> impl Iterator<Item = &Arc<Event>> {
        self.events.range(self.first_after(revision)..)
    }

    fn first_after(&self, revision: Revision) -> usize {
        (self.events).partition_point(|event| event.kv.mod_revision <= revision)
    }
}

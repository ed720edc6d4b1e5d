//! The hub: the published revision, the history, and every live watch.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::history::History;
use super::index::{Index, WatchId};
use super::watcher::{Queue, WatchBatch};
use crate::config::Limits;
use crate::error::Error;
use crate::machine::op::{Event, KeyRange, KeyValue, Revision};
use crate::store::Deletions;

#[derive(Debug)]
pub(crate) struct Hub {
    revision: Revision,
    compact_revision: Revision,
    history: History,
    /// The revision of the last change of each existing key.
    mod_revisions: HashMap<Bytes, Revision>,
    /// Start revisions of watches that saw changes which this store never recorded.
    unrecorded: Range<Revision>,
    watches: HashMap<WatchId, (KeyRange, Arc<Queue>)>,
    index: Index,
    last_id: WatchId,
    stopped: Option<Error>,
    limits: Limits,
}

impl Hub {
    /// Creates a hub at `revision`, with no history before it.
    pub(crate) fn new(revision: Revision, compact_revision: Revision, limits: &Limits) -> Self {
        Self {
            revision,
            compact_revision,
            history: History::new(revision + 1, limits.history_events, limits.history_bytes),
            mod_revisions: HashMap::new(),
            unrecorded: 0..0,
            watches: HashMap::new(),
            index: Index::default(),
            last_id: 0,
            stopped: None,
            limits: limits.clone(),
        }
    }

    /// Restores what happened before this coordinator was opened: the existing keys, and when other
    /// keys were deleted.
    pub(crate) fn restore(&mut self, keys: &[Arc<KeyValue>], deletions: &Deletions) {
        let changed = keys.iter().map(|kv| (kv.key.clone(), kv.mod_revision));
        self.mod_revisions = changed.collect();
        let complete_since = deletions.complete_since().unwrap_or(self.revision + 1);
        let complete_since = complete_since.max(self.compact_revision);
        let puts = keys.iter().map(|kv| restored_event(kv, false));
        let mut events: Vec<_> = puts.collect();
        let mut seen = HashSet::new();
        for (revision, key) in deletions.rows().rev() {
            // Only the last change of each key is kept.
            if !self.mod_revisions.contains_key(key) && seen.insert(key) {
                let kv = KeyValue::deleted(key.clone(), *revision);
                events.push(restored_event(&Arc::new(kv), true));
            }
        }
        events.sort_by(|a, b| event_order(a).cmp(&event_order(b)));
        let recorded = events.last().map_or(0, |last| last.kv.mod_revision);
        self.unrecorded = recorded + 2..self.revision + 1;
        events.retain(|event| event.kv.mod_revision >= complete_since);
        self.history.restore(complete_since, events.into_iter());
    }

    /// Returns the revision of the last published change.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the number of live watches.
    #[cfg(feature = "server")]
    pub(crate) fn watch_count(&self) -> usize {
        self.watches.len()
    }

    pub(crate) fn compact_revision(&self) -> Revision {
        self.compact_revision
    }

    /// Publishes the events of one revision. Returns how many watches were woken.
    pub(crate) fn publish(&mut self, revision: Revision, events: &[Arc<Event>]) -> usize {
        self.revision = revision;
        let mut hits: BTreeMap<WatchId, Vec<Arc<Event>>> = BTreeMap::new();
        for event in events {
            self.history.push(Arc::clone(event));
            match event.deleted {
                true => self.mod_revisions.remove(&event.kv.key),
                false => self.mod_revisions.insert(event.kv.key.clone(), revision),
            };
            self.index.for_each(&event.kv.key, |id| {
                hits.entry(id).or_default().push(Arc::clone(event));
            });
        }
        let mut woken = 0;
        for (id, events) in hits {
            let Some((_, queue)) = self.watches.get(&id) else {
                continue;
            };
            if revision < queue.start_revision() {
                continue;
            }
            woken += 1;
            if !queue.push(WatchBatch { revision, events }) {
                self.unwatch(id);
            }
        }
        woken
    }

    /// Forgets the events before `revision`.
    pub(crate) fn compact(&mut self, revision: Revision) {
        self.compact_revision = revision;
        self.history.truncate(revision);
    }

    /// Adds a watch that starts at `start`, or at the next change.
    pub(crate) fn watch(
        &mut self,
        keys: KeyRange,
        start: Option<Revision>,
    ) -> Result<(WatchId, Arc<Queue>), Error> {
        if let Some(error) = &self.stopped {
            return Err(error.clone());
        }
        if keys.first().is_empty() {
            return Err(Error::EmptyKey);
        }
        let limit = self.limits.watches;
        if self.watches.len() >= limit {
            return Err(Error::TooManyWatches { limit });
        }
        let start = start.unwrap_or(self.revision + 1);
        if self.may_predate_store(start, &keys) {
            return Err(Error::Compacted {
                requested: start,
                compact_revision: self.unrecorded.end,
            });
        }
        let mut backlog: Vec<WatchBatch> = Vec::new();
        let from = if self.is_unchanged_since(start, &keys) {
            start.max(self.revision + 1)
        } else {
            start
        };
        for event in self.history.events_since(from, &keys)? {
            let revision = event.kv.mod_revision;
            match backlog.last_mut() {
                Some(batch) if batch.revision == revision => batch.events.push(Arc::clone(event)),
                _ => backlog.push(WatchBatch {
                    revision,
                    events: vec![Arc::clone(event)],
                }),
            }
        }
        let queue = Arc::new(Queue::new(start, backlog, &self.limits));
        self.last_id += 1;
        let id = self.last_id;
        self.index.insert(&keys, id);
        self.watches.insert(id, (keys, Arc::clone(&queue)));
        Ok((id, queue))
    }

    /// Returns whether a watch of one key may have seen that key in a store that this one replaced,
    /// or in a later state of this store. Such a watch would never see the key's deletion.
    fn may_predate_store(&self, start: Revision, keys: &KeyRange) -> bool {
        let KeyRange::One(key) = keys else {
            return false;
        };
        self.unrecorded.contains(&start) && !self.mod_revisions.contains_key(key)
    }

    /// Returns whether these keys have certainly not changed since `start`, even if the history
    /// does not reach that far. It serves watches that wait for the deletion of one key.
    fn is_unchanged_since(&self, start: Revision, keys: &KeyRange) -> bool {
        let KeyRange::One(key) = keys else {
            return false;
        };
        let changed = self.mod_revisions.get(key);
        start >= self.compact_revision && changed.is_some_and(|changed| *changed < start)
    }

    /// Removes a watch, if it still exists.
    pub(crate) fn unwatch(&mut self, id: WatchId) {
        if let Some((keys, _)) = self.watches.remove(&id) {
            self.index.remove(&keys, id);
        }
    }

    /// Ends all watches with this error, and refuses new ones with it.
    pub(crate) fn stop(&mut self, error: &Error) {
        self.stopped = Some(error.clone());
        self.index = Index::default();
        // In the order in which they began, so that who is woken first does not depend on chance.
        let mut watches: Vec<_> = self.watches.drain().collect();
        watches.sort_unstable_by_key(|(id, _)| *id);
        for (_, (_, queue)) in watches {
            queue.end(error.clone());
        }
    }
}

/// Orders events by revision, and those of one revision by key.
fn event_order(event: &Event) -> (Revision, &Bytes) {
    (event.kv.mod_revision, &event.kv.key)
}

/// Makes an event from before the restart. Only the resulting state of the key is known.
fn restored_event(kv: &Arc<KeyValue>, deleted: bool) -> Arc<Event> {
    Arc::new(Event {
        kv: Arc::clone(kv),
        prev: None,
        deleted,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Makes the event of a put of a new key, with a value of this length.
    pub(in crate::coordinator::watch) fn put_event(
        key: &str,
        revision: Revision,
        length: usize,
    ) -> Arc<Event> {
        let kv = Arc::new(KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::from(vec![b'v'; length]),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 0,
        });
        Arc::new(Event {
            kv,
            prev: None,
            deleted: false,
        })
    }

    fn one(key: &str) -> KeyRange {
        KeyRange::One(Bytes::copy_from_slice(key.as_bytes()))
    }

    #[test]
    fn a_change_wakes_only_the_watch_of_its_key() {
        let mut hub = Hub::new(1, 0, &Limits::default());
        let queues: Vec<_> = (0..1000)
            .map(|n| hub.watch(one(&format!("q/{n}")), None).unwrap().1)
            .collect();
        assert_eq!(hub.publish(2, &[put_event("q/500", 2, 0)]), 1);
        for (n, queue) in queues.iter().enumerate() {
            assert_eq!(queue.is_empty(), n != 500, "{n}");
        }
        assert_eq!(hub.publish(3, &[put_event("other", 3, 0)]), 0);
    }

    #[test]
    fn one_revision_comes_as_one_batch() {
        let mut hub = Hub::new(1, 0, &Limits::default());
        let (_, live) = hub.watch(KeyRange::prefix("a/"), None).unwrap();
        let events = [
            put_event("a/1", 2, 0),
            put_event("b/1", 2, 0),
            put_event("a/2", 2, 0),
        ];
        assert_eq!(hub.publish(2, &events), 1);
        let (_, late) = hub.watch(KeyRange::prefix("a/"), Some(2)).unwrap();
        for queue in [live, late] {
            let batch = queue.pop().unwrap().unwrap();
            assert_eq!(batch.revision, 2);
            assert_eq!(batch.events.len(), 2);
            assert!(queue.pop().is_none());
        }
    }

    #[test]
    fn a_watch_from_the_future_waits_for_it() {
        let mut hub = Hub::new(1, 0, &Limits::default());
        let (_, queue) = hub.watch(one("a"), Some(4)).unwrap();
        for revision in 2..6 {
            let woken = hub.publish(revision, &[put_event("a", revision, 0)]);
            assert_eq!(woken, usize::from(revision >= 4));
        }
        assert_eq!(queue.pop().unwrap().unwrap().revision, 4);
    }

    #[test]
    fn a_watcher_of_an_unrecorded_revision_is_not_left_waiting() {
        // The store ends with revision 10, and continues from 100.
        let mut hub = Hub::new(100, 0, &Limits::default());
        let kept = Arc::clone(&put_event("kept", 10, 0).kv);
        hub.restore(&[kept], &Deletions::empty_since(2));
        for start in [12, 50, 100] {
            let refusal = hub.watch(one("lost"), Some(start));
            assert!(matches!(refusal, Err(Error::Compacted { .. })), "{start}");
            assert!(hub.watch(one("kept"), Some(start)).is_ok());
            assert!(hub.watch(KeyRange::prefix("q/"), Some(start)).is_ok());
        }
        for start in [2, 11, 101, 102] {
            assert!(hub.watch(one("new"), Some(start)).is_ok(), "{start}");
        }
    }

    #[test]
    fn a_slow_consumer_gets_the_revision_to_resume_from() {
        let limits = Limits {
            watch_queue_events: 3,
            ..Limits::default()
        };
        let mut hub = Hub::new(1, 0, &limits);
        let (_, queue) = hub.watch(one("a"), None).unwrap();
        for revision in 2..10 {
            hub.publish(revision, &[put_event("a", revision, 0)]);
        }
        assert!(hub.watches.is_empty(), "the hub has let go of it");
        for revision in 2..5 {
            assert_eq!(queue.pop().unwrap().unwrap().revision, revision);
        }
        let Some(Err(Error::SlowWatcher { resume_revision })) = queue.pop() else {
            panic!("no error after the queue overflowed");
        };
        assert_eq!(resume_revision, 5);
        let (_, resumed) = hub.watch(one("a"), Some(resume_revision)).unwrap();
        for revision in 5..10 {
            assert_eq!(resumed.pop().unwrap().unwrap().revision, revision);
        }
    }

    #[test]
    fn a_backlog_does_not_count_as_slowness() {
        let limits = Limits {
            watch_queue_events: 3,
            ..Limits::default()
        };
        let mut hub = Hub::new(1, 0, &limits);
        for revision in 2..20 {
            hub.publish(revision, &[put_event("a", revision, 0)]);
        }
        let (_, queue) = hub.watch(one("a"), Some(2)).unwrap();
        for revision in 20..23 {
            hub.publish(revision, &[put_event("a", revision, 0)]);
        }
        for revision in 2..23 {
            assert_eq!(queue.pop().unwrap().unwrap().revision, revision);
        }
        assert!(queue.pop().is_none());
    }

    #[test]
    fn compaction_is_reported_and_watches_are_limited() {
        let limits = Limits {
            watches: 1,
            ..Limits::default()
        };
        let mut hub = Hub::new(7, 0, &limits);
        for revision in 8..12 {
            hub.publish(revision, &[put_event("a", revision, 0)]);
        }
        hub.compact(10);
        for (start, expected) in [(7, 10), (9, 10)] {
            let Err(Error::Compacted {
                requested,
                compact_revision,
            }) = hub.watch(one("a"), Some(start))
            else {
                panic!("no error for {start}");
            };
            assert_eq!((requested, compact_revision), (start, expected));
        }
        let (id, _) = hub.watch(one("a"), Some(10)).unwrap();
        let refusal = hub.watch(one("a"), None);
        assert!(matches!(refusal, Err(Error::TooManyWatches { limit: 1 })));
        hub.unwatch(id);
        assert!(hub.watch(one("a"), None).is_ok());
    }
}

//! The hub: the published revision, the history, and every live watch.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::history::History;
use super::index::{Index, MAX_SPANS, WatchId};
use super::watcher::{Backlog, Queue, WatchBatch};
use crate::config::Limits;
use crate::error::Error;
use crate::machine::FIRST_REVISION;
use crate::machine::op::{Event, KeyRange, KeyValue, Revision};
use crate::store::Deletions;

/// How many past events a watch that is behind looks at before it lets others have the hub: for some
/// tens of microseconds.
const CATCH_UP_EVENTS: usize = 1_000;

/// The most bytes of the keys of all watches.
const MAX_KEYS_BYTES: usize = 64 << 20;

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
    /// The bytes of their keys.
    keys_bytes: usize,
    index: Index,
    last_id: WatchId,
    stopped: Option<Error>,
    limits: Limits,
    backlog: Arc<Backlog>,
}

impl Hub {
    /// Creates a hub at `revision`, at which nothing has happened, with no history before it.
    pub(crate) fn new(revision: Revision, compact_revision: Revision, limits: &Limits) -> Self {
        Self {
            revision,
            compact_revision,
            history: History::new(revision, limits.history_events, limits.history_bytes),
            mod_revisions: HashMap::new(),
            unrecorded: 0..0,
            watches: HashMap::new(),
            keys_bytes: 0,
            index: Index::default(),
            last_id: 0,
            stopped: None,
            limits: limits.clone(),
            backlog: Arc::new(Backlog::new(limits.watch_backlog_bytes)),
        }
    }

    /// Restores what happened before this coordinator was opened: the existing keys, and when other
    /// keys were deleted. `last_change` is the revision of the last change before.
    pub(crate) fn restore(
        &mut self,
        keys: &[Arc<KeyValue>],
        deletions: &Deletions,
        last_change: Revision,
    ) {
        let changed = keys.iter().map(|kv| (kv.key.clone(), kv.mod_revision));
        self.mod_revisions = changed.collect();
        // A revision that a store skips to when it is opened has no changes. Clients that read it
        // here begin their watches with it.
        let known_since = match self.revision > last_change || last_change == FIRST_REVISION {
            true => self.revision,
            false => self.revision + 1,
        };
        let complete_since = deletions.complete_since().unwrap_or(known_since);
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
        self.unrecorded = recorded + 2..known_since;
        events.retain(|event| event.kv.mod_revision >= complete_since);
        self.history.restore(complete_since, events.into_iter());
    }

    /// Returns the revision of the last published change.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns how many bytes wait for the consumers of all watches together.
    #[cfg(feature = "server")]
    pub(crate) fn backlog_bytes(&self) -> usize {
        self.backlog.bytes()
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
            // A watch that is behind reads this from the history in its turn.
            if revision < queue.start_revision() || queue.is_behind() {
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
        let keys_bytes = self.keys_bytes + keys.size();
        if self.watches.len() >= limit || keys_bytes > MAX_KEYS_BYTES {
            let limit = limit.min(self.watches.len());
            return Err(Error::TooManyWatches { limit });
        }
        if !self.index.has_room(&keys) {
            return Err(Error::TooManyRangeWatches { limit: MAX_SPANS });
        }
        let start = start.unwrap_or(self.revision + 1);
        if self.may_predate_store(start, &keys) {
            return Err(Error::Compacted {
                requested: start,
                compact_revision: self.unrecorded.end,
            });
        }
        let from = match self.is_unchanged_since(start, &keys) {
            true => start.max(self.revision + 1),
            false => start,
        };
        self.history.check_complete(from)?;
        let behind = self.history.reaches(from).then_some(from);
        let backlog = Arc::clone(&self.backlog);
        let queue = Arc::new(Queue::new(start, behind, &self.limits, backlog));
        self.last_id += 1;
        let id = self.last_id;
        self.index.insert(&keys, id);
        self.keys_bytes = keys_bytes;
        self.watches.insert(id, (keys, Arc::clone(&queue)));
        Ok((id, queue))
    }

    /// Returns the next past changes of a watch that is behind. Returns nothing if it has caught up,
    /// if it was overtaken by the history, which ends it, or if it has looked at enough events for
    /// now.
    pub(crate) fn catch_up(&mut self, id: WatchId) -> Option<WatchBatch> {
        let (keys, queue) = self.watches.get(&id)?;
        let from = queue.behind()?;
        match self.history.read(from, keys, CATCH_UP_EVENTS) {
            Ok(past) => {
                queue.set_behind(past.next);
                past.batch
            }
            Err(_) => {
                queue.end(Error::SlowWatcher {
                    resume_revision: from,
                });
                self.unwatch(id);
                None
            }
        }
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
            self.keys_bytes -= keys.size();
        }
    }

    /// Ends all watches with this error, and refuses new ones with it.
    pub(crate) fn stop(&mut self, error: &Error) {
        self.stopped = Some(error.clone());
        self.index = Index::default();
        self.keys_bytes = 0;
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

    /// Takes what a consumer would be given next, until nothing is left.
    fn take_all(hub: &mut Hub, id: WatchId, queue: &Queue) -> Vec<Revision> {
        let mut revisions = Vec::new();
        while queue.is_behind() {
            revisions.extend(hub.catch_up(id).map(|batch| batch.revision));
        }
        while let Some(Ok(batch)) = queue.pop() {
            revisions.push(batch.revision);
        }
        revisions
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
        let (id, late) = hub.watch(KeyRange::prefix("a/"), Some(2)).unwrap();
        let batches = [live.pop().unwrap().unwrap(), hub.catch_up(id).unwrap()];
        for batch in batches {
            assert_eq!(batch.revision, 2);
            assert_eq!(batch.events.len(), 2);
        }
        assert!(live.is_empty() && late.is_empty());
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
        hub.restore(&[kept], &Deletions::empty_since(2), 10);
        for start in [12, 50, 99] {
            let refusal = hub.watch(one("lost"), Some(start));
            assert!(matches!(refusal, Err(Error::Compacted { .. })), "{start}");
            assert!(hub.watch(one("kept"), Some(start)).is_ok());
            assert!(hub.watch(KeyRange::prefix("q/"), Some(start)).is_ok());
        }
        for start in [2, 11, 100, 101, 102] {
            assert!(hub.watch(one("new"), Some(start)).is_ok(), "{start}");
        }
    }

    #[test]
    fn a_watch_may_begin_with_the_revision_that_a_new_store_begins_with() {
        let all = || KeyRange::prefix("");
        for (revision, last_change) in [(1, 1), (100, 1), (100, 10)] {
            let mut hub = Hub::new(revision, 0, &Limits::default());
            hub.restore(&[], &Deletions::unknown(), last_change);
            assert!(hub.watch(all(), Some(revision)).is_ok(), "{revision}");
            assert!(hub.watch(one("k"), Some(revision)).is_ok(), "{revision}");
            if revision > 1 {
                assert!(hub.watch(all(), Some(revision - 1)).is_err(), "{revision}");
            }
        }
        // It begins with a change of which it knows nothing.
        let mut hub = Hub::new(10, 0, &Limits::default());
        hub.restore(&[], &Deletions::unknown(), 10);
        assert!(hub.watch(all(), Some(10)).is_err());
        assert!(hub.watch(all(), Some(11)).is_ok());
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
        let (id, resumed) = hub.watch(one("a"), Some(resume_revision)).unwrap();
        let revisions = take_all(&mut hub, id, &resumed);
        assert_eq!(revisions, (5..10).collect::<Vec<_>>());
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
        let (id, queue) = hub.watch(one("a"), Some(2)).unwrap();
        for revision in 20..30 {
            hub.publish(revision, &[put_event("a", revision, 0)]);
        }
        let revisions = take_all(&mut hub, id, &queue);
        assert_eq!(revisions, (2..30).collect::<Vec<_>>());
        assert_eq!(hub.publish(30, &[put_event("a", 30, 0)]), 1, "it is live");
    }

    #[test]
    fn a_past_that_nobody_takes_costs_no_memory_and_ends_the_watch_with_the_history() {
        let limits = Limits {
            history_events: 10,
            ..Limits::default()
        };
        let mut hub = Hub::new(1, 0, &limits);
        for revision in 2..12 {
            hub.publish(revision, &[put_event("a", revision, 0)]);
        }
        let (id, queue) = hub.watch(one("a"), Some(2)).unwrap();
        assert_eq!(hub.catch_up(id).unwrap().revision, 2);
        for revision in 12..16 {
            hub.publish(revision, &[put_event("a", revision, 0)]);
        }
        assert_eq!(hub.backlog.bytes(), 0);
        assert!(hub.catch_up(id).is_none());
        let Some(Err(Error::SlowWatcher { resume_revision })) = queue.pop() else {
            panic!("no error after the history had gone on");
        };
        assert_eq!(resume_revision, 3);
        assert!(hub.watches.is_empty(), "the hub has let go of it");
    }

    #[test]
    fn a_watch_looks_at_a_long_past_step_by_step() {
        let limits = Limits {
            history_events: 10 * CATCH_UP_EVENTS,
            ..Limits::default()
        };
        let mut hub = Hub::new(1, 0, &limits);
        let last = 4 * CATCH_UP_EVENTS as Revision;
        for revision in 2..last {
            hub.publish(revision, &[put_event("other", revision, 0)]);
        }
        hub.publish(last, &[put_event("a", last, 0)]);
        let (id, queue) = hub.watch(one("b"), Some(2)).unwrap();
        let mut steps = 0;
        while queue.is_behind() {
            assert!(hub.catch_up(id).is_none(), "nothing happened to it");
            steps += 1;
        }
        assert_eq!(steps, 4);
        let (id, queue) = hub.watch(one("a"), Some(2)).unwrap();
        assert_eq!(take_all(&mut hub, id, &queue), [last]);
    }

    #[test]
    fn what_waits_for_all_watches_together_is_bounded() {
        const VALUE: usize = 2_000;
        let limits = Limits::default().with_watch_backlog_bytes(20 * VALUE);
        let mut hub = Hub::new(1, 0, &limits);
        let watches: Vec<_> = (0..100)
            .map(|_| hub.watch(one("large"), None).unwrap())
            .collect();
        let (_, small) = hub.watch(one("small"), None).unwrap();
        let mut revision = 1;
        while !hub.watches.is_empty() && revision < 10 {
            revision += 1;
            hub.publish(revision, &[put_event("large", revision, VALUE)]);
            assert!(hub.backlog.bytes() < 22 * VALUE, "{}", hub.backlog.bytes());
        }
        let left = hub.watches.len();
        assert_eq!(left, 1, "those that nobody reads have ended");
        assert_eq!(hub.publish(50, &[put_event("small", 50, 100)]), 1);
        assert_eq!(small.pop().unwrap().unwrap().revision, 50, "it is woken");
        drop((watches, small));
        assert_eq!(hub.backlog.bytes(), 0, "all is given back");
    }

    #[test]
    fn the_keys_of_all_watches_together_are_bounded() {
        let mut hub = Hub::new(1, 0, &Limits::default());
        let long = |n: u8| KeyRange::One(Bytes::from(vec![n; MAX_KEYS_BYTES / 4]));
        let ids: Vec<_> = (0..4)
            .map(|n| hub.watch(long(n), None).unwrap().0)
            .collect();
        let refusal = hub.watch(one("a"), None);
        assert!(matches!(refusal, Err(Error::TooManyWatches { limit: 4 })));
        hub.unwatch(ids[0]);
        assert!(hub.watch(one("a"), None).is_ok());
    }

    #[test]
    fn ranges_that_are_no_prefixes_are_few() {
        let mut hub = Hub::new(1, 0, &Limits::default());
        let span = |n: usize| KeyRange::Span {
            start: Bytes::from_static(b"a"),
            end: Some(Bytes::from(format!("b{n}"))),
        };
        for n in 0..MAX_SPANS {
            hub.watch(span(n), None).unwrap();
        }
        let refusal = hub.watch(span(MAX_SPANS), None);
        assert!(matches!(refusal, Err(Error::TooManyRangeWatches { .. })));
        for free in [KeyRange::all(), KeyRange::prefix("a/"), one("a")] {
            assert!(hub.watch(free, None).is_ok());
        }
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

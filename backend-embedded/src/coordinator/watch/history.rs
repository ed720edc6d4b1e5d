//! The recent events, so that a watch may start in the past.

use std::collections::VecDeque;
use std::sync::Arc;

use super::watcher::WatchBatch;
use crate::error::Error;
use crate::machine::op::{Event, KeyRange, Revision};

/// Recent events, oldest first, bounded by number and by bytes.
#[derive(Debug)]
pub(super) struct History {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// All events from this revision on are present. Of those before the coordinator was opened,
    /// only the last one of each key is present.
    complete_since: Revision,
    max_events: usize,
    max_bytes: usize,
}

impl History {
    /// Creates an empty history that knows nothing before `complete_since`.
    pub(super) fn new(complete_since: Revision, max_events: usize, max_bytes: usize) -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            complete_since,
            max_events,
            max_bytes,
        }
    }

    /// Restores events from before the coordinator was opened, oldest first. They are complete
    /// since `complete_since`.
    pub(super) fn restore(
        &mut self,
        complete_since: Revision,
        events: impl Iterator<Item = Arc<Event>>,
    ) {
        self.complete_since = complete_since;
        events.for_each(|event| self.push(event));
    }

    pub(super) fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.size();
        self.events.push_back(event);
        while self.events.len() > self.max_events || self.bytes > self.max_bytes {
            let Some(oldest) = self.events.front() else {
                break;
            };
            // All events of a revision are kept, or none.
            self.truncate(oldest.kv.mod_revision + 1);
        }
    }

    /// Forgets the events before `revision`.
    pub(super) fn truncate(&mut self, revision: Revision) {
        self.complete_since = self.complete_since.max(revision);
        while let Some(oldest) = self.events.front()
            && oldest.kv.mod_revision < self.complete_since
        {
            self.bytes -= oldest.size();
            self.events.pop_front();
        }
    }

    /// Fails if the changes since `start` are not all present.
    pub(super) fn check_complete(&self, start: Revision) -> Result<(), Error> {
        if start < self.complete_since {
            return Err(Error::Compacted {
                requested: start,
                compact_revision: self.complete_since,
            });
        }
        Ok(())
    }

    /// Returns whether there are events from `start` on.
    pub(super) fn reaches(&self, start: Revision) -> bool {
        (self.events.back()).is_some_and(|last| last.kv.mod_revision >= start)
    }

    /// Looks for the next changes of `keys`, from `start` on, among about `limit` events.
    pub(super) fn read(
        &self,
        start: Revision,
        keys: &KeyRange,
        limit: usize,
    ) -> Result<Past, Error> {
        self.check_complete(start)?;
        let first = (self.events).partition_point(|event| event.kv.mod_revision < start);
        let mut found: Option<WatchBatch> = None;
        for (looked_at, event) in self.events.range(first..).enumerate() {
            let revision = event.kv.mod_revision;
            let is_next = match &found {
                Some(batch) => batch.revision != revision,
                // The changes of one revision are not torn apart.
                None => looked_at >= limit && revision > start,
            };
            if is_next {
                return Ok(Past {
                    batch: found,
                    next: Some(revision),
                });
            }
            if keys.contains(&event.kv.key) {
                let batch = found.get_or_insert_with(|| WatchBatch {
                    revision,
                    events: Vec::new(),
                });
                batch.events.push(Arc::clone(event));
            }
        }
        Ok(Past {
            batch: found,
            next: None,
        })
    }
}

/// A part of the past of some keys.
#[derive(Debug)]
pub(super) struct Past {
    /// The changes that were found.
    pub(super) batch: Option<WatchBatch>,
    /// The revision to go on from; `None` if there are no later events.
    pub(super) next: Option<Revision>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::watch::hub::tests::put_event;

    /// Returns the revisions of all events since `start`, read in steps of this many events.
    fn revisions(
        history: &History,
        mut start: Revision,
        step: usize,
    ) -> Result<Vec<Revision>, Error> {
        let all = KeyRange::all();
        let mut revisions = Vec::new();
        loop {
            let past = history.read(start, &all, step)?;
            let events = past.batch.into_iter().flat_map(|batch| batch.events);
            revisions.extend(events.map(|event| event.kv.mod_revision));
            match past.next {
                Some(next) => start = next,
                None => return Ok(revisions),
            }
        }
    }

    #[test]
    fn old_events_go_whole_revisions_at_a_time() {
        let mut history = History::new(2, 3, usize::MAX);
        for revision in [2, 2, 3] {
            history.push(put_event("a", revision, 0));
        }
        assert_eq!(revisions(&history, 2, 2).unwrap(), [2, 2, 3]);
        history.push(put_event("a", 4, 0));
        assert_eq!(revisions(&history, 3, 2).unwrap(), [3, 4]);
        assert!(matches!(
            revisions(&history, 2, 2),
            Err(Error::Compacted {
                requested: 2,
                compact_revision: 3
            })
        ));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut history = History::new(2, 100, 1000);
        for revision in 2..50 {
            history.push(put_event("k", revision, 99));
            assert!(history.bytes <= 1000);
        }
        assert_eq!(revisions(&history, 40, 2).unwrap().len(), 10);
        history.push(put_event("k", 50, 5000));
        assert_eq!(
            history.complete_since, 51,
            "one event above the limit is not kept"
        );
        assert_eq!(history.bytes, 0);
    }
}

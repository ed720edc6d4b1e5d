//! The recent events, so that a watch may start in the past.

use std::collections::VecDeque;
use std::sync::Arc;

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
        self.bytes += size(&event);
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
            self.bytes -= size(oldest);
            self.events.pop_front();
        }
    }

    /// Returns the events of `keys` from `start` on.
    pub(super) fn events_since<'a>(
        &'a self,
        start: Revision,
        keys: &'a KeyRange,
    ) -> Result<impl Iterator<Item = &'a Arc<Event>>, Error> {
        if start < self.complete_since {
            return Err(Error::Compacted {
                requested: start,
                compact_revision: self.complete_since,
            });
        }
        let first = (self.events).partition_point(|event| event.kv.mod_revision < start);
        Ok((self.events.range(first..)).filter(|event| keys.contains(&event.kv.key)))
    }
}

/// Returns the bytes of keys and values that an event keeps in memory.
pub(super) fn size(event: &Event) -> usize {
    event.kv.size() + event.prev.as_ref().map_or(0, |prev| prev.size())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::watch::hub::tests::put_event;

    fn revisions(history: &History, start: Revision) -> Result<Vec<Revision>, Error> {
        let all = KeyRange::all();
        let events = history.events_since(start, &all)?;
        Ok(events.map(|event| event.kv.mod_revision).collect())
    }

    #[test]
    fn old_events_go_whole_revisions_at_a_time() {
        let mut history = History::new(2, 3, usize::MAX);
        for revision in [2, 2, 3] {
            history.push(put_event("a", revision, 0));
        }
        assert_eq!(revisions(&history, 2).unwrap(), [2, 2, 3]);
        history.push(put_event("a", 4, 0));
        assert_eq!(revisions(&history, 3).unwrap(), [3, 4]);
        assert!(matches!(
            revisions(&history, 2),
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
        assert_eq!(revisions(&history, 40).unwrap().len(), 10);
        history.push(put_event("k", 50, 5000));
        assert_eq!(
            history.complete_since, 51,
            "one event above the limit is not kept"
        );
        assert_eq!(history.bytes, 0);
    }
}

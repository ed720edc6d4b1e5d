//! The options of a watch, and the events that they let through.

use etcd_client::proto::PbEvent;

use super::encode;
use crate::coordinator::WatchBatch;
use crate::machine::op::{Event, KeyValue};

/// The options of a watch, apart from its keys.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Options {
    pub(super) no_put: bool,
    pub(super) no_delete: bool,
    /// Whether each event carries the former state of its key.
    pub(super) prev_kv: bool,
    /// Whether the client wants to know the progress of an idle watch.
    pub(super) progress_notify: bool,
    /// Whether the client takes a large response in parts.
    pub(super) fragment: bool,
}

impl Options {
    /// Leaves out the events that these filters name, by etcd's numbers: 0 for puts, 1 for
    /// deletions.
    pub(super) fn with_filters(mut self, filters: &[i32]) -> Self {
        self.no_put = filters.contains(&0);
        self.no_delete = filters.contains(&1);
        self
    }

    /// Encodes the events of a batch that the options let through.
    pub(super) fn select_events(self, batch: &WatchBatch) -> Vec<PbEvent> {
        let events = batch.events.iter().filter(|event| self.accepts(event));
        let events = events.map(|event| {
            let prev = match self.prev_kv {
                true => find_prev_kv(event, batch),
                false => None,
            };
            encode::event(event, prev)
        });
        events.collect()
    }

    fn accepts(self, event: &Event) -> bool {
        if event.deleted {
            !self.no_delete
        } else {
            !self.no_put
        }
    }
}

/// Returns the key's state before the revision of the batch. If a transaction puts a key and then
/// deletes it, the state in between never existed for etcd.
fn find_prev_kv<'a>(event: &'a Event, batch: &'a WatchBatch) -> Option<&'a KeyValue> {
    let prev = event.prev.as_deref()?;
    if prev.mod_revision < batch.revision {
        return Some(prev);
    }
    let mut changes = batch.events.iter();
    let first = changes.find(|change| change.kv.key == event.kv.key)?;
    first.prev.as_deref()
}

//! Copies of the whole state at one revision, for snapshots and hashes. Requests go on meanwhile: the
//! keys are read page by page, and those that change between the pages are put right at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::pending::Class;
use super::requests::Applied;
use super::shared::{Answer, Shared};
use super::{Coordinator, Operation};
use crate::error::Error;
use crate::machine::op::{Event, KeyRange, KeyValue, Revision};
use crate::machine::{Machine, Snapshot};
use crate::store::Batch;

/// The number of keys that are read under one hold of the state: for some tens of microseconds.
const PAGE_KEYS: usize = 1_000;

/// A copy that is not put together yet.
struct Pages {
    /// The keys as they were read.
    state: Snapshot,
    /// The keys that have changed since.
    changed: Batch,
}

/// What a copy keeps in memory although it has been replaced since.
#[derive(Debug)]
pub(crate) struct Retained {
    revision: Revision,
    bytes: AtomicUsize,
}

impl Retained {
    /// Returns the bytes of keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts what these changes have replaced.
    pub(super) fn note(&self, events: &[Arc<Event>]) {
        let replaced = events.iter().filter_map(|event| event.prev.as_ref());
        let replaced = replaced.filter(|prev| prev.mod_revision <= self.revision);
        let bytes = replaced.map(|prev| prev.size()).sum();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Coordinator {
    /// Copies the state at a past revision, or now if it is 0. All of it is durable.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`], [`Error::Compacted`], [`Error::FutureRevision`],
    /// [`Error::Overloaded`], [`Error::Stopped`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn copy(&self, at: Revision) -> Result<Snapshot, Error> {
        let mut again = true;
        loop {
            let coordinator = self.clone();
            let copy = move || coordinator.copy_pages(at);
            let copied = self.run_heavy(copy).await??;
            match self.settle(copied, &mut again).await {
                Some(Ok(Applied {
                    result: Some(pages),
                    ..
                })) => return self.run_heavy(|| put_together(pages)).await,
                Some(Err(error)) => return Err(error),
                // The state was replaced because the disk is full. That is known by now, so it is not
                // replaced again.
                Some(Ok(_)) if std::mem::take(&mut again) => {}
                Some(Ok(_)) => return Err(Error::Overloaded),
                None => {}
            }
        }
    }

    /// Counts from now on what a copy of this revision retains, until the result is dropped. There is
    /// one such copy at a time.
    pub(crate) fn retain(&self, revision: Revision) -> Arc<Retained> {
        let retained = Arc::new(Retained {
            revision,
            bytes: AtomicUsize::new(0),
        });
        self.shared().state().retained = Arc::downgrade(&retained);
        retained
    }

    fn copy_pages(&self, at: Revision) -> Result<Answer<Option<Pages>>, Error> {
        let shared = self.shared();
        let since = {
            let mut state = shared.state();
            self.authorize(Operation::Copy, &state.machine)?;
            state.machine.begin_copy()
        };
        let mut keys = read_pages(shared);
        let copied = shared.apply(Class::Read, &mut |machine, _, _| {
            let Some(mut changed) = machine.end_copy(since) else {
                return Ok(None);
            };
            if at != 0 {
                changed.extend(machine.states_at(at, &KeyRange::all())?);
            }
            Ok(Some(Pages {
                state: state_of(machine, at, std::mem::take(&mut keys)),
                changed: Batch {
                    keys: changed,
                    ..Batch::default()
                },
            }))
        });
        if copied.is_err() {
            shared.state().machine.end_copy(since);
        }
        copied
    }
}

/// Reads all keys, each page at another revision.
fn read_pages(shared: &Shared) -> Vec<Arc<KeyValue>> {
    let mut keys: Vec<Arc<KeyValue>> = Vec::new();
    let mut after = Bytes::new();
    loop {
        let page = shared.state().machine.keys_after(&after, PAGE_KEYS);
        match page.last() {
            Some(last) => after = last.key.clone(),
            None => return keys,
        }
        keys.extend(page);
    }
}

fn state_of(machine: &Machine, at: Revision, keys: Vec<Arc<KeyValue>>) -> Snapshot {
    Snapshot {
        revision: match at {
            0 => machine.revision(),
            at => at,
        },
        compact_revision: machine.compact_revision(),
        keys,
        leases: machine.leases_with_ttl(),
    }
}

fn put_together(Pages { mut state, changed }: Pages) -> Snapshot {
    if !changed.keys.is_empty() {
        changed.apply(&mut state);
    }
    state
}

//! One watch: a bounded queue between the writer and a consumer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::history;
use super::index::WatchId;
use crate::config::Limits;
use crate::coordinator::{Authorizer, Operation, Shared};
use crate::error::Error;
use crate::machine::op::{Event, KeyRange, Revision};

/// The changes of one revision that a watch saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchBatch {
    /// The revision of the changes.
    pub revision: Revision,
    /// The changes, in the order they were made; never empty.
    pub events: Vec<Arc<Event>>,
}

impl WatchBatch {
    fn bytes(&self) -> usize {
        self.events.iter().map(|event| history::size(event)).sum()
    }
}

/// A watch. Dropping it cancels the watch. It does not keep the coordinator running.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    id: WatchId,
    queue: Arc<Queue>,
    /// Decides whether the subject may still see these keys; `None` if it may see everything.
    authorizer: Option<(Arc<dyn Authorizer>, KeyRange)>,
}

impl Watcher {
    pub(in crate::coordinator) fn new(
        shared: Arc<Shared>,
        id: WatchId,
        queue: Arc<Queue>,
        authorizer: Option<(Arc<dyn Authorizer>, KeyRange)>,
    ) -> Self {
        Self {
            shared,
            id,
            queue,
            authorizer,
        }
    }

    /// Returns the revision that this watch starts from.
    pub fn start_revision(&self) -> Revision {
        self.queue.start_revision
    }

    /// Returns the revision up to which everything was taken from this watch, for progress
    /// notifications; `None` while changes, or the end of the watch, wait in the queue.
    pub fn progress(&self) -> Option<Revision> {
        // Nothing is published between the two reads, because both are under the hub's lock.
        let hub = self.shared.hub();
        self.queue.is_empty().then(|| hub.revision())
    }

    /// Waits for the next changes.
    ///
    /// # Errors
    /// [`Error::SlowWatcher`], after everything that was queued before the overflow has been taken;
    /// [`Error::Stopped`], [`Error::Displaced`]; [`Error::PermissionDenied`] if the right to see the
    /// keys was withdrawn. Each of them ends the watch.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Result<WatchBatch, Error> {
        loop {
            // There is one consumer, so a wake-up between `pop` and `notified` is kept for
            // `notified`.
            if let Some(next) = self.queue.pop() {
                if let Some((authorizer, keys)) = &self.authorizer {
                    let state = self.shared.state();
                    authorizer.authorize(Operation::Watch(keys), &state.machine)?;
                }
                return next;
            }
            self.queue.wake.notified().await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.hub().unwatch(self.id);
    }
}

/// The queue of changes for a watch's consumer.
#[derive(Debug)]
pub(crate) struct Queue {
    start_revision: Revision,
    state: Mutex<QueueState>,
    wake: Notify,
    max_events: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct QueueState {
    /// The changes from the past that the watch started with; bounded by the history.
    backlog: VecDeque<WatchBatch>,
    live: VecDeque<WatchBatch>,
    live_events: usize,
    live_bytes: usize,
    end: Option<Error>,
}

impl Queue {
    pub(super) fn new(start_revision: Revision, backlog: Vec<WatchBatch>, limits: &Limits) -> Self {
        let state = QueueState {
            backlog: backlog.into(),
            ..QueueState::default()
        };
        Self {
            start_revision,
            state: Mutex::new(state),
            wake: Notify::new(),
            max_events: limits.watch_queue_events,
            max_bytes: limits.watch_queue_bytes,
        }
    }

    pub(super) fn start_revision(&self) -> Revision {
        self.start_revision
    }

    /// Queues changes. Returns whether the watch continues: if the queue is full, the watch ends.
    pub(super) fn push(&self, batch: WatchBatch) -> bool {
        let mut state = self.lock();
        let events = state.live_events + batch.events.len();
        let bytes = state.live_bytes + batch.bytes();
        // An empty queue accepts a batch of any size: a large transaction does not mean a slow
        // consumer.
        let full = events > self.max_events || bytes > self.max_bytes;
        let accepted = !full || state.live.is_empty();
        if accepted {
            state.live_events = events;
            state.live_bytes = bytes;
            state.live.push_back(batch);
        } else {
            state.end = Some(Error::SlowWatcher {
                resume_revision: batch.revision,
            });
        }
        drop(state);
        self.wake.notify_one();
        accepted
    }

    /// Ends the watch with an error, after everything that is queued.
    pub(super) fn end(&self, error: Error) {
        self.lock().end.get_or_insert(error);
        self.wake.notify_one();
    }

    pub(super) fn pop(&self) -> Option<Result<WatchBatch, Error>> {
        let mut state = self.lock();
        if let Some(batch) = state.backlog.pop_front() {
            return Some(Ok(batch));
        }
        if let Some(batch) = state.live.pop_front() {
            state.live_events -= batch.events.len();
            state.live_bytes -= batch.bytes();
            return Some(Ok(batch));
        }
        state.end.clone().map(Err)
    }

    pub(super) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.backlog.is_empty() && state.live.is_empty() && state.end.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

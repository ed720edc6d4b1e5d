//! One watch: a bounded queue between the writer and a consumer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

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
    /// Returns the bytes of keys and values, also of the former ones.
    pub(crate) fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.size()).sum()
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
    /// notifications; `None` while changes, or the end of the watch, wait in the queue, and while
    /// [`next`](Self::next) has not looked through the past.
    pub fn progress(&self) -> Option<Revision> {
        // Nothing is published between the two reads, because both are under the hub's lock.
        let hub = self.shared.hub();
        self.queue.is_empty().then(|| hub.revision())
    }

    /// Waits for the next changes.
    ///
    /// # Errors
    /// [`Error::SlowWatcher`], after everything that was queued before the overflow has been taken,
    /// or when the history has dropped past changes before they were taken; [`Error::Stopped`],
    /// [`Error::Displaced`]; [`Error::PermissionDenied`] if the right to see the keys was withdrawn.
    /// Each of them ends the watch.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Result<WatchBatch, Error> {
        // Each step lets go of the hub, so that a long history does not hold others up.
        while self.queue.is_behind() {
            let past = self.shared.hub().catch_up(self.id);
            if let Some(batch) = past {
                self.check_authority()?;
                return Ok(batch);
            }
        }
        loop {
            // There is one consumer, so a wake-up between `pop` and `notified` is kept for
            // `notified`.
            if let Some(next) = self.queue.pop() {
                self.check_authority()?;
                return next;
            }
            self.queue.wake.notified().await;
        }
    }

    /// Fails if the subject may not see the keys any more. The hub must not be locked.
    fn check_authority(&self) -> Result<(), Error> {
        let Some((authorizer, keys)) = &self.authorizer else {
            return Ok(());
        };
        let state = self.shared.state();
        authorizer.authorize(Operation::Watch(keys), &state.machine)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.hub().unwatch(self.id);
    }
}

/// What one waiting event costs besides its key and value, in bytes.
const EVENT_OVERHEAD: usize = 100;

/// The largest batch that an empty queue accepts when the common backlog is full. It has room for
/// an entry of a lock. So those who wait for one key are woken, whatever others leave unread.
const SMALL_BATCH_BYTES: usize = 1024;

/// The bytes that wait for all consumers together.
#[derive(Debug)]
pub(super) struct Backlog {
    bytes: AtomicUsize,
    limit: usize,
}

impl Backlog {
    pub(super) fn new(limit: usize) -> Self {
        let bytes = AtomicUsize::new(0);
        Self { bytes, limit }
    }

    /// Returns how many bytes wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The changes for a watch's consumer. A watch that starts in the past first reads the history. Only
/// changes after that are queued.
#[derive(Debug)]
pub(crate) struct Queue {
    start_revision: Revision,
    state: Mutex<QueueState>,
    wake: Notify,
    max_events: usize,
    max_bytes: usize,
    backlog: Arc<Backlog>,
}

#[derive(Debug, Default)]
struct QueueState {
    /// The revision from which the history is to be read, until the watch has caught up.
    behind: Option<Revision>,
    live: VecDeque<WatchBatch>,
    live_events: usize,
    live_bytes: usize,
    end: Option<Error>,
}

impl QueueState {
    /// Returns what this queue adds to the common backlog.
    fn backlog(&self) -> usize {
        self.live_bytes + self.live_events * EVENT_OVERHEAD
    }
}

impl Queue {
    pub(super) fn new(
        start_revision: Revision,
        behind: Option<Revision>,
        limits: &Limits,
        backlog: Arc<Backlog>,
    ) -> Self {
        let state = QueueState {
            behind,
            ..QueueState::default()
        };
        Self {
            start_revision,
            state: Mutex::new(state),
            wake: Notify::new(),
            max_events: limits.watch_queue_events,
            max_bytes: limits.watch_queue_bytes,
            backlog,
        }
    }

    pub(super) fn start_revision(&self) -> Revision {
        self.start_revision
    }

    /// Returns whether past changes have to be read before anything is queued.
    pub(super) fn is_behind(&self) -> bool {
        self.behind().is_some()
    }

    /// Returns the revision from which past changes have to be read.
    pub(super) fn behind(&self) -> Option<Revision> {
        self.lock().behind
    }

    /// Sets the revision from which past changes have to be read; `None` once the watch has caught
    /// up.
    pub(super) fn set_behind(&self, behind: Option<Revision>) {
        self.lock().behind = behind;
    }

    /// Queues changes. Returns whether the watch continues: if the queue is full, the watch ends.
    pub(super) fn push(&self, batch: WatchBatch) -> bool {
        let mut state = self.lock();
        let events = state.live_events + batch.events.len();
        let bytes = state.live_bytes + batch.bytes();
        let is_full = events > self.max_events || bytes > self.max_bytes;
        let accepted = match self.backlog.bytes() < self.backlog.limit {
            // An empty queue accepts a batch of any size: a large transaction does not mean a slow
            // consumer.
            true => !is_full || state.live.is_empty(),
            false => state.live.is_empty() && bytes <= SMALL_BATCH_BYTES,
        };
        if accepted {
            let added = batch.bytes() + batch.events.len() * EVENT_OVERHEAD;
            self.backlog.bytes.fetch_add(added, Ordering::Relaxed);
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
        let mut state = self.lock();
        state.behind = None;
        state.end.get_or_insert(error);
        drop(state);
        self.wake.notify_one();
    }

    pub(super) fn pop(&self) -> Option<Result<WatchBatch, Error>> {
        let mut state = self.lock();
        if let Some(batch) = state.live.pop_front() {
            let before = state.backlog();
            state.live_events -= batch.events.len();
            state.live_bytes -= batch.bytes();
            let taken = before - state.backlog();
            self.backlog.bytes.fetch_sub(taken, Ordering::Relaxed);
            return Some(Ok(batch));
        }
        state.end.clone().map(Err)
    }

    pub(super) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.behind.is_none() && state.live.is_empty() && state.end.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let left = self.lock().backlog();
        self.backlog.bytes.fetch_sub(left, Ordering::Relaxed);
    }
}

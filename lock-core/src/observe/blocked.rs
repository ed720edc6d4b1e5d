//! What an observer is told of the contender that keeps an acquire waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Event, Observed};
use crate::entry::{EntryId, Mode};
use crate::name::LockName;
use crate::session::Session;

/// Tells the observer of an acquire, once, what keeps it waiting.
#[derive(Debug, Clone)]
pub(crate) struct BlockedRecord {
    observed: Observed,
    lock: LockName,
    mode: Mode,
    /// Whether the entry of the blocker is read: the acquire has a trace that could be linked.
    is_traced: bool,
    was_told: Arc<AtomicBool>,
}

impl BlockedRecord {
    pub(crate) fn new(observed: Observed, lock: LockName, mode: Mode, is_traced: bool) -> Self {
        BlockedRecord {
            observed,
            lock,
            mode,
            is_traced,
            was_told: Arc::default(),
        }
    }

    /// Tells of the blocker, unless another one was told of in the same acquire. To be run beside
    /// the wait for a change and never before it: the read of the blocker's entry takes a request,
    /// and decides nothing.
    pub(crate) async fn tell(&self, session: &dyn Session, blocker: &EntryId) {
        // Only the task of the wait uses this, so the order of other memory is no matter.
        if self.was_told.load(Ordering::Relaxed) {
            return;
        }
        let by = match self.is_traced {
            true => session.metadata(blocker).await.unwrap_or_else(|error| {
                tracing::debug!(%error, lock = %self.lock, "the entry ahead was not read");
                None
            }),
            false => None,
        };
        self.was_told.store(true, Ordering::Relaxed);
        // Others can write into the queue whatever they like.
        let by = by.filter(|by| by.check().is_ok());
        self.observed.emit(|| Event::Blocked {
            lock: &self.lock,
            mode: self.mode,
            by: by.as_ref(),
        });
    }
}

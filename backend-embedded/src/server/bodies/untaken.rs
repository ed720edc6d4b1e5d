//! The answers of one connection that its client has not taken yet. A client that takes nothing must
//! not keep others from their answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a client may leave an answer untaken while others wait for room.
const PATIENCE: Duration = Duration::from_secs(30);

/// The answers of one connection that take up room, and whether somebody waits for room.
#[derive(Debug, Clone, Default)]
pub(in crate::server) struct Untaken(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    last: u64,
    /// When each of the answers got its room, the oldest one first.
    begun: BTreeMap<u64, Instant>,
    /// The number of those who wait for room now, on all connections.
    waiting: Option<Arc<AtomicUsize>>,
}

impl Untaken {
    /// Counts an answer until the guard is dropped.
    pub(super) fn begin(&self, waiting: &Arc<AtomicUsize>) -> UntakenAnswer {
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        state.begun.insert(number, Instant::now());
        state.waiting.get_or_insert_with(|| Arc::clone(waiting));
        UntakenAnswer {
            of: self.clone(),
            number,
        }
    }

    /// Returns whether the connection is to be cut: an answer takes up room for too long, and others
    /// wait for it.
    pub(in crate::server) fn is_overdue(&self) -> bool {
        let state = self.lock();
        let Some(oldest) = state.begun.values().next() else {
            return false;
        };
        let waiting = state.waiting.as_ref();
        oldest.elapsed() > PATIENCE && waiting.is_some_and(|it| it.load(Ordering::Relaxed) > 0)
    }

    /// Returns whether the client has taken all of them.
    pub(in crate::server) fn is_empty(&self) -> bool {
        self.lock().begun.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that its client has not taken yet.
#[derive(Debug)]
pub(super) struct UntakenAnswer {
    of: Untaken,
    number: u64,
}

impl Drop for UntakenAnswer {
    fn drop(&mut self) {
        self.of.lock().begun.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_those_who_keep_others_waiting_for_long_are_overdue() {
        let waiting = Arc::new(AtomicUsize::new(1));
        let untaken = Untaken::default();
        assert!(!untaken.is_overdue());
        let first = untaken.begin(&waiting);
        tokio::time::advance(PATIENCE).await;
        assert!(!untaken.is_overdue());
        let second = untaken.begin(&waiting);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(untaken.is_overdue());
        waiting.store(0, Ordering::Relaxed);
        assert!(!untaken.is_overdue(), "nobody waits");
        waiting.store(1, Ordering::Relaxed);
        drop(first);
        assert!(!untaken.is_overdue(), "the other one is young");
        drop(second);
        tokio::time::advance(2 * PATIENCE).await;
        assert!(!untaken.is_overdue());
    }
}

//! Which connections are in use. At the limit of connections, the one that was idle for longest gives
//! way to a new one: who only holds places must not keep others out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::bodies::Untaken;

/// How long a connection is idle at least before it gives way. A client makes its first call much
/// sooner.
const MIN_IDLE: Duration = Duration::from_secs(1);

/// The connections of a server.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<Vec<Weak<Usage>>>);

impl Connections {
    /// Adds a connection, which is idle.
    pub(super) fn add(&self) -> Arc<Usage> {
        let usage = Arc::new(Usage {
            state: Mutex::new(State {
                calls: 0,
                idle_since: Instant::now(),
                is_cut: false,
            }),
            untaken: Untaken::default(),
            cut: Notify::new(),
        });
        let mut all = lock(&self.0);
        // The memory of those that have ended is given back now and then.
        if all.len() == all.capacity() {
            all.retain(|usage| usage.strong_count() > 0);
        }
        all.push(Arc::downgrade(&usage));
        usage
    }

    /// Cuts the connection that has been idle for longest. Returns whether there was one.
    pub(super) fn cut_idlest(&self) -> bool {
        let all = lock(&self.0);
        let idle = all.iter().filter_map(Weak::upgrade);
        let idle = idle.filter_map(|usage| Some((usage.idle_since()?, usage)));
        let idlest = idle.min_by_key(|(since, _)| *since);
        let Some((_, usage)) = idlest.filter(|(since, _)| since.elapsed() >= MIN_IDLE) else {
            return false;
        };
        usage.cut()
    }
}

/// The calls of one connection.
#[derive(Debug)]
pub(super) struct Usage {
    state: Mutex<State>,
    /// The answers that the client has not taken yet. Their calls may be over.
    untaken: Untaken,
    cut: Notify,
}

#[derive(Debug)]
struct State {
    /// The number of calls under way, streams among them.
    calls: usize,
    idle_since: Instant,
    is_cut: bool,
}

impl Usage {
    /// Counts a call until the guard is dropped.
    pub(super) fn begin_call(self: &Arc<Self>) -> InUse {
        lock(&self.state).calls += 1;
        InUse(Arc::clone(self))
    }

    /// Waits until the connection is to end.
    pub(super) async fn wait_for_cut(&self) {
        self.cut.notified().await;
    }

    /// Returns since when there was no call, if there is none now.
    fn idle_since(&self) -> Option<Instant> {
        let state = lock(&self.state);
        let is_idle = state.calls == 0 && !state.is_cut && self.untaken.is_empty();
        is_idle.then_some(state.idle_since)
    }

    /// Ends the connection, unless a call has begun meanwhile.
    fn cut(&self) -> bool {
        let mut state = lock(&self.state);
        if state.calls > 0 {
            return false;
        }
        state.is_cut = true;
        self.cut.notify_one();
        true
    }

    pub(super) fn untaken(&self) -> &Untaken {
        &self.untaken
    }
}

/// A call that is under way.
#[derive(Debug)]
pub(super) struct InUse(Arc<Usage>);

impl Drop for InUse {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.calls -= 1;
        if state.calls == 0 {
            state.idle_since = Instant::now();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_was_idle_for_longest_gives_way() {
        let connections = Connections::default();
        let [first, second, busy] = [(); 3].map(|()| connections.add());
        let call = busy.begin_call();
        assert!(!connections.cut_idlest(), "they have just come");
        tokio::time::advance(MIN_IDLE).await;
        drop(first.begin_call());
        assert!(connections.cut_idlest());
        assert!(second.wait_for_cut().now_or_never().is_some());
        assert!(!connections.cut_idlest(), "the first was just in use");
        tokio::time::advance(MIN_IDLE).await;
        assert!(connections.cut_idlest());
        assert!(first.wait_for_cut().now_or_never().is_some());
        assert!(!connections.cut_idlest(), "the last one is in use");
        drop(call);
        tokio::time::advance(MIN_IDLE).await;
        drop(busy);
        assert!(!connections.cut_idlest(), "there is none");
    }
}

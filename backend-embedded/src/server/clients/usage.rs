//! Whether a connection is in use. At the limit of connections, the one that was idle for longest
//! gives way to a new one: who only holds places must not keep others out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::share::{CallCounts, Share};
use super::{Client, lock};
use crate::coordinator::Turn;
use crate::server::bodies::Untaken;

/// How long a connection is idle at least before it gives way. A client makes its first call much
/// sooner.
pub(super) const MIN_IDLE: Duration = Duration::from_secs(1);

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Purpose {
    /// Anything else.
    Usual,
    /// It keeps a session alive, or ends one.
    Liveness,
    /// It asks how the server is. A connection that does nothing else may give way to others.
    Health,
}

/// The calls of one connection.
#[derive(Debug)]
pub(in crate::server) struct Usage {
    state: Mutex<State>,
    calls: CallCounts,
    share: Arc<Share>,
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
    /// Returns the usage of a new connection, which is idle.
    pub(super) fn new(share: Arc<Share>) -> Self {
        Usage {
            state: Mutex::new(State {
                calls: 0,
                idle_since: Instant::now(),
                is_cut: false,
            }),
            calls: CallCounts::default(),
            share,
            untaken: Untaken::default(),
            cut: Notify::new(),
        }
    }

    /// Waits until the connection is to end.
    pub(in crate::server) async fn wait_for_cut(&self) {
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

    #[cfg(test)]
    pub(super) fn is_cut(&self) -> bool {
        lock(&self.state).is_cut
    }

    /// Returns whose connection it is.
    pub(super) fn client(&self) -> Client {
        self.share.client()
    }

    /// Returns the number of calls of this kind that are under way.
    pub(super) fn calls(&self, purpose: Purpose) -> usize {
        self.calls.get(purpose)
    }

    pub(super) fn share(&self) -> &Share {
        &self.share
    }

    /// Returns the turn of the client's heavy requests.
    pub(in crate::server) fn turn(&self) -> &Arc<Turn> {
        self.share.turn()
    }

    /// Returns the answers that the client has not taken yet.
    pub(in crate::server) fn untaken(&self) -> &Untaken {
        &self.untaken
    }
}

/// Cuts the connection that has been idle for longest. Returns whether there was one.
pub(super) fn cut_idlest(connections: impl Iterator<Item = Arc<Usage>>) -> bool {
    let idle = connections.filter_map(|usage| Some((usage.idle_since()?, usage)));
    let idlest = idle.min_by_key(|(since, _)| *since);
    let Some((_, usage)) = idlest.filter(|(since, _)| since.elapsed() >= MIN_IDLE) else {
        return false;
    };
    usage.cut()
}

/// A call that is under way. It is counted until this is dropped.
#[derive(Debug)]
pub(in crate::server) struct InUse {
    usage: Arc<Usage>,
    /// The calls of the server.
    all: Arc<CallCounts>,
    purpose: Purpose,
}

impl InUse {
    pub(super) fn begin(usage: &Arc<Usage>, all: &Arc<CallCounts>, purpose: Purpose) -> Self {
        if purpose != Purpose::Health {
            lock(&usage.state).calls += 1;
        }
        usage.calls.add(purpose);
        usage.share.calls.add(purpose);
        all.add(purpose);
        InUse {
            usage: Arc::clone(usage),
            all: Arc::clone(all),
            purpose,
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.all.remove(self.purpose);
        self.usage.share.calls.remove(self.purpose);
        self.usage.calls.remove(self.purpose);
        if self.purpose == Purpose::Health {
            return;
        }
        let mut state = lock(&self.usage.state);
        state.calls -= 1;
        if state.calls == 0 {
            state.idle_since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_was_idle_for_longest_gives_way() {
        let share = Arc::new(Share::new(Client::Local));
        let connections = [(); 3].map(|()| Arc::new(Usage::new(Arc::clone(&share))));
        let all = Arc::default();
        let cut_idlest = || cut_idlest(connections.iter().cloned());
        let [first, second, busy] = &connections;
        let call = InUse::begin(busy, &all, Purpose::Usual);
        let _health = InUse::begin(second, &all, Purpose::Health);
        assert!(!cut_idlest(), "they have just come");
        tokio::time::advance(MIN_IDLE).await;
        drop(InUse::begin(first, &all, Purpose::Liveness));
        assert!(cut_idlest());
        assert!(second.wait_for_cut().now_or_never().is_some());
        assert!(!cut_idlest(), "the first was just in use");
        tokio::time::advance(MIN_IDLE).await;
        assert!(cut_idlest());
        assert!(first.wait_for_cut().now_or_never().is_some());
        assert!(!cut_idlest(), "the last one is in use");
        drop(call);
        for (purpose, count) in [(Purpose::Usual, 1), (Purpose::Liveness, 0)] {
            assert_eq!(share.calls.get(purpose), count);
            assert_eq!(all.get(purpose), count);
        }
        tokio::time::advance(MIN_IDLE).await;
        assert!(cut_idlest());
    }
}

//! How the end of the server reaches its streams and connections.

use tokio::sync::watch;

/// The phase of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Serving.
    Serving,
    /// No new connections are accepted, open streams end by themselves, and pending responses are
    /// delivered.
    Draining,
    /// Everything that is still open is cut.
    Closed,
}

/// The server's phase, as its parts see it.
#[derive(Debug, Clone)]
pub(super) struct Lifecycle(watch::Receiver<Phase>);

impl Lifecycle {
    pub(super) fn new() -> (watch::Sender<Phase>, Self) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (sender, Self(receiver))
    }

    /// Waits until streams have to end.
    pub(super) async fn wait_for_draining(&self) {
        self.wait_for(Phase::Draining).await;
    }

    /// Waits until connections are cut.
    pub(super) async fn wait_for_close(&self) {
        self.wait_for(Phase::Closed).await;
    }

    /// Returns whether streams have to end, or have ended.
    pub(super) fn is_ending(&self) -> bool {
        *self.0.borrow() >= Phase::Draining
    }

    async fn wait_for(&self, phase: Phase) {
        // An error means that the server has gone, which counts as closed.
        let _ = self.0.clone().wait_for(|now| *now >= phase).await;
    }
}

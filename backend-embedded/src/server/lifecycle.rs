//! How the end of the server reaches its streams and connections.

use tokio::sync::watch;

/// The phase of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Serving.
    Serving,
    /// No new connections and no new sessions are accepted. Calls under way are answered, and
    /// renewals go on.
    Draining,
    /// Open streams and waiting calls end by themselves.
    Ending,
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

    /// Waits until nothing new is accepted.
    pub(super) async fn wait_for_draining(&self) {
        self.wait_for(Phase::Draining).await;
    }

    /// Waits until streams have to end.
    pub(super) async fn wait_for_ending(&self) {
        self.wait_for(Phase::Ending).await;
    }

    /// Waits until connections are cut.
    pub(super) async fn wait_for_close(&self) {
        self.wait_for(Phase::Closed).await;
    }

    /// Returns whether nothing new is accepted.
    pub(super) fn is_draining(&self) -> bool {
        *self.0.borrow() >= Phase::Draining
    }

    async fn wait_for(&self, phase: Phase) {
        // An error means that the server has gone, which counts as closed.
        let _ = self.0.clone().wait_for(|now| *now >= phase).await;
    }
}

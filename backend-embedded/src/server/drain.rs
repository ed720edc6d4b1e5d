//! Ends the server: it sends the answers under way, then it ends the streams with a status, then it
//! cuts what is left.
//!
//! The server does not wait for the holders of locks, who may stay for hours: their leases outlive it.
//! It answers their renewals until the last answer is sent, so a slow answer costs them no time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::lifecycle::Phase;
use super::metrics::CallMetrics;

/// How long answers under way may take, by default.
pub(super) const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// How long streams and waiting calls may take to end after that.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// The time between two looks whether all answers are sent.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What the end of the server goes by.
pub(super) struct Drain {
    pub(super) phase: watch::Sender<Phase>,
    pub(super) calls: Arc<CallMetrics>,
    /// How long answers under way may take.
    pub(super) limit: Duration,
}

impl Drain {
    /// Ends a server that serves. `serving` ends with its last connection.
    pub(super) async fn run(self, mut serving: impl Future + Unpin) {
        self.phase.send_replace(Phase::Draining);
        tokio::select! {
            _ = &mut serving => return,
            () = self.wait_for_answers() => {}
        }
        self.phase.send_replace(Phase::Ending);
        if tokio::time::timeout(END_TIMEOUT, &mut serving)
            .await
            .is_err()
        {
            self.phase.send_replace(Phase::Closed);
            serving.await;
        }
    }

    /// Waits until no answer is under way, or the time is over.
    async fn wait_for_answers(&self) {
        if self.limit.is_zero() {
            return;
        }
        let answered = async {
            while self.calls.unanswered() > 0 {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        if tokio::time::timeout(self.limit, answered).await.is_err() {
            let calls = self.calls.unanswered();
            let limit = self.limit;
            tracing::warn!(
                calls,
                ?limit,
                "some answers were not sent in time: they are cut off"
            );
        }
    }
}

//! How long an acquire waits.

use std::time::Duration;

use crate::background;
use crate::clock::{BootInstant, Clock};
use crate::retry::RETRY_TIME;

/// How long an acquire waits for its turn.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WaitLimit {
    /// Takes the lock if it is free. The coordinator has until this instant to say so.
    Try(BootInstant),
    Until(BootInstant),
    Forever,
}

impl WaitLimit {
    /// Returns the limit of a `try`.
    pub(crate) fn for_try() -> Self {
        WaitLimit::Try(Clock::system().now() + RETRY_TIME)
    }

    /// Returns the limit of a wait that ends so long from now.
    pub(crate) fn from_duration(limit: Duration) -> Self {
        WaitLimit::Until(Clock::system().now() + limit)
    }

    /// Resolves when the time is over; never, if there is no limit.
    pub(crate) async fn wait_for_end(self) {
        let Some(end) = self.end() else {
            return std::future::pending().await;
        };
        let clock = Clock::system();
        loop {
            match end.saturating_since(clock.now()) {
                Duration::ZERO => return,
                left => background::sleep(left).await,
            }
        }
    }

    /// Returns whether the time is over.
    pub(crate) fn is_over(self) -> bool {
        self.end().is_some_and(|end| Clock::system().now() >= end)
    }

    /// Returns the instant at which the time is over, if there is a limit.
    pub(crate) fn end(self) -> Option<BootInstant> {
        match self {
            WaitLimit::Try(end) | WaitLimit::Until(end) => Some(end),
            WaitLimit::Forever => None,
        }
    }
}

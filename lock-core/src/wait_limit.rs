//! How long an acquire waits.

use std::time::Duration;

use crate::background;
use crate::clock::{BootInstant, Clock};
use crate::retry::RETRY_TIME;

/// How long to wait for a turn.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WaitLimit {
    /// Takes it if it is free. The coordinator has until then to say so.
    Try(BootInstant),
    Until(BootInstant),
    Forever,
}

impl WaitLimit {
    /// For a try.
    pub(crate) fn once() -> Self {
        WaitLimit::Try(Clock::system().now() + RETRY_TIME)
    }

    pub(crate) fn of(limit: Duration) -> Self {
        WaitLimit::Until(Clock::system().now() + limit)
    }

    /// Resolves when it is at its end, if it has one.
    pub(crate) async fn ended(self) {
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

    pub(crate) fn is_over(self) -> bool {
        self.end().is_some_and(|end| Clock::system().now() >= end)
    }

    fn end(self) -> Option<BootInstant> {
        match self {
            WaitLimit::Try(end) | WaitLimit::Until(end) => Some(end),
            WaitLimit::Forever => None,
        }
    }
}

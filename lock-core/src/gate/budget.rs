//! The retry budget: the retries of a process are a small part of its requests while these fail, so
//! that a coordinator in trouble is not kept there by them.

use std::time::Duration;

use crate::clock::BootInstant;

/// The tokens of a full budget, in tenths. A failure costs a token.
const FULL: u32 = 100;
const FAILURE: u32 = 10;
/// What a success gives back, in tenths.
const SUCCESS: u32 = 1;
/// One retry in this time is allowed however little is left.
const RESERVE: Duration = Duration::from_secs(1);
/// A success gives everything back if the first success since the last failure was this long ago. A
/// process with a few requests a second would otherwise pay for an outage for minutes.
const CALM: Duration = Duration::from_secs(2);

/// The budget of gRPC's retry throttling, with a reserve: an acquire without a limit must go on
/// trying, if slowly. It reads no clock and has no lock: its owner gives it both.
#[derive(Debug)]
pub(super) struct RetryBudget {
    tokens: u32,
    /// When the reserve allows a retry again.
    reserve: Option<BootInstant>,
    /// When the first request since the last failure succeeded.
    calm_since: Option<BootInstant>,
    /// Whether the last failure was an answer. The coordinator then serves some requests and not
    /// others.
    was_answered: bool,
}

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget {
            tokens: FULL,
            reserve: None,
            calm_since: None,
            was_answered: false,
        }
    }
}

impl RetryBudget {
    /// Does nothing if a retry may be sent now, which uses up the reserve if there is nothing else.
    ///
    /// # Errors
    /// The time until the reserve allows one.
    pub(super) fn take(&mut self, now: BootInstant) -> Result<(), Duration> {
        if self.tokens > FULL / 2 {
            return Ok(());
        }
        match self.reserve {
            Some(reserve) if now < reserve => Err(reserve.saturating_since(now)),
            _ => {
                self.reserve = Some(now + RESERVE);
                Ok(())
            }
        }
    }

    /// Counts a request that failed in a way that may pass. It was answered if the coordinator has
    /// refused it.
    pub(super) fn note_failure(&mut self, was_answered: bool) {
        self.end_calm();
        self.was_answered = was_answered;
        self.tokens = self.tokens.saturating_sub(FAILURE);
    }

    /// Notes a failure that costs nothing.
    pub(super) fn end_calm(&mut self) {
        self.calm_since = None;
    }

    /// Counts a request that succeeded. After failures without an answer, the reserve then allows the
    /// next retry at once: the coordinator is back, and those that wait need not go on at the pace of
    /// its absence. Returns whether the reserve was used up, so that some may wait for it.
    pub(super) fn note_success(&mut self, now: BootInstant) -> bool {
        let calm_since = *self.calm_since.get_or_insert(now);
        self.tokens = match now.saturating_since(calm_since) >= CALM {
            true => FULL,
            false => (self.tokens + SUCCESS).min(FULL),
        };
        !self.was_answered && self.reserve.take().is_some()
    }

    /// Returns whether nothing is missing.
    pub(super) fn is_full(&self) -> bool {
        self.tokens == FULL
    }
}

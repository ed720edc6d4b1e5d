//! The retry budget: the retries of a process are a small part of its requests while these fail, so
//! that a coordinator in trouble is not kept there by them.

use std::time::Duration;

use super::Try;
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
    /// The same for a retry of what the coordinator has refused. It may serve some requests and not
    /// others.
    reserve_after_refusal: Option<BootInstant>,
    /// When the first request since the last failure succeeded.
    calm_since: Option<BootInstant>,
}

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget {
            tokens: FULL,
            reserve: None,
            reserve_after_refusal: None,
            calm_since: None,
        }
    }
}

impl RetryBudget {
    /// Does nothing if this retry may be sent now, which uses up the reserve if there is nothing else.
    ///
    /// # Errors
    /// The time until the reserve allows one.
    pub(super) fn take(&mut self, which: Try, now: BootInstant) -> Result<(), Duration> {
        if self.tokens > FULL / 2 {
            return Ok(());
        }
        let reserve = match which {
            Try::AfterRefusal => &mut self.reserve_after_refusal,
            Try::First | Try::Again => &mut self.reserve,
        };
        match *reserve {
            Some(reserve) if now < reserve => Err(reserve.saturating_since(now)),
            _ => {
                *reserve = Some(now + RESERVE);
                Ok(())
            }
        }
    }

    /// Counts a request that failed in a way that may pass.
    pub(super) fn note_failure(&mut self) {
        self.end_calm();
        self.tokens = self.tokens.saturating_sub(FAILURE);
    }

    /// Notes a failure that costs nothing.
    pub(super) fn end_calm(&mut self) {
        self.calm_since = None;
    }

    /// Counts a request that succeeded. The reserve then allows the next retry at once: the
    /// coordinator is back, and those that wait need not go on at the pace of its absence. What the
    /// coordinator has refused waits until it serves one of these again. Returns whether a reserve
    /// was used up, so that some may wait for it.
    pub(super) fn note_success(&mut self, which: Try, now: BootInstant) -> bool {
        let calm_since = *self.calm_since.get_or_insert(now);
        let is_calm = now.saturating_since(calm_since) >= CALM;
        self.tokens = match is_calm {
            true => FULL,
            false => (self.tokens + SUCCESS).min(FULL),
        };
        let serves_all = is_calm || which == Try::AfterRefusal;
        let had_waited = serves_all && self.reserve_after_refusal.take().is_some();
        self.reserve.take().is_some() || had_waited
    }

    /// Returns whether nothing is missing.
    pub(super) fn is_full(&self) -> bool {
        self.tokens == FULL
    }
}

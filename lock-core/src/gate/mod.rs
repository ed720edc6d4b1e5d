//! Decides which requests are sent at all while the coordinator is in trouble.
//!
//! The gate stands before the requests that begin something or only read: an opening of a session,
//! an enqueue, a read of a queue, of locks or of a value, and a look that no event demands. All that
//! finishes something passes beside it: a holder must be able to store its result and to give its
//! lock back, and a waiter to learn from an event that it is its turn. See `retry.rs`, where a
//! request passes the gate before each try.

mod breaker;
mod budget;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use self::breaker::{Answer, Breaker, FAILURES, Open, Probe};
use self::budget::RetryBudget;
use crate::background;
use crate::clock::{BootInstant, Clock};
use crate::error::{Error, ErrorKind};
use crate::observe::{Event, Observed};

/// The requests that wait for the coordinator are sent within this time after its first answer, at
/// random, so that they do not come together.
const SPREAD: Duration = Duration::from_millis(250);

/// The gate of one [`Locks`](crate::Locks) and its clones.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Whether any part has something to decide or to forget. While it is not so, a request costs
    /// two reads of this, and no clock is read.
    is_troubled: AtomicBool,
    /// How many times requests began to fail, so that those sent before are known.
    troubles: AtomicU64,
    parts: Mutex<Parts>,
    /// Changes when the breaker closes, and when a success lets the next retry pass.
    recovered: watch::Sender<()>,
    observed: Observed,
}

#[derive(Debug, Default)]
struct Parts {
    breaker: Option<Breaker>,
    budget: Option<RetryBudget>,
    /// How many requests in a row reached nobody, as far as they count.
    missing: u32,
}

/// A change that the gate reports.
#[derive(Debug)]
enum Change {
    Opened {
        cause: Error,
        pause: Duration,
    },
    Closed,
    /// A success lets the next retry pass that the budget holds back.
    HasReserve,
}

/// Which try of an operation asks to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Try {
    First,
    Again,
    /// Again, after the coordinator has answered that it cannot serve the request now.
    AfterRefusal,
}

/// The reason why a request is not sent now.
#[derive(Debug)]
pub(crate) struct Refusal {
    retry_after: Duration,
    /// Why the breaker is open; `None` if the budget has refused a retry.
    cause: Option<Error>,
}

impl Refusal {
    /// Returns how long the request will not be sent.
    pub(crate) fn retry_after(&self) -> Duration {
        self.retry_after
    }

    /// Returns the error of an operation of which nothing was sent.
    pub(crate) fn into_error(self) -> Error {
        let text = "the coordinator was not asked, because the latest requests did not reach it: \
                    try again later";
        let error = Error::new(ErrorKind::Unreachable, text).with_retry_after(self.retry_after);
        match self.cause {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }
}

impl From<Open> for Refusal {
    fn from(Open { rest, cause }: Open) -> Self {
        Refusal {
            retry_after: rest,
            cause: Some(cause),
        }
    }
}

impl Gate {
    /// Returns a gate with those parts that are asked for.
    pub(crate) fn new(circuit_breaker: bool, retry_budget: bool, observed: Observed) -> Self {
        Gate {
            is_troubled: AtomicBool::new(false),
            troubles: AtomicU64::new(0),
            parts: Mutex::new(Parts {
                breaker: circuit_breaker.then(Breaker::default),
                budget: retry_budget.then(RetryBudget::default),
                ..Parts::default()
            }),
            recovered: watch::Sender::default(),
            observed,
        }
    }

    /// Returns what tells a request that is held back that the coordinator answers again.
    pub(crate) fn recovery(&self) -> Recovery {
        Recovery(self.recovered.subscribe())
    }

    /// Lets a request pass. The caller tells the returned passage how the request ended.
    ///
    /// # Errors
    /// If it must not be sent now.
    pub(crate) fn enter(&self, which: Try) -> Result<Passage<'_>, Refusal> {
        // A request that comes at the same time as the first failure may miss it, so the order of
        // other memory is no matter.
        let mut passage = Passage {
            gate: self,
            which,
            probe: None,
            troubles: self.troubles.load(Ordering::Relaxed),
        };
        if self.is_troubled.load(Ordering::Relaxed) {
            passage.probe = self.parts().enter(which, Clock::system().now())?;
        }
        Ok(passage)
    }

    /// Does nothing if a first try would pass now: for an operation that does not wait for that.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] if it would not; [`ErrorKind::Forked`] in a forked child.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !self.is_troubled.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Another thread of the parent may have locked the parts for ever.
        background::check_process()?;
        match &self.parts().breaker {
            Some(breaker) => breaker
                .check(Clock::system().now())
                .map_err(|open| Refusal::from(open).into_error()),
            None => Ok(()),
        }
    }

    /// Learns that the coordinator has answered a request that does not pass through here, such as
    /// a renewal.
    pub(crate) fn note_answer(&self) {
        if self.is_troubled.load(Ordering::Relaxed) {
            self.update(|parts, _| {
                parts.missing = 0;
                parts.breaker.as_mut()?.close()
            });
        }
    }

    /// Learns that a request that has not passed through here, or was given up, reached nobody.
    pub(crate) fn note_silence(&self, error: &Error) {
        let troubles = self.troubles.load(Ordering::Relaxed);
        self.note(Answer::Missing(error), Tally::Neither, None, troubles);
    }

    /// Counts the outcome of a request that passed when there had been so many troubles.
    fn note(&self, answer: Answer<'_>, tally: Tally, probe: Option<Probe>, troubles: u64) {
        self.update(|parts, now| {
            if let (Answer::Missing(_), Some(budget)) = (answer, &mut parts.budget) {
                budget.end_calm();
            }
            let was_calm = parts.missing == 0;
            let sent_before = self.troubles.load(Ordering::Relaxed) != troubles;
            if sent_before && probe.is_none() && !parts.counts_one_sent_before(answer) {
                return None;
            }
            let change = parts.note(answer, tally, probe, now);
            if was_calm && parts.missing > 0 {
                self.troubles.fetch_add(1, Ordering::Relaxed);
            }
            change
        });
    }

    /// Changes the parts, and tells the observer.
    fn update(&self, change: impl FnOnce(&mut Parts, BootInstant) -> Option<Change>) {
        let changed = {
            let mut parts = self.parts();
            let changed = change(&mut parts, Clock::system().now());
            self.is_troubled.store(!parts.is_calm(), Ordering::Relaxed);
            changed
        };
        match changed {
            Some(Change::Opened { cause, pause }) => {
                tracing::debug!(error = %cause, ?pause, "the circuit breaker has opened");
                self.observed.emit(|| Event::BreakerOpened {
                    error: &cause,
                    pause,
                });
            }
            Some(Change::Closed) => {
                tracing::debug!("the circuit breaker has closed");
                self.recovered.send_replace(());
                self.observed.emit(|| Event::BreakerClosed);
            }
            // The next of them goes on now, and not a second later.
            Some(Change::HasReserve) => {
                self.recovered.send_replace(());
            }
            None => {}
        }
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells that the breaker is no longer open: nothing will close it. A forked child has not opened
/// it.
impl Drop for Gate {
    fn drop(&mut self) {
        if self.is_troubled.load(Ordering::Relaxed) && !background::is_forked() {
            self.note_answer();
        }
    }
}

impl Parts {
    fn enter(&mut self, which: Try, now: BootInstant) -> Result<Option<Probe>, Refusal> {
        let probe = match &mut self.breaker {
            Some(breaker) => breaker.enter(now)?,
            None => None,
        };
        // The pauses of the breaker bound the probes, whoever makes them.
        if which != Try::First
            && let (None, Some(budget)) = (probe, &mut self.budget)
        {
            budget.take(which, now).map_err(|retry_after| Refusal {
                retry_after,
                cause: None,
            })?;
        }
        Ok(probe)
    }

    fn note(
        &mut self,
        answer: Answer<'_>,
        tally: Tally,
        probe: Option<Probe>,
        now: BootInstant,
    ) -> Option<Change> {
        match answer {
            Answer::Came => self.missing = 0,
            Answer::Missing(_) => self.missing = self.missing.saturating_add(1),
            Answer::Unknown => {}
        }
        let mut has_reserve = false;
        match (tally, &mut self.budget) {
            (Tally::Failure, Some(budget)) => budget.note_failure(),
            (Tally::Success(which), Some(budget)) => has_reserve = budget.note_success(which, now),
            (Tally::Neither, _) | (_, None) => {}
        }
        let breaker = self.breaker.as_mut();
        let changed = breaker.and_then(|breaker| breaker.note(answer, self.missing, probe, now));
        // Whoever waits for the reserve is also told that the breaker has closed.
        changed.or(has_reserve.then_some(Change::HasReserve))
    }

    /// Returns whether the outcome of a request counts that was sent before the first failure. All
    /// requests under way on a connection fail when it breaks, which says nothing about the next
    /// connection: so these alone neither open the breaker nor use up the budget.
    fn counts_one_sent_before(&self, answer: Answer<'_>) -> bool {
        !matches!(answer, Answer::Missing(_)) || self.missing + 1 < FAILURES
    }

    fn is_calm(&self) -> bool {
        self.missing == 0
            && self.breaker.as_ref().is_none_or(Breaker::is_closed)
            && self.budget.as_ref().is_none_or(RetryBudget::is_full)
    }
}

/// Tells that the breaker has closed, or that a success lets the next retry pass.
#[derive(Debug)]
pub(crate) struct Recovery(watch::Receiver<()>);

impl Recovery {
    /// Waits for this long, or until soon after the coordinator has answered.
    pub(crate) async fn wait_at_most(&mut self, pause: Duration) {
        let soon_after = async {
            match self.0.changed().await {
                Ok(()) => background::sleep(SPREAD.mul_f64(fastrand::f64())).await,
                // There is no gate any more.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = background::sleep(pause) => {}
            () = soon_after => {}
        }
    }
}

/// What a request counts as in the retry budget.
#[derive(Debug, Clone, Copy)]
enum Tally {
    /// The success of this try.
    Success(Try),
    /// A failure that may pass.
    Failure,
    Neither,
}

/// A request that has passed the gate. If it is dropped without an outcome, as when the caller gave
/// up, another request can be the probe.
#[derive(Debug)]
pub(crate) struct Passage<'a> {
    gate: &'a Gate,
    which: Try,
    probe: Option<Probe>,
    /// How many troubles there had been when it passed.
    troubles: u64,
}

impl Passage<'_> {
    /// Tells the gate how the request ended.
    pub(crate) fn end<T>(mut self, outcome: &Result<T, Error>) {
        let probe = self.probe.take();
        let (answer, tally) = match outcome {
            Ok(_) if !self.gate.is_troubled.load(Ordering::Relaxed) => return,
            Ok(_) => (Answer::Came, Tally::Success(self.which)),
            Err(error) => match error.kind() {
                ErrorKind::Unreachable => (Answer::Missing(error), Tally::Failure),
                ErrorKind::Exhausted => (Answer::Came, Tally::Failure),
                ErrorKind::Refused => (Answer::Came, Tally::Neither),
                // The session may have been lost by its deadline, without any answer.
                _ => (Answer::Unknown, Tally::Neither),
            },
        };
        self.gate.note(answer, tally, probe, self.troubles);
    }
}

/// In a forked child, another thread of the parent may have locked the parts for ever.
impl Drop for Passage<'_> {
    fn drop(&mut self) {
        if self.probe.is_some() && !background::is_forked() {
            let probe = self.probe;
            self.gate
                .note(Answer::Unknown, Tally::Neither, probe, self.troubles);
        }
    }
}

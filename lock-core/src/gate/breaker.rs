//! The circuit breaker: while the coordinator cannot be reached, one request at a time finds out
//! whether it is back, and the others are not sent.

use std::time::Duration;

use super::Change;
use crate::backoff::Backoff;
use crate::clock::BootInstant;
use crate::error::Error;

/// So many requests in a row that reached no coordinator open the breaker.
pub(super) const FAILURES: u32 = 5;

/// When a caller should ask again while the outcome of the probe is not known yet.
const PROBE_UNDER_WAY: Duration = Duration::from_millis(100);

/// How long the outcome of a probe is waited for. A probe that takes longer than any request may have
/// a caller that has stopped to poll it, and another one takes its place.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// A circuit breaker. It reads no clock and has no lock: its owner gives it both.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    pauses: Backoff,
    /// How many probes there were.
    probes: u64,
}

#[derive(Debug)]
enum State {
    /// Every request is sent.
    Closed,
    /// No request is sent before this instant. The next one is the probe.
    Open { until: BootInstant, cause: Error },
    /// The probe is under way.
    Probing {
        probe: Probe,
        begun: BootInstant,
        cause: Error,
    },
}

/// The request that finds out whether the coordinator is back. A number, because its outcome may
/// come when there is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe(u64);

/// What a request says of the way to the coordinator.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer<'a> {
    /// The coordinator answered.
    Came,
    /// It did not, and this is the error.
    Missing(&'a Error),
    /// The request was given up, or failed before it came to that.
    Unknown,
}

/// The reason why a request is not sent.
#[derive(Debug)]
pub(super) struct Open {
    /// How long it will not be sent.
    pub(super) rest: Duration,
    /// The error that opened the breaker, or that of the latest probe.
    pub(super) cause: Error,
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker {
            state: State::Closed,
            pauses: Backoff::of_breaker(),
            probes: 0,
        }
    }
}

impl Breaker {
    /// Lets a request pass, perhaps as the probe.
    ///
    /// # Errors
    /// If it must not be sent.
    pub(super) fn enter(&mut self, now: BootInstant) -> Result<Option<Probe>, Open> {
        self.check(now)?;
        let (State::Open { cause, .. } | State::Probing { cause, .. }) = &self.state else {
            return Ok(None);
        };
        self.probes += 1;
        let probe = Probe(self.probes);
        self.state = State::Probing {
            probe,
            begun: now,
            cause: cause.clone(),
        };
        Ok(Some(probe))
    }

    /// Does nothing if a request would pass now.
    ///
    /// # Errors
    /// If it must not be sent.
    pub(super) fn check(&self, now: BootInstant) -> Result<(), Open> {
        let (rest, cause) = match &self.state {
            State::Closed => return Ok(()),
            State::Open { until, .. } if now >= *until => return Ok(()),
            State::Open { until, cause } => (until.saturating_since(now), cause),
            State::Probing { begun, .. } if now.saturating_since(*begun) >= PROBE_LIMIT => {
                return Ok(());
            }
            State::Probing { cause, .. } => (PROBE_UNDER_WAY, cause),
        };
        let cause = cause.clone();
        Err(Open { rest, cause })
    }

    /// Learns the outcome of a request that has passed, as this probe or as none. So many requests in
    /// a row, with this one, have reached nobody.
    pub(super) fn note(
        &mut self,
        answer: Answer<'_>,
        missing: u32,
        probe: Option<Probe>,
        now: BootInstant,
    ) -> Option<Change> {
        let is_probe = match &self.state {
            State::Probing { probe: current, .. } => probe == Some(*current),
            State::Closed | State::Open { .. } => false,
        };
        match (answer, &self.state) {
            // Also if the request was sent before the breaker opened: it is the latest news.
            (Answer::Came, _) => self.close(),
            (Answer::Missing(error), State::Closed) => (missing >= FAILURES).then(|| {
                let pause = self.open(error.clone(), now);
                let cause = error.clone();
                Change::Opened { cause, pause }
            }),
            (Answer::Missing(error), State::Probing { .. }) if is_probe => {
                self.open(error.clone(), now);
                None
            }
            // It has found out nothing. The next one follows after a pause all the same, or callers
            // with little patience would send as many as they like.
            (Answer::Unknown, State::Probing { cause, .. }) if is_probe => {
                let cause = cause.clone();
                self.open(cause, now);
                None
            }
            // Sent before the breaker opened.
            (Answer::Missing(_), _) | (Answer::Unknown, _) => None,
        }
    }

    /// Closes the breaker, since the coordinator answers.
    pub(super) fn close(&mut self) -> Option<Change> {
        let was_open = !matches!(self.state, State::Closed);
        self.state = State::Closed;
        self.pauses = Backoff::of_breaker();
        was_open.then_some(Change::Closed)
    }

    /// Returns whether every request passes.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    fn open(&mut self, cause: Error, now: BootInstant) -> Duration {
        let asked = cause.retry_after().unwrap_or_default();
        let pause = self.pauses.next_pause().max(asked);
        let until = now + pause;
        self.state = State::Open { until, cause };
        pause
    }
}

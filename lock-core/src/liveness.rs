//! How long a session is known to be alive.

mod word;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use self::word::Word;
use crate::background;
use crate::clock::{self, BootInstant, Clock};
use crate::entry::SessionId;
use crate::error::{Error, ErrorKind, LossReason};
use crate::gate::Gate;
use crate::observe::{Event, Observed};

/// Jeopardy begins when less than this part of the validity is left.
const JEOPARDY: f64 = 0.3;
/// Renewals in one time to live: after one that is lost there is time for four more.
const RENEWALS_PER_TTL: u32 = 5;

/// The state of a held lock at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// The lock is certainly ours.
    Held,
    /// The lock is still ours, but a renewal failed or is late: finish or stop the work.
    Jeopardy,
    /// The lock is not ours any more, and never will be again under this guard.
    Lost(LossReason),
}

/// A session's liveness: alive until an instant, suspect until an instant, or lost for a reason.
///
/// The deadline is the earliest instant at which the server could end the session. Each method
/// reads the clock itself; no timer is trusted alone.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use lock_core::clock::Clock;
/// use lock_core::{Liveness, LossReason, State};
///
/// let clock = Clock::manual();
/// let liveness = Liveness::new(clock.clone(), clock.now(), Duration::from_secs(10));
/// assert_eq!(liveness.state(), State::Held);
/// clock.advance(Duration::from_secs(8));
/// assert_eq!(liveness.state(), State::Jeopardy);
/// liveness.record_renewal(clock.now(), Duration::from_secs(10));
/// assert_eq!(liveness.remaining(), Duration::from_secs(10));
/// clock.advance(Duration::from_secs(10));
/// assert_eq!(liveness.state(), State::Lost(LossReason::Expired));
/// ```
#[derive(Debug)]
pub struct Liveness {
    clock: Clock,
    word: Word,
    validity_nanos: AtomicU64,
    /// When the latest request that was acknowledged was sent.
    acknowledged_nanos: AtomicU64,
    ttl: Duration,
    lag: Duration,
    doubt: AtomicBool,
    listener: OnceLock<Listener>,
    loss: watch::Sender<Option<LossReason>>,
}

/// Who hears of the renewals, and of which session they are.
#[derive(Debug)]
struct Listener {
    session: SessionId,
    observed: Observed,
    gate: Arc<Gate>,
}

impl Liveness {
    /// Returns the liveness of a session that was opened by a request sent at `sent` and has the
    /// time to live that the coordinator granted. The validity of a renewal counts from up to `lag`
    /// before the renewal was sent; on most stores `lag` is zero.
    pub fn from_grant(clock: Clock, sent: BootInstant, ttl: Duration, lag: Duration) -> Arc<Self> {
        Self::open(clock, sent, ttl, clock::validity(ttl), lag)
    }

    /// Returns the liveness of a session that was opened by a request sent at `sent` and lives for
    /// exactly `validity` from then on, without any margin.
    pub fn new(clock: Clock, sent: BootInstant, validity: Duration) -> Arc<Self> {
        Self::open(clock, sent, validity, validity, Duration::ZERO)
    }

    fn open(
        clock: Clock,
        sent: BootInstant,
        ttl: Duration,
        validity: Duration,
        lag: Duration,
    ) -> Arc<Self> {
        Arc::new(Liveness {
            word: Word::new(sent + validity),
            validity_nanos: AtomicU64::new(nanos(validity)),
            acknowledged_nanos: AtomicU64::new(sent.as_nanos()),
            ttl,
            lag,
            doubt: AtomicBool::new(false),
            listener: OnceLock::new(),
            loss: watch::Sender::new(None),
            clock,
        })
    }

    /// Tells this observer and this gate of the renewals of this session from now on, unless others
    /// are told.
    pub(crate) fn observe(&self, session: SessionId, observed: Observed, gate: Arc<Gate>) {
        let _ = self.listener.set(Listener {
            session,
            observed,
            gate,
        });
    }

    /// Returns the observer of the session.
    pub(crate) fn observed(&self) -> &Observed {
        let listener = self.listener.get();
        listener.map_or(Observed::nobody(), |listener| &listener.observed)
    }

    /// Returns the clock of the deadline.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns the instant up to which the server cannot have ended the session; `None` once it is
    /// lost.
    pub fn deadline(&self) -> Option<BootInstant> {
        self.move_deadline(|deadline| deadline)
            .ok()
            .map(|(deadline, _)| deadline)
    }

    /// Returns the time left until the deadline; zero once the session is lost.
    pub fn remaining(&self) -> Duration {
        self.move_deadline(|deadline| deadline)
            .map_or(Duration::ZERO, |(deadline, now)| {
                deadline.saturating_since(now)
            })
    }

    /// Returns the time to live that the coordinator granted, which may be less or more than was
    /// asked for. The coordinator keeps the session so long after the last renewal that reached it.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Returns the least time that is ever left until the deadline while every renewal is answered
    /// at once.
    pub fn min_remaining(&self) -> Duration {
        let spent = self.lag + interval(self.ttl);
        clock::validity(self.ttl).saturating_sub(spent)
    }

    /// Returns how long ago the latest renewal that the coordinator answered was sent.
    pub fn silence(&self) -> Duration {
        let acknowledged = BootInstant::from_nanos(self.acknowledged_nanos.load(Ordering::SeqCst));
        self.clock.now().saturating_since(acknowledged)
    }

    /// Returns the validity of the last renewal, or of the opening if there was none yet.
    pub fn validity(&self) -> Duration {
        Duration::from_nanos(self.validity_nanos.load(Ordering::SeqCst))
    }

    /// Returns the state now. A passed deadline is a loss, whether or not any timer has noticed it.
    pub fn state(&self) -> State {
        let left = match self.move_deadline(|deadline| deadline) {
            Ok((deadline, now)) => deadline.saturating_since(now),
            Err(reason) => return State::Lost(reason),
        };
        let validity = self.validity();
        if left < validity.mul_f64(JEOPARDY) || self.doubt.load(Ordering::SeqCst) {
            State::Jeopardy
        } else {
            State::Held
        }
    }

    /// Moves the deadline for a renewal that was sent at `sent` and acknowledged. Never shortens
    /// it, and never revives a session whose deadline has passed: callers may have seen that it is
    /// lost.
    pub fn record_renewal(&self, sent: BootInstant, validity: Duration) {
        let moved = self.move_deadline(|deadline| deadline.max(sent + validity));
        if let Ok((deadline, now)) = moved {
            self.validity_nanos.store(nanos(validity), Ordering::SeqCst);
            self.acknowledged_nanos
                .fetch_max(sent.as_nanos(), Ordering::SeqCst);
            self.doubt.store(false, Ordering::SeqCst);
            if let Some(listener) = self.listener.get() {
                listener.gate.note_answer();
                listener.observed.emit(|| Event::Renewed {
                    session: listener.session,
                    took: now.saturating_since(sent),
                    left: deadline.saturating_since(now),
                    validity,
                });
            }
        }
    }

    /// Puts the session in jeopardy after a renewal that was sent at `sent` and failed with this
    /// error, or was not answered in time.
    pub(crate) fn record_failed_renewal(&self, sent: BootInstant, error: Option<&Error>) {
        self.doubt();
        if let Some(listener) = self.listener.get() {
            match error {
                Some(error) if error.kind() == ErrorKind::Unreachable => {
                    listener.gate.note_silence(error);
                }
                Some(_) => {}
                None => {
                    let text = "a renewal was not answered in time";
                    let error = Error::new(ErrorKind::Unreachable, text);
                    listener.gate.note_silence(&error);
                }
            }
            listener.observed.emit(|| Event::RenewalFailed {
                session: listener.session,
                error,
                took: self.clock.now().saturating_since(sent),
                left: self.remaining(),
            });
        }
    }

    /// Turns a passed deadline into a loss. Otherwise moves the deadline by the function, and
    /// returns the old one with an instant at which it had not passed.
    fn move_deadline(
        &self,
        moved: impl Fn(BootInstant) -> BootInstant,
    ) -> Result<(BootInstant, BootInstant), LossReason> {
        let moved = self.word.move_deadline(|| self.clock.now(), moved);
        moved.map_err(|loss| {
            if loss.is_new {
                self.announce(loss.reason);
            }
            loss.reason
        })
    }

    /// Puts the session in jeopardy until the next renewal succeeds.
    pub fn doubt(&self) {
        self.doubt.store(true, Ordering::SeqCst);
    }

    /// Ends the session for this reason, unless it was lost before.
    pub fn lose(&self, reason: LossReason) {
        if self.word.lose(reason) {
            self.announce(reason);
        }
    }

    /// Ends the session if this outcome of a request reports that the session is lost, and returns
    /// the outcome. For a backend: holders and waiters learn of the loss from the first request
    /// that meets it.
    ///
    /// # Errors
    /// That of the outcome. But a lost session is closed, and what is under way then reports that:
    /// such an error has the reason for which the session was lost before.
    pub fn note_session_loss<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        let Err(error) = outcome else {
            return outcome;
        };
        match (error.kind(), self.state()) {
            (ErrorKind::SessionLost(LossReason::Closed), State::Lost(before)) => {
                let effect = error.effect();
                Err(Error::session_lost(before)
                    .with_effect(effect)
                    .with_source(error))
            }
            (ErrorKind::SessionLost(reason), _) => {
                self.lose(reason);
                Err(error)
            }
            _ => Err(error),
        }
    }

    /// Waits until the session is lost and returns the reason: at the deadline at the latest, even
    /// if nobody renews. Returns at once in a forked child of the process that has the session.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn lost(&self) -> LossReason {
        let mut loss = self.loss.subscribe();
        loop {
            if let State::Lost(reason) = self.state() {
                return reason;
            }
            if background::is_forked() {
                return LossReason::Expired;
            }
            tokio::select! {
                // The sender is a field of this object, so it is a loss and not the end of the
                // sender.
                _ = loss.wait_for(Option::is_some) => {}
                // Renewals have moved the deadline on, or it has passed.
                () = background::sleep(self.remaining()) => {}
            }
        }
    }

    /// Wakes all that wait for the loss.
    fn announce(&self, reason: LossReason) {
        self.loss.send_replace(Some(reason));
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns the time from the sending of one renewal to the sending of the next.
pub fn interval(ttl: Duration) -> Duration {
    ttl / RENEWALS_PER_TTL
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALIDITY: Duration = Duration::from_secs(10);

    fn alive() -> (Clock, Arc<Liveness>) {
        let clock = Clock::manual();
        let liveness = Liveness::new(clock.clone(), clock.now(), VALIDITY);
        (clock, liveness)
    }

    #[test]
    fn held_then_jeopardy_then_lost_for_ever() {
        let (clock, liveness) = alive();
        assert_eq!(liveness.state(), State::Held);
        assert_eq!(liveness.remaining(), VALIDITY);
        clock.advance(Duration::from_millis(7_001));
        assert_eq!(liveness.state(), State::Jeopardy);
        clock.advance(Duration::from_millis(2_999));
        assert_eq!(liveness.state(), State::Lost(LossReason::Expired));
        liveness.record_renewal(clock.now(), VALIDITY);
        assert_eq!(liveness.state(), State::Lost(LossReason::Expired));
        assert_eq!(liveness.remaining(), Duration::ZERO);
        assert_eq!(liveness.deadline(), None);
    }

    #[test]
    fn a_renewal_counts_from_its_sending_and_never_shortens() {
        let (clock, liveness) = alive();
        let sent = clock.now();
        clock.advance(Duration::from_secs(4));
        liveness.record_renewal(sent, Duration::from_secs(3));
        assert_eq!(
            liveness.remaining(),
            Duration::from_secs(6),
            "an older, shorter proof changes nothing"
        );
        liveness.record_renewal(clock.now(), VALIDITY);
        assert_eq!(liveness.remaining(), VALIDITY);
    }

    #[test]
    fn an_acknowledgement_after_the_deadline_revives_nothing_even_if_nobody_asked() {
        let (clock, liveness) = alive();
        clock.advance(Duration::from_secs(9));
        let sent = clock.now();
        clock.advance(Duration::from_secs(2));
        liveness.record_renewal(sent, VALIDITY);
        assert_eq!(liveness.state(), State::Lost(LossReason::Expired));
    }

    #[test]
    fn the_end_of_a_lost_session_does_not_hide_why_it_was_lost() {
        let noted = |liveness: &Liveness, reason| {
            let outcome: Result<(), _> = Err(Error::session_lost(reason));
            let error = liveness.note_session_loss(outcome).expect_err("lost");
            error.kind()
        };
        let (clock, expired) = alive();
        clock.advance(VALIDITY);
        let kind = noted(&expired, LossReason::Closed);
        assert_eq!(kind, ErrorKind::SessionLost(LossReason::Expired));
        let kind = noted(&expired, LossReason::SessionGone);
        assert_eq!(
            kind,
            ErrorKind::SessionLost(LossReason::SessionGone),
            "the server's word is a proof of the end"
        );
        let (_, closed) = alive();
        let kind = noted(&closed, LossReason::Closed);
        assert_eq!(kind, ErrorKind::SessionLost(LossReason::Closed));
        assert_eq!(closed.state(), State::Lost(LossReason::Closed));
    }

    #[test]
    fn a_failed_renewal_is_jeopardy_until_one_succeeds() {
        let (clock, liveness) = alive();
        liveness.doubt();
        assert_eq!(liveness.state(), State::Jeopardy);
        liveness.record_renewal(clock.now(), VALIDITY);
        assert_eq!(liveness.state(), State::Held);
    }

    #[test]
    fn the_first_reason_stays() {
        let (_, liveness) = alive();
        liveness.lose(LossReason::SessionGone);
        liveness.lose(LossReason::Closed);
        assert_eq!(liveness.state(), State::Lost(LossReason::SessionGone));
    }

    #[tokio::test]
    async fn every_waiter_learns_of_the_loss_even_a_late_one() {
        let clock = Clock::system();
        let liveness = Liveness::new(clock.clone(), clock.now(), Duration::from_secs(3600));
        let waiting = tokio::spawn({
            let liveness = liveness.clone();
            async move { liveness.lost().await }
        });
        tokio::task::yield_now().await;
        liveness.lose(LossReason::SessionGone);
        let lost = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        let lost = lost.expect("long before the deadline");
        assert_eq!(lost.expect("no panic"), LossReason::SessionGone);
        assert_eq!(liveness.lost().await, LossReason::SessionGone);
    }

    #[tokio::test]
    async fn the_deadline_is_a_loss_although_nobody_renews_or_asks() {
        let clock = Clock::system();
        let liveness = Liveness::new(clock.clone(), clock.now(), Duration::from_millis(50));
        assert_eq!(liveness.lost().await, LossReason::Expired);
        assert_eq!(liveness.deadline(), None);
    }
}

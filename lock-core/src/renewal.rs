//! The one loop that renews a session.

use std::future::Future;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::liveness::{Liveness, State, interval};

/// An attempt to renew that takes longer is given up and tried again, however long the time to live
/// is: a holder must learn of trouble while it can still act.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(10);
/// The longest sleep of the renewal loop. After a suspend, timers are late by the time of it, so
/// the loop reads the clock this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Renews a session until it is lost: five times in a `ttl`. Each attempt is bounded by a fifth of
/// it, and by 10 s. After a failed attempt the next one follows after a short pause. Returns when
/// the session is lost, also when its deadline passes in the middle of an attempt.
///
/// `renew` makes one attempt and returns the validity that its acknowledgement proves. The validity
/// counts from when the attempt was sent: this loop reads the clock before it polls the attempt. An
/// error of kind [`ErrorKind::SessionLost`] ends the session at once; any other error puts it in
/// jeopardy.
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
/// use lock_core::{Error, Liveness, clock, renewal};
///
/// # async fn send_heartbeat() -> Result<(), Error> { Ok(()) }
/// async fn renew(liveness: &Liveness, ttl: Duration) {
///     renewal::keep_alive(liveness, ttl, || async {
///         send_heartbeat().await?;
///         Ok(clock::validity(ttl))
///     })
///     .await;
/// }
/// ```
pub async fn keep_alive<F, Fut>(liveness: &Liveness, ttl: Duration, mut renew: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Duration, Error>>,
{
    let interval = interval(ttl);
    let limit = interval.min(LONGEST_ATTEMPT);
    let pause = (ttl / 50).clamp(Duration::from_millis(20), Duration::from_secs(1));
    let mut next = liveness.clock().now() + interval;
    loop {
        if let State::Lost(_) = liveness.state() {
            return;
        }
        let now = liveness.clock().now();
        if now < next {
            let nap = next
                .saturating_since(now)
                .min(liveness.remaining())
                .min(LONGEST_SLEEP);
            tokio::select! {
                () = tokio::time::sleep(nap) => {}
                _ = liveness.lost() => return,
            }
            continue;
        }
        let sent = liveness.clock().now();
        let attempt = tokio::time::timeout(limit.min(liveness.remaining()), renew());
        let outcome = tokio::select! {
            outcome = attempt => outcome,
            _ = liveness.lost() => return,
        };
        match outcome {
            Ok(Ok(validity)) => {
                liveness.record_renewal(sent, validity);
                // A renewal that proves little, such as the first after an outage, is soon followed
                // by another.
                next = sent + if validity < ttl / 2 { pause } else { interval };
                continue;
            }
            Ok(Err(error)) => {
                if let ErrorKind::SessionLost(reason) = error.kind() {
                    liveness.lose(reason);
                    return;
                }
                tracing::debug!(%error, "a renewal failed");
                liveness.record_failed_renewal(sent, Some(&error));
            }
            Err(_) => {
                tracing::debug!(?limit, "a renewal was not answered in time");
                liveness.record_failed_renewal(sent, None);
            }
        }
        next = liveness.clock().now() + pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::error::LossReason;

    const VALIDITY: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn the_loop_ends_at_the_deadline_although_an_attempt_hangs() {
        let clock = Clock::system();
        let liveness = Liveness::new(clock.clone(), clock.now(), Duration::from_millis(50));
        keep_alive(&liveness, Duration::from_millis(50), std::future::pending).await;
        assert_eq!(liveness.state(), State::Lost(LossReason::Expired));
    }

    #[tokio::test]
    async fn an_attempt_that_hangs_is_given_up_for_another() {
        let clock = Clock::system();
        let liveness = Liveness::new(clock.clone(), clock.now(), VALIDITY);
        let mut attempts = 0;
        keep_alive(&liveness, Duration::from_millis(500), || {
            attempts += 1;
            let first = attempts == 1;
            async move {
                if first {
                    return std::future::pending().await;
                }
                Err(Error::session_lost(LossReason::SessionGone))
            }
        })
        .await;
        assert_eq!(attempts, 2);
        assert_eq!(liveness.state(), State::Lost(LossReason::SessionGone));
    }

    #[tokio::test]
    async fn a_late_reply_counts_from_when_its_request_was_sent() {
        const LATE: Duration = Duration::from_millis(200);
        let clock = Clock::system();
        let liveness = Liveness::new(clock.clone(), clock.now(), VALIDITY / 2);
        let mut sent = None;
        keep_alive(&liveness, Duration::from_secs(2), || {
            let first = sent.is_none();
            // The loop had read the clock before.
            let sent = *sent.get_or_insert_with(|| clock.now());
            let liveness = &liveness;
            async move {
                if first {
                    tokio::time::sleep(LATE).await;
                    return Ok(VALIDITY);
                }
                let deadline = liveness.deadline().expect("alive");
                assert!(deadline > sent && deadline <= sent + VALIDITY);
                Err(Error::session_lost(LossReason::SessionGone))
            }
        })
        .await;
        assert_eq!(liveness.state(), State::Lost(LossReason::SessionGone));
    }

    #[tokio::test]
    async fn the_loop_survives_failures_and_ends_when_the_session_is_gone() {
        let ttl = Duration::from_millis(500);
        let clock = Clock::system();
        let liveness = Liveness::new(clock.clone(), clock.now(), VALIDITY);
        let mut attempts = 0;
        keep_alive(&liveness, ttl, || {
            attempts += 1;
            std::future::ready(match attempts {
                1 => Err(Error::new(ErrorKind::Unreachable, "no route")),
                2 => Ok(VALIDITY),
                _ => Err(Error::session_lost(LossReason::SessionGone)),
            })
        })
        .await;
        assert_eq!(attempts, 3);
        assert_eq!(liveness.state(), State::Lost(LossReason::SessionGone));
    }
}

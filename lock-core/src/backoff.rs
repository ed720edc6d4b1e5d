//! Pauses between tries of one operation.

use std::time::Duration;

/// Exponential backoff with full jitter, so that many clients that failed together do not return
/// together.
#[derive(Debug)]
pub(crate) struct Backoff {
    tries: u32,
    first: Duration,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            tries: 0,
            first: Duration::from_millis(20),
            longest: Duration::from_secs(1),
        }
    }
}

impl Backoff {
    /// Returns the pauses between tries to open or to close a session on a coordinator that went
    /// away: up to 4 s.
    pub(crate) fn of_outage() -> Self {
        Backoff {
            longest: Duration::from_secs(4),
            ..Backoff::default()
        }
    }

    /// Returns the pauses of a circuit breaker between its probes: from up to 100 ms to up to 3 s.
    pub(crate) fn of_breaker() -> Self {
        Backoff {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(3),
            ..Backoff::default()
        }
    }

    /// Returns the pauses between the few tries of a brief retry: from up to 50 ms to up to 400 ms.
    pub(crate) fn of_brief_retry() -> Self {
        Backoff {
            first: Duration::from_millis(50),
            longest: Duration::from_millis(400),
            ..Backoff::default()
        }
    }

    /// Returns the next pause: random, up to a bound that doubles from try to try, by default from
    /// 20 ms to 1 s.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let bound = (self.first * 2u32.saturating_pow(self.tries)).min(self.longest);
        self.tries = (self.tries + 1).min(16);
        bound.mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        for make in [
            Backoff::default,
            Backoff::of_outage,
            Backoff::of_breaker,
            Backoff::of_brief_retry,
        ] {
            let mut backoff = make();
            let (first, longest) = (backoff.first, backoff.longest);
            assert!(backoff.next_pause() <= first);
            for _ in 0..100 {
                assert!(backoff.next_pause() <= longest);
            }
        }
    }
}

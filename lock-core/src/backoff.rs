//! Pauses between tries.

use std::time::Duration;

/// Exponential backoff with full jitter: many clients that failed together do not come back
/// together.
#[derive(Debug)]
pub(crate) struct Backoff {
    tries: u32,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            tries: 0,
            longest: Self::LONGEST,
        }
    }
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_secs(1);
    const LONGEST_OF_OUTAGE: Duration = Duration::from_secs(4);

    /// Between tries to open a session on a coordinator that went away, each of which is many
    /// requests.
    pub(crate) fn of_outage() -> Self {
        Backoff {
            longest: Self::LONGEST_OF_OUTAGE,
            ..Backoff::default()
        }
    }

    /// The next pause: random, up to a bound that doubles from 20 ms to 1 s, or 4 s in an outage.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let bound = (Self::FIRST * 2u32.saturating_pow(self.tries)).min(self.longest);
        self.tries = (self.tries + 1).min(16);
        bound.mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let mut backoff = Backoff::default();
        assert!(backoff.next_pause() <= Backoff::FIRST);
        for _ in 0..100 {
            assert!(backoff.next_pause() <= Backoff::LONGEST);
        }
    }
}

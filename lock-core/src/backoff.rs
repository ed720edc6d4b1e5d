//! Pauses between tries.

use std::time::Duration;

/// Exponential backoff with full jitter: many clients that failed together do not come back
/// together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_secs(1);

    /// The next pause: random, up to a bound that doubles from 20 ms to 1 s.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let bound = (Self::FIRST * 2u32.saturating_pow(self.tries)).min(Self::LONGEST);
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

//! The pauses before a stream of watches is opened again.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::transport::Transport;

/// The longest pause before the second opening. Each later one may be twice as long.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(4);

/// The part of a pause that passes even if the coordinator answers other requests meanwhile: it may
/// refuse watches alone.
const LEAST: f64 = 0.5;

/// When the stream may be opened again. All watches of a backend share it, so that a coordinator that
/// is away is not asked by each waiter.
#[derive(Debug, Default)]
pub(super) struct Reopening {
    /// How many streams failed in a row since the server last answered on one.
    failures: u32,
    pause: Option<Pause>,
    /// Whether the coordinator has answered another request in the pause.
    was_answered: bool,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    least: Instant,
    end: Instant,
}

impl Reopening {
    /// Notes that a stream failed, or could not be opened. The first one is opened again at once.
    pub(super) fn note_failure(&mut self) {
        self.was_answered = false;
        let pause = match self.failures {
            0 => None,
            failures => Some((FIRST * 2u32.saturating_pow(failures - 1)).min(LONGEST)),
        };
        self.failures = self.failures.saturating_add(1).min(16);
        let now = Instant::now();
        self.pause = pause.map(|pause| {
            let pause = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            Pause {
                least: now + pause.mul_f64(LEAST),
                end: now + pause,
            }
        });
    }

    /// Notes that the server has answered on the stream.
    pub(super) fn note_answer(&mut self) {
        *self = Reopening::default();
    }

    /// Returns the end of the pause, if it is in the future.
    pub(super) fn end(&self) -> Option<Instant> {
        let end = self.pause?.end;
        (end > Instant::now()).then_some(end)
    }

    /// Ends the pause early if the coordinator answers another request. Resolves when it has ended so.
    ///
    /// # Cancel safety
    /// An answer that was noticed is not forgotten.
    pub(super) async fn end_early(&mut self, transport: &Transport) {
        let Some(Pause { least, .. }) = self.pause else {
            return std::future::pending().await;
        };
        if !self.was_answered {
            transport.wait_for_answer().await;
            self.was_answered = true;
        }
        sleep_until(least).await;
        self.pause = None;
    }

    /// Returns whether the coordinator has answered another request since the latest failure.
    pub(super) fn was_answered(&self) -> bool {
        self.was_answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stream_is_opened_again_at_once_and_later_ones_ever_more_rarely() {
        let mut reopening = Reopening::default();
        reopening.note_failure();
        assert_eq!(reopening.end(), None);
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            reopening.note_failure();
            let end = reopening.end().expect("a pause");
            let pause = end - Instant::now();
            assert!(pause <= LONGEST, "{pause:?}");
            longest = longest.max(pause);
        }
        assert!(longest > LONGEST / 2 - FIRST, "{longest:?}");
        reopening.note_answer();
        assert_eq!(reopening.end(), None);
    }
}

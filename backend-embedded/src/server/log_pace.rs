//! The pace of lines in the log: what a client can cause often is said once a minute.

use std::time::Duration;

use tokio::time::Instant;

/// The time between two lines.
const INTERVAL: Duration = Duration::from_secs(60);

/// When the last line was written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LogPace {
    last: Option<Instant>,
    /// The number of events by then.
    count: u64,
}

impl LogPace {
    /// Returns how many events have had no line since the last one, if a line is due. `count` is the
    /// number of events so far, with the present one.
    pub(super) fn take_turn(&mut self, count: u64, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + INTERVAL) {
            return None;
        }
        let unlogged = count.saturating_sub(self.count + 1);
        *self = LogPace {
            last: Some(now),
            count,
        };
        Some(unlogged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_line_a_minute_and_it_counts_the_rest() {
        let mut pace = LogPace::default();
        let start = Instant::now();
        assert_eq!(pace.take_turn(1, start), Some(0));
        assert_eq!(pace.take_turn(2, start), None);
        assert_eq!(pace.take_turn(3, start + INTERVAL / 2), None);
        assert_eq!(pace.take_turn(4, start + INTERVAL), Some(2));
    }
}

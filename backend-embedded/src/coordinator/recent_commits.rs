//! The slowest commit of the last minutes.

use std::time::Duration;

/// How many minutes are remembered, apart from the present one.
const MINUTES: usize = 10;

/// The slowest commit of each of the last minutes.
#[derive(Debug, Default)]
pub(super) struct RecentCommits {
    /// A minute since the beginning of the shared clock, and its slowest commit. The minute decides
    /// on the place.
    slowest: [(u64, Duration); MINUTES + 1],
}

impl RecentCommits {
    pub(super) fn note(&mut self, now: Duration, took: Duration) {
        let minute = minute_of(now);
        let place = usize::try_from(minute).unwrap_or(0) % self.slowest.len();
        let slot = &mut self.slowest[place];
        if slot.0 != minute {
            *slot = (minute, Duration::ZERO);
        }
        slot.1 = slot.1.max(took);
    }

    /// Returns how long the slowest commit took of those that ended in the last ten minutes or
    /// little more; zero without any.
    pub(super) fn slowest(&self, now: Duration) -> Duration {
        let oldest = minute_of(now).saturating_sub(MINUTES as u64);
        let recent = self.slowest.iter().filter(|(minute, _)| *minute >= oldest);
        recent.map(|(_, took)| *took).max().unwrap_or_default()
    }
}

fn minute_of(now: Duration) -> u64 {
    now.as_secs() / 60
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_commit_is_remembered_for_ten_minutes() {
        let (seconds, millis) = (Duration::from_secs, Duration::from_millis);
        let mut recent = RecentCommits::default();
        assert_eq!(recent.slowest(seconds(0)), Duration::ZERO);
        recent.note(seconds(30), millis(900));
        recent.note(seconds(31), millis(2));
        for minute in 1..10 {
            recent.note(seconds(60 * minute), millis(minute));
            assert_eq!(recent.slowest(seconds(60 * minute)), millis(900));
        }
        assert_eq!(recent.slowest(seconds(659)), millis(900));
        assert_eq!(recent.slowest(seconds(660)), millis(9));
        recent.note(seconds(660), millis(1));
        assert_eq!(recent.slowest(seconds(661)), millis(9));
        assert_eq!(recent.slowest(seconds(86_400)), Duration::ZERO);
    }
}

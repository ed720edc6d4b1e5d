//! The time for which a lock is not kept, after somebody else wanted it.

use std::time::Duration;

use crate::clock::{BootInstant, Clock};

/// The longest time for which a lock is not kept, if no more was asked for.
const LONGEST: Duration = Duration::from_secs(300);

/// For how long a lock is not kept.
#[derive(Debug, Default)]
pub(super) struct CoolDown {
    until: Option<BootInstant>,
    length: Duration,
}

impl CoolDown {
    pub(super) fn is_on(&self) -> bool {
        self.until
            .is_some_and(|until| Clock::system().now() < until)
    }

    /// Begins to cool down. If the last time ended less than its own length ago, this one is twice as
    /// long.
    pub(super) fn begin(&mut self, now: BootInstant, least: Duration) {
        let is_soon = self.until.is_some_and(|until| now < until + self.length);
        self.length = match is_soon {
            true => self.length.saturating_mul(2).min(LONGEST).max(least),
            false => least,
        };
        self.until = Some(now + self.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_while_others_come_soon_again() {
        let at = |secs: u64| BootInstant::from_nanos(secs * 1_000_000_000);
        let least = Duration::from_secs(30);
        let mut cool_down = CoolDown::default();
        let mut now = 1_000;
        let mut lengths = vec![];
        for _ in 0..6 {
            cool_down.begin(at(now), least);
            lengths.push(cool_down.length.as_secs());
            now += cool_down.length.as_secs() + 1;
        }
        assert_eq!(lengths, [30, 60, 120, 240, 300, 300]);
        cool_down.begin(at(now + 600), least);
        assert_eq!(cool_down.length, least, "a calm time has passed");
        cool_down.begin(at(now + 601), Duration::MAX);
        cool_down.begin(at(now + 602), Duration::MAX);
        assert_eq!(cool_down.length, Duration::MAX);
    }
}

//! What the runs of a part must add up to.

use std::time::Duration;

use crate::results::Runs;
use crate::text::{group_digits, to_length};

/// The least sums of many runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goal {
    /// The cases of a random test.
    pub runs: u64,
    pub holds: u64,
    pub seconds: f64,
    /// Holds a second.
    pub density: f64,
}

impl Goal {
    /// The goal that is reached without any run.
    pub const NOTHING: Goal = Goal {
        runs: 0,
        holds: 0,
        seconds: 0.0,
        density: 0.0,
    };

    /// Returns how long the runs are to be.
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// Returns which share of the sums is reached: 1 if all of them are.
    pub fn share(&self, runs: &Runs) -> f64 {
        let share = |done: f64, wanted: f64| match wanted > 0.0 {
            true => (done / wanted).min(1.0),
            false => 1.0,
        };
        share(runs.runs as f64, self.runs as f64)
            .min(share(runs.holds as f64, self.holds as f64))
            .min(share(runs.seconds, self.seconds))
    }

    /// Returns what the runs lack, for people.
    pub fn missing(&self, runs: &Runs) -> Vec<String> {
        let mut missing = vec![];
        if runs.runs < self.runs {
            missing.push(format!("{} cases", group_digits(self.runs - runs.runs)));
        }
        if runs.holds < self.holds {
            missing.push(format!("{} holds", group_digits(self.holds - runs.holds)));
        }
        if runs.seconds < self.seconds {
            missing.push(to_length(self.seconds - runs.seconds));
        }
        if runs.density() < self.density {
            missing.push(format!("{} holds a second", self.density));
        }
        missing
    }

    /// Describes how far the runs have come.
    pub fn describe(&self, runs: &Runs) -> String {
        let mut text = format!("{:.1} %", 100.0 * self.share(runs));
        if runs.holds > 0 {
            text += &format!(
                ": {} holds, {}",
                group_digits(runs.holds),
                to_length(runs.seconds)
            );
        } else if self.runs > 0 {
            text += &format!(": {} cases", group_digits(runs.runs));
        }
        text += &format!(", {} failed", runs.failures.len());
        if let Some(rate) = runs.holds_per_core_hour() {
            text += &format!(", {:.2} million holds a core-hour", rate / 1e6);
        }
        if let Some(left) = self.time_left(runs) {
            text += &format!(", {} left", to_length(left.as_secs_f64()));
        }
        text
    }

    /// Returns how long the rest takes if it is done as fast as the runs so far.
    pub fn time_left(&self, runs: &Runs) -> Option<Duration> {
        let share = self.share(runs);
        let left = runs.wall_seconds * (1.0 - share) / share;
        Duration::try_from_secs_f64(left).ok()
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What runs of nothing lack is all of it.
        f.write_str(&self.missing(&Runs::default()).join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOAL: Goal = Goal {
        runs: 0,
        holds: 1_000_000,
        seconds: 86_400.0,
        density: 12.0,
    };

    fn runs(holds: u64, seconds: f64) -> Runs {
        Runs {
            holds,
            seconds,
            wall_seconds: 600.0,
            ..Runs::default()
        }
    }

    #[test]
    fn the_share_is_that_of_the_sum_which_lacks_most() {
        assert_eq!(GOAL.share(&Runs::default()), 0.0);
        assert_eq!(GOAL.share(&runs(250_000, 86_400.0)), 0.25);
        assert_eq!(GOAL.share(&runs(1_000_000, 8_640.0)), 0.1);
        assert_eq!(GOAL.share(&runs(3_000_000, 90_000.0)), 1.0);
        let cases = Goal {
            runs: 40,
            ..Goal::NOTHING
        };
        let ten = Runs {
            runs: 10,
            ..Runs::default()
        };
        assert_eq!(cases.share(&ten), 0.25);
        assert_eq!(cases.missing(&ten), ["30 cases"]);
        let only_time = Goal {
            seconds: 100.0,
            ..Goal::NOTHING
        };
        assert_eq!(only_time.share(&runs(0, 50.0)), 0.5);
    }

    #[test]
    fn the_rest_takes_as_long_as_what_was_done() {
        let left = |runs| GOAL.time_left(&runs);
        assert_eq!(left(Runs::default()), None);
        assert_eq!(
            left(runs(250_000, 86_400.0)),
            Some(Duration::from_secs(1_800))
        );
        assert_eq!(left(runs(2_000_000, 86_400.0)), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(
            GOAL.to_string(),
            "1,000,000 holds, 1.0 days, 12 holds a second"
        );
        assert_eq!(
            GOAL.missing(&runs(999_000, 82_800.0)),
            ["1,000 holds", "1.0 h"]
        );
        assert_eq!(
            GOAL.missing(&runs(1_000_000, 86_400.0)),
            ["12 holds a second"]
        );
        assert!(GOAL.missing(&runs(1_200_000, 86_400.0)).is_empty());
    }
}

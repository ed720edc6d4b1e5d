//! Judges whether a quantity stays where it is over a long run.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::group_digits;

/// By how much a quantity may be higher in the last quarter than in the second, in hundredths.
const MOST: u64 = 10;

/// What is kept of a quantity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// The median of the second quarter of the run. The first one is for caches to fill.
    pub second_quarter: u64,
    /// The median of the last quarter.
    pub last_quarter: u64,
    pub highest: u64,
}

impl Level {
    /// Sums up samples, which were taken at equal distances.
    pub fn of(samples: &[u64]) -> Self {
        let quarter = samples.len() / 4;
        Level {
            second_quarter: find_median(&samples[quarter..2 * quarter]),
            last_quarter: find_median(&samples[samples.len() - quarter..]),
            highest: samples.iter().copied().max().unwrap_or_default(),
        }
    }

    /// Returns whether the quantity has not grown.
    pub fn is_flat(self) -> bool {
        self.last_quarter * 100 <= self.second_quarter * (100 + MOST)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} in the second quarter, {} in the last, {} at most",
            group_digits(self.second_quarter),
            group_digits(self.last_quarter),
            group_digits(self.highest)
        )
    }
}

fn find_median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns samples of an hour: one a second.
    fn sample(level: impl Fn(u64) -> u64) -> Vec<u64> {
        (0..3_600).map(level).collect()
    }

    fn is_flat(level: impl Fn(u64) -> u64) -> bool {
        Level::of(&sample(level)).is_flat()
    }

    #[test]
    fn levels_that_stay_are_flat() {
        assert!(is_flat(|_| 40));
        assert!(is_flat(|_| 0));
        // Connections come and go with each workload, and a rare peak is no growth.
        assert!(is_flat(|second| 6 + second % 60));
        assert!(is_flat(|second| if second == 3_500 { 9_000 } else { 20 }));
        // Caches fill.
        assert!(is_flat(|second| 20_000_000 + 40_000 * second.min(900)));
        // A journal begins anew whenever it is full.
        assert!(is_flat(|second| 300_000 + 5_000 * (second % 90)));
        assert!(is_flat(|second| 4_000 - second));
    }

    #[test]
    fn leaks_are_noticed() {
        // Two descriptors of twenty in five minutes.
        assert!(!is_flat(|second| 20 + second / 150));
        // Half a megabyte a minute, of thirty.
        assert!(!is_flat(|second| 30_000_000 + second * 512 * 1_024 / 60));
        // What grows late, and what grows under a level that changes.
        assert!(!is_flat(|second| 100 + second.saturating_sub(2_400) / 20));
        assert!(!is_flat(|second| 6 + second % 60 + second / 100));
    }

    #[test]
    fn a_level_is_that_of_the_quarters() {
        assert_eq!(
            Level::of(&[9, 9, 1, 3, 5, 5, 4, 2]),
            Level {
                second_quarter: 3,
                last_quarter: 4,
                highest: 9
            }
        );
        assert_eq!(Level::of(&[]), Level::default());
    }
}

//! When the store got to its revisions, so that an entry's age follows from its create revision.

use std::time::Duration;

use crate::machine::op::Revision;

/// The most samples that are kept.
const MAX_SAMPLES: usize = 2048;

/// An age is wrong by no more than this part of it, or by the time between two samples.
const PRECISION: u32 = 50;

/// The revisions at the checks of the expiry, by the shared clock. Older ones are kept less densely,
/// so that their number is bounded whatever the uptime. No request pays for this.
#[derive(Debug, Clone)]
pub(crate) struct RevisionTimes {
    /// Ascending in both, and never empty.
    samples: Vec<Sample>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    revision: Revision,
    /// When the store was found at this revision first.
    at: Duration,
}

impl RevisionTimes {
    /// Returns the times of a store that was opened at this revision, when its clock began.
    pub(crate) fn new(opened_at: Revision) -> Self {
        RevisionTimes {
            samples: vec![Sample {
                revision: opened_at,
                at: Duration::ZERO,
            }],
        }
    }

    /// Notes that the store is at this revision now.
    pub(crate) fn note(&mut self, revision: Revision, now: Duration) {
        // Commits that found no room are undone, and their revisions come again.
        while self.samples.len() > 1 && self.last().revision > revision {
            self.samples.pop();
        }
        if self.last().revision >= revision {
            return;
        }
        self.samples.push(Sample { revision, at: now });
        if self.samples.len() > MAX_SAMPLES {
            self.thin(now);
        }
    }

    /// Returns when the store had got to this revision, as a moment that is too late rather than too
    /// early. That is `now` if no sample has it yet, and the beginning of the clock for what was
    /// there when the store was opened.
    pub(crate) fn time_of(&self, revision: Revision, now: Duration) -> Duration {
        let first = self.samples.partition_point(|it| it.revision < revision);
        self.samples.get(first).map_or(now, |sample| sample.at)
    }

    fn last(&self) -> Sample {
        self.samples[self.samples.len() - 1]
    }

    /// Drops samples whose revisions can be given the time of the next sample that is kept.
    fn thin(&mut self, now: Duration) {
        let mut kept = Vec::with_capacity(MAX_SAMPLES);
        let mut next = self.last();
        kept.push(next);
        for pair in self.samples.windows(2).rev() {
            let [before, sample] = pair else { continue };
            let error = next.at.saturating_sub(before.at);
            let allowed = now.saturating_sub(next.at) / PRECISION;
            if *sample != next && error > allowed {
                next = *sample;
                kept.push(next);
            }
        }
        if self.samples[0] != next {
            kept.push(self.samples[0]);
        }
        kept.reverse();
        self.samples = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_revision_has_the_time_of_the_check_that_found_it() {
        let mut times = RevisionTimes::new(100);
        times.note(100, seconds(5));
        times.note(110, seconds(10));
        times.note(110, seconds(15));
        times.note(120, seconds(20));
        let now = seconds(30);
        for (revision, at) in [(7, 0), (100, 0), (101, 10), (110, 10), (111, 20), (121, 30)] {
            assert_eq!(times.time_of(revision, now), seconds(at), "{revision}");
        }
    }

    #[test]
    fn what_was_undone_is_forgotten() {
        let mut times = RevisionTimes::new(100);
        times.note(110, seconds(10));
        times.note(120, seconds(20));
        times.note(112, seconds(30));
        let now = seconds(40);
        assert_eq!(times.time_of(110, now), seconds(10));
        assert_eq!(times.time_of(111, now), seconds(30));
        assert_eq!(times.time_of(120, now), now);
        times.note(99, seconds(41));
        assert_eq!(times.time_of(99, now), Duration::ZERO);
    }

    #[test]
    fn years_take_little_room_and_ages_stay_about_right() {
        const TICK: Duration = Duration::from_millis(250);
        let mut times = RevisionTimes::new(0);
        // A day of revisions at each check, and then ten years at longer and longer intervals.
        let mut checks = vec![Duration::ZERO];
        for revision in 1.. {
            let last = checks[revision - 1];
            let step = TICK.max(last.saturating_sub(seconds(86_400)) / 1000);
            let now = last + step;
            if now > seconds(10 * 365 * 86_400) {
                break;
            }
            times.note(revision as Revision, now);
            assert!(times.samples.len() <= MAX_SAMPLES);
            checks.push(now);
        }
        let now = checks[checks.len() - 1];
        for (revision, at) in checks.iter().enumerate() {
            let found = times.time_of(revision as Revision, now);
            assert!(found >= *at, "{revision}: {found:?} is before {at:?}");
            let (error, age) = (found - *at, now - found);
            assert!(error <= age / PRECISION, "{revision}: {error:?} of {age:?}");
        }
    }
}

//! Since when locks are held, by what one scrape after another has seen.

use std::time::Duration;

use crate::machine::op::Revision;

/// An entry that held its lock at a count: its create revision, and since when it holds.
type Holder = (Revision, Duration);

/// The holders at the last count. The store tells when an entry arrived, and not when it stopped
/// waiting: a contender that waited at the last count, and holds at the next one, counts as a holder
/// from the latter.
#[derive(Debug, Default)]
pub(super) struct Census {
    /// Ascending by revision.
    holders: Vec<Holder>,
    /// The store's revision when the last count began.
    counted: Option<Revision>,
}

impl Census {
    /// Returns since when the entry holds that arrived then, if it holds now.
    pub(super) fn held_since(&self, entry: Revision, arrived: Duration, now: Duration) -> Duration {
        let known = (self.holders).binary_search_by_key(&entry, |(revision, _)| *revision);
        match known {
            Ok(place) => self.holders[place].1,
            Err(_) if self.counted.is_some_and(|counted| entry <= counted) => now,
            Err(_) => arrived,
        }
    }

    /// Replaces the last count by one that began at this revision.
    pub(super) fn replace(&mut self, mut holders: Vec<Holder>, counted: Revision) {
        holders.sort_unstable();
        *self = Census {
            holders,
            counted: Some(counted),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contender_that_waited_holds_from_when_it_is_seen_to() {
        let seconds = Duration::from_secs;
        let mut census = Census::default();
        assert_eq!(census.held_since(7, seconds(2), seconds(9)), seconds(2));
        census.replace(vec![(9, seconds(4)), (7, seconds(2))], 10);
        let now = seconds(20);
        assert_eq!(census.held_since(7, seconds(3), now), seconds(2), "holds");
        assert_eq!(census.held_since(9, seconds(4), now), seconds(4), "holds");
        assert_eq!(census.held_since(8, seconds(3), now), now, "waited");
        assert_eq!(
            census.held_since(11, seconds(18), now),
            seconds(18),
            "is new"
        );
    }
}

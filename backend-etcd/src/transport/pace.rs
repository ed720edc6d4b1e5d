//! How long a member may take, so that one that does not answer delays nobody for long.

use std::time::Duration;

use tokio::time::Instant;

/// The part of the time that a silent member gets while another one may do better.
const HASTE: u32 = 6;
/// How many times as long as the slowest of the latest answers a working member may take.
const SLACK: u32 = 4;

/// The time limits of requests and connections, which depend on the latest answers.
///
/// A member that stands still must not cost a whole request timeout while the others of its cluster
/// would answer. Members also hold back requests that reach them before an election. So the wait is
/// short for a while after a failure. It is never so short that a slow cluster counts as dead.
#[derive(Debug)]
pub(super) struct Pace {
    connect_timeout: Duration,
    request_timeout: Duration,
    /// Whether there is another member.
    has_choice: bool,
    /// When a member failed, if none has answered since.
    failing: Option<Instant>,
    /// How many times a member failed since one answered.
    failures: usize,
    /// The time that the slowest of the latest answers took. It decays with each answer.
    slowest: Duration,
}

impl Pace {
    pub(super) fn new(
        connect_timeout: Duration,
        request_timeout: Duration,
        has_choice: bool,
    ) -> Self {
        Pace {
            connect_timeout,
            request_timeout,
            has_choice,
            failing: None,
            failures: 0,
            slowest: Duration::ZERO,
        }
    }

    /// Returns how long to wait for an answer now.
    pub(super) fn request_limit(&self) -> Duration {
        if !self.is_in_haste() {
            return self.request_timeout;
        }
        (self.request_timeout / HASTE)
            .max(SLACK * self.slowest)
            .min(self.request_timeout)
    }

    /// Returns how long to wait for a connection, or for the check of a password, now. Both take
    /// several round trips.
    pub(super) fn connect_limit(&self) -> Duration {
        match self.is_in_haste() {
            true => self.connect_timeout / 2,
            false => self.connect_timeout,
        }
    }

    fn is_in_haste(&self) -> bool {
        let fails_for_long = self
            .failing
            .is_some_and(|since| since.elapsed() > self.request_timeout * 3 / 2);
        self.has_choice && !fails_for_long
    }

    /// Notes an answer that took this long.
    pub(super) fn note_answer(&mut self, took: Duration) {
        self.failing = None;
        self.failures = 0;
        self.slowest = took.max(self.slowest - self.slowest / 64);
    }

    /// Notes that a member failed.
    pub(super) fn note_failure(&mut self) {
        self.failing.get_or_insert_with(Instant::now);
        self.failures = self.failures.saturating_add(1);
    }

    /// Returns how many times a member failed since one answered.
    pub(super) fn failures(&self) -> usize {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: Duration = Duration::from_secs(2);
    const REQUEST: Duration = Duration::from_millis(600);

    #[test]
    fn a_single_member_gets_the_whole_time() {
        let pace = Pace::new(CONNECT, REQUEST, false);
        assert_eq!(pace.request_limit(), REQUEST);
        assert_eq!(pace.connect_limit(), CONNECT);
    }

    #[test]
    fn one_of_several_members_gets_a_part_of_it_unless_the_cluster_is_slow() {
        let mut pace = Pace::new(CONNECT, REQUEST, true);
        assert_eq!(pace.request_limit(), REQUEST / 6);
        assert_eq!(pace.connect_limit(), CONNECT / 2);
        pace.note_answer(Duration::from_millis(50));
        assert_eq!(pace.request_limit(), Duration::from_millis(200));
        pace.note_answer(Duration::from_secs(1));
        assert_eq!(pace.request_limit(), REQUEST);
        for _ in 0..1000 {
            pace.note_answer(Duration::from_millis(1));
        }
        assert_eq!(pace.request_limit(), REQUEST / 6);
    }

    #[test]
    fn the_haste_ends_when_no_member_answers() {
        let mut pace = Pace::new(CONNECT, REQUEST, true);
        pace.note_failure();
        assert_eq!(pace.request_limit(), REQUEST / 6);
        pace.failing = Instant::now().checked_sub(REQUEST * 2);
        assert_eq!(pace.request_limit(), REQUEST);
        pace.note_failure();
        assert_eq!(pace.request_limit(), REQUEST);
        pace.note_answer(Duration::ZERO);
        assert_eq!(pace.request_limit(), REQUEST / 6);
    }
}

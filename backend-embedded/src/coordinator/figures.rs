//! What the metrics of a server show of its coordinator.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

use super::Coordinator;
use crate::error::Error;
use crate::machine::op::KeyValue;

/// The bounds of the buckets of commits, in seconds: those of etcd.
const COMMIT_BUCKETS: [f64; 14] = [
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192,
];

/// A commit that has taken longer than this does not end by itself.
const STUCK: Duration = Duration::from_secs(30);

/// Why requests are refused, in the order of [`refusal_index`].
pub(crate) const REFUSALS: [&str; 5] = [
    "pending_requests",
    "store_bytes",
    "disk_full",
    "leases",
    "watches",
];

/// Values that are counted where things happen. None of them is behind a lock that a request holds
/// for long.
#[derive(Debug)]
pub(crate) struct Figures {
    refused: [AtomicU64; REFUSALS.len()],
    expired: AtomicU64,
    late_nanos: AtomicU64,
    commits: Histogram,
    /// When the commit under way began, in nanoseconds by the shared clock, plus one; 0 if none is.
    commit_begun: AtomicU64,
}

/// Values at one instant.
#[derive(Debug)]
pub(crate) struct Gauges {
    pub(crate) leases: usize,
    pub(crate) watches: usize,
    pub(crate) pending_requests: usize,
    pub(crate) keys: usize,
    /// Bytes of keys and values.
    pub(crate) content_bytes: u64,
    /// The length of the store's file in bytes; 0 in memory.
    pub(crate) store_bytes: u64,
    pub(crate) refuses_writes: bool,
    /// The part of its time to live that is left to the lease that expires first.
    pub(crate) least_remaining: Option<f64>,
}

impl Figures {
    pub(super) fn new() -> Self {
        Figures {
            refused: Default::default(),
            expired: AtomicU64::new(0),
            late_nanos: AtomicU64::new(0),
            commits: Histogram::new(COMMIT_BUCKETS),
            commit_begun: AtomicU64::new(0),
        }
    }

    /// Counts a request that was refused because a limit was reached. Other errors are no matter.
    pub(super) fn count_refusal(&self, error: &Error) {
        if let Some(index) = refusal_index(error) {
            self.refused[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_expiry(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a delay by which every lease was extended.
    pub(super) fn count_delay(&self, delay: Duration) {
        self.late_nanos.fetch_add(nanos(delay), Ordering::Relaxed);
    }

    pub(super) fn begin_commit(&self, now: Duration) {
        self.commit_begun.store(nanos(now) + 1, Ordering::Relaxed);
    }

    pub(super) fn end_commit(&self, took: Duration) {
        self.commit_begun.store(0, Ordering::Relaxed);
        self.commits.observe(took.as_secs_f64());
    }

    /// Returns how long the commit that is under way has taken so far.
    fn commit_age(&self, now: Duration) -> Option<Duration> {
        let begun = self.commit_begun.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now.saturating_sub(Duration::from_nanos(begun)))
    }

    /// Returns how many requests were refused for each reason.
    pub(crate) fn refused(&self) -> [(&'static str, u64); REFUSALS.len()] {
        std::array::from_fn(|index| (REFUSALS[index], self.refused[index].load(Ordering::Relaxed)))
    }

    pub(crate) fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    /// Returns the sum of the delays that were given back to leases.
    pub(crate) fn late(&self) -> Duration {
        Duration::from_nanos(self.late_nanos.load(Ordering::Relaxed))
    }

    pub(crate) fn commits(&self) -> &Histogram {
        &self.commits
    }
}

fn refusal_index(error: &Error) -> Option<usize> {
    Some(match error {
        Error::Overloaded => 0,
        Error::QuotaExceeded { .. } => 1,
        Error::NoSpace { .. } => 2,
        Error::TooManyLeases { .. } => 3,
        Error::TooManyWatches { .. } => 4,
        _ => return None,
    })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Coordinator {
    pub(crate) fn figures(&self) -> &Figures {
        self.shared().figures()
    }

    /// Returns the present values. Holds the state for as long as it takes to read a few numbers.
    pub(crate) fn gauges(&self) -> Gauges {
        let shared = self.shared();
        let now = shared.clock().now();
        let status = shared.status();
        let state = shared.state();
        let recording = state.recording.as_ref();
        Gauges {
            leases: status.leases,
            keys: status.keys,
            content_bytes: status.db_size_in_use,
            store_bytes: status.db_size,
            pending_requests: recording.map_or(0, |it| it.pending.requests()),
            refuses_writes: state.is_over() || recording.is_some_and(|it| it.full.is_some()),
            least_remaining: state.machine.least_remaining(now),
            watches: shared.hub().watch_count(),
        }
    }

    /// Returns at most `limit` keys after this one, ascending.
    pub(crate) fn keys_after(&self, after: &[u8], limit: usize) -> Vec<Arc<KeyValue>> {
        self.shared().state().machine.keys_after(after, limit)
    }

    /// Returns the limits of leases, watches and pending requests.
    pub(crate) fn limits(&self) -> &crate::config::Limits {
        self.shared().limits()
    }

    /// Returns a file in the coordinator's folder; `None` in memory.
    pub(crate) fn file(&self) -> Option<std::path::PathBuf> {
        let path = self.shared().evidence().path();
        (!path.as_os_str().is_empty()).then_some(path)
    }

    /// Returns why the coordinator does not work any more, if that is so: it has ended, or its
    /// committer hangs.
    ///
    /// # Errors
    /// The reason, for people.
    pub(crate) fn check_alive(&self) -> Result<(), String> {
        let shared = self.shared();
        if let Some(error) = shared.end_reason() {
            return Err(error.to_string());
        }
        match shared.figures().commit_age(shared.clock().now()) {
            Some(age) if age > STUCK => Err(format!(
                "a commit has taken {} s so far: the disk hangs",
                age.as_secs()
            )),
            _ => Ok(()),
        }
    }

    /// Returns why writes are refused now, if they are.
    ///
    /// # Errors
    /// The reason, for people.
    pub(crate) fn check_ready(&self) -> Result<(), String> {
        self.check_alive()?;
        let state = self.shared().state();
        state.check_running().map_err(|error| error.to_string())?;
        let full = state.recording.as_ref().and_then(|it| it.full.as_ref());
        full.map_or(Ok(()), |error| Err(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_under_way_has_an_age() {
        let figures = Figures::new();
        let seconds = Duration::from_secs;
        assert_eq!(figures.commit_age(seconds(5)), None);
        figures.begin_commit(Duration::ZERO);
        assert_eq!(figures.commit_age(seconds(5)), Some(seconds(5)));
        figures.end_commit(seconds(6));
        assert_eq!(figures.commit_age(seconds(7)), None);
    }

    #[test]
    fn only_refusals_for_a_limit_are_counted() {
        let figures = Figures::new();
        figures.count_refusal(&Error::TooManyLeases { limit: 1 });
        figures.count_refusal(&Error::LeaseNotFound { id: 1 });
        let refused = figures.refused();
        let leases = REFUSALS.map(|reason| (reason, u64::from(reason == "leases")));
        assert_eq!(refused, leases);
    }
}

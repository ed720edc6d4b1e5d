//! What the metrics of a server show of its coordinator.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

use super::recent_commits::RecentCommits;
use super::{Coordinator, RevisionTimes};
use crate::error::Error;
use crate::machine::op::{KeyValue, Revision};
use crate::store::{COMMIT_BUCKETS, StoreSyncs};

/// A commit that has taken longer than this does not end by itself.
const STUCK: Duration = Duration::from_secs(30);

/// Why requests are refused: what [`refusal_index`] tells apart, in its order.
pub(crate) const REFUSALS: [&str; 9] = [
    "pending_requests",
    "store_bytes",
    "disk_full",
    "leases",
    "watches",
    "request_keys",
    "lease_keys",
    "snapshots",
    "queue_entries",
];

/// Values that are counted where things happen. None of them is behind a lock that a request holds
/// for long.
#[derive(Debug)]
pub(crate) struct Figures {
    refused: [AtomicU64; REFUSALS.len()],
    expired: AtomicU64,
    late_nanos: AtomicU64,
    commits: Histogram,
    recent: Mutex<RecentCommits>,
    failed_commits: AtomicU64,
    /// When the commit under way began, in nanoseconds by the shared clock, plus one; 0 if none is.
    commit_begun: AtomicU64,
    /// Set once there is a store.
    syncs: OnceLock<StoreSyncs>,
    journal_bytes: AtomicU64,
    revisions: Mutex<RevisionTimes>,
}

/// Values at one instant.
#[derive(Debug)]
pub(crate) struct Gauges {
    pub(crate) leases: usize,
    pub(crate) watches: usize,
    /// Bytes that wait for the consumers of all watches together.
    pub(crate) watch_backlog_bytes: usize,
    pub(crate) pending_requests: usize,
    pub(crate) keys: usize,
    /// Bytes of keys and values.
    pub(crate) content_bytes: u64,
    /// The length of the store's file in bytes; 0 in memory.
    pub(crate) store_bytes: u64,
    /// The bytes of the journal that commits take up.
    pub(crate) journal_bytes: u64,
    /// How long the slowest commit of the last ten minutes took, with the one under way.
    pub(crate) slowest_commit: Duration,
    pub(crate) refuses_writes: bool,
    /// The part of its time to live that is left to the lease that expires first.
    pub(crate) least_remaining: Option<f64>,
}

impl Figures {
    pub(super) fn new(revision: Revision) -> Self {
        Figures {
            refused: Default::default(),
            expired: AtomicU64::new(0),
            late_nanos: AtomicU64::new(0),
            commits: Histogram::new(COMMIT_BUCKETS),
            recent: Mutex::default(),
            failed_commits: AtomicU64::new(0),
            commit_begun: AtomicU64::new(0),
            syncs: OnceLock::new(),
            journal_bytes: AtomicU64::new(0),
            revisions: Mutex::new(RevisionTimes::new(revision)),
        }
    }

    /// Counts a request that was refused because a limit was reached. Other errors are no matter.
    pub(crate) fn count_refusal(&self, error: &Error) {
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

    pub(super) fn end_commit(&self, begun: Duration, ended: Duration, recorded: bool) {
        self.commit_begun.store(0, Ordering::Relaxed);
        let took = ended.saturating_sub(begun);
        self.commits.observe(took.as_secs_f64());
        lock(&self.recent).note(ended, took);
        if !recorded {
            self.failed_commits.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Shows from now on how long the syncs of this store take.
    pub(super) fn adopt_syncs(&self, syncs: &StoreSyncs) {
        self.syncs.get_or_init(|| syncs.clone());
    }

    /// Notes how much of the journal is taken up, if it is open.
    pub(super) fn note_journal(&self, bytes: Option<u64>) {
        if let Some(bytes) = bytes {
            self.journal_bytes.store(bytes, Ordering::Relaxed);
        }
    }

    /// Notes that the store is at this revision now.
    pub(super) fn note_revision(&self, revision: Revision, now: Duration) {
        lock(&self.revisions).note(revision, now);
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

    /// Returns the number of commits that could not be recorded.
    pub(crate) fn failed_commits(&self) -> u64 {
        self.failed_commits.load(Ordering::Relaxed)
    }

    /// Returns how long the slowest commit of the last ten minutes took, or the one under way if that
    /// is slower.
    fn slowest_commit(&self, now: Duration) -> Duration {
        let under_way = self.commit_age(now).unwrap_or_default();
        lock(&self.recent).slowest(now).max(under_way)
    }

    /// Returns how long the syncs of the store's files took.
    pub(crate) fn syncs(&self) -> &StoreSyncs {
        self.syncs.get_or_init(StoreSyncs::default)
    }

    /// Returns when the store got to its revisions.
    pub(crate) fn revisions(&self) -> RevisionTimes {
        lock(&self.revisions).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refusal_index(error: &Error) -> Option<usize> {
    Some(match error {
        Error::Overloaded => 0,
        Error::QuotaExceeded { .. } => 1,
        Error::NoSpace { .. } => 2,
        Error::TooManyLeases { .. } => 3,
        Error::TooManyWatches { .. } | Error::TooManyRangeWatches { .. } => 4,
        Error::TooManyKeys { .. } | Error::AnswerTooLarge { .. } => 5,
        Error::TooManyLeaseKeys { .. } => 6,
        Error::SnapshotUnderWay => 7,
        Error::QueueFull { .. } => 8,
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
        let (watches, watch_backlog_bytes) = {
            let hub = shared.hub();
            (hub.watch_count(), hub.backlog_bytes())
        };
        let state = shared.state();
        let recording = state.recording.as_ref();
        Gauges {
            leases: status.leases,
            keys: status.keys,
            content_bytes: status.db_size_in_use,
            store_bytes: status.db_size,
            journal_bytes: shared.figures().journal_bytes.load(Ordering::Relaxed),
            slowest_commit: shared.figures().slowest_commit(now),
            pending_requests: recording.map_or(0, |it| it.pending.requests()),
            refuses_writes: state.is_over() || recording.is_some_and(|it| it.full.is_some()),
            least_remaining: state.machine.least_remaining(now),
            watches,
            watch_backlog_bytes,
        }
    }

    /// Returns the present time by the shared clock, and the revision that the store has then.
    pub(crate) fn instant(&self) -> (Duration, Revision) {
        let shared = self.shared();
        let state = shared.state();
        (shared.clock().now(), state.machine.revision())
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

    /// Returns whether writes are refused because there is no room for them.
    pub(crate) fn is_full(&self) -> bool {
        let state = self.shared().state();
        let is_disk_full = state.recording.as_ref().is_some_and(|it| it.full.is_some());
        is_disk_full || state.machine.bytes() >= self.limits().store_bytes
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
        let figures = Figures::new(1);
        let seconds = Duration::from_secs;
        assert_eq!(figures.commit_age(seconds(5)), None);
        figures.begin_commit(Duration::ZERO);
        assert_eq!(figures.commit_age(seconds(5)), Some(seconds(5)));
        assert_eq!(figures.slowest_commit(seconds(5)), seconds(5));
        figures.end_commit(Duration::ZERO, seconds(6), true);
        assert_eq!(figures.commit_age(seconds(7)), None);
        assert_eq!(figures.slowest_commit(seconds(7)), seconds(6));
        assert_eq!(figures.failed_commits(), 0);
        figures.end_commit(seconds(7), seconds(8), false);
        assert_eq!(figures.failed_commits(), 1);
    }

    #[test]
    fn only_refusals_for_a_limit_are_counted() {
        let figures = Figures::new(1);
        figures.count_refusal(&Error::TooManyLeases { limit: 1 });
        figures.count_refusal(&Error::LeaseNotFound { id: 1 });
        let refused = figures.refused();
        let leases = REFUSALS.map(|reason| (reason, u64::from(reason == "leases")));
        assert_eq!(refused, leases);
    }
}

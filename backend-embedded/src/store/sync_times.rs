//! How long the syncs of the store's files took, apart from the rest of a commit.

use std::io;

#[cfg(feature = "server")]
use lock_core::clock::Stopwatch;
#[cfg(feature = "server")]
use prometheus_client::metrics::histogram::Histogram;

/// The bounds of the buckets of commits and syncs, in seconds: those of etcd.
#[cfg(feature = "server")]
pub(crate) const COMMIT_BUCKETS: [f64; 14] = [
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192,
];

/// How long the syncs of one file took. Clones are the same. Programs without a server do not pay
/// for it.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "server"), derive(Default))]
pub(crate) struct SyncTimes {
    #[cfg(feature = "server")]
    seconds: Histogram,
}

#[cfg(feature = "server")]
impl Default for SyncTimes {
    fn default() -> Self {
        SyncTimes {
            seconds: Histogram::new(COMMIT_BUCKETS),
        }
    }
}

impl SyncTimes {
    /// Carries out a sync, and counts it, whether it succeeds or not.
    pub(super) fn measure(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        #[cfg(feature = "server")]
        let watch = Stopwatch::start();
        let synced = sync();
        #[cfg(feature = "server")]
        self.seconds.observe(watch.elapsed().as_secs_f64());
        synced
    }

    #[cfg(feature = "server")]
    pub(crate) fn seconds(&self) -> &Histogram {
        &self.seconds
    }
}

/// How long the syncs took of each of the two files.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoreSyncs {
    pub(crate) journal: SyncTimes,
    /// The file of the tables.
    pub(crate) tables: SyncTimes,
}

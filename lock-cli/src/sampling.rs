//! Reads the queues of a coordinator again and again, for commands that follow what happens.

use std::time::{Duration, Instant};

use turnlock::{Locks, Options, clock};

use crate::changes::{Change, Snapshot};
use crate::coordinator;
use crate::exit::Failure;
use crate::listing::{self, LIMITS};

/// The shortest pause between two readings.
pub const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// The readings of one coordinator.
pub struct Sampler {
    url: Option<String>,
    prefix: String,
    interval: Duration,
    /// `None` while the user's own coordinator does not run.
    locks: Option<Locks>,
    snapshot: Snapshot,
}

/// One reading.
#[derive(Debug)]
pub struct Sample {
    /// What happened since the former reading. In the first one, all contenders have just begun.
    pub changes: Vec<Change>,
    /// How long the reading took.
    pub took: Duration,
    /// Whether these are all locks with the prefix.
    pub is_complete: bool,
}

impl Sampler {
    /// Returns the readings of the chosen coordinator, of the locks whose names begin with this.
    pub async fn connect(
        url: Option<&str>,
        prefix: String,
        interval: Duration,
    ) -> Result<Self, Failure> {
        Ok(Sampler {
            locks: coordinator::connect_existing(url, Options::default()).await?,
            url: url.map(str::to_owned),
            prefix,
            interval: interval.max(MIN_INTERVAL),
            snapshot: Snapshot::default(),
        })
    }

    /// Reads all queues once. A coordinator of the user's own that does not run has none.
    ///
    /// # Errors
    /// The reason why the coordinator did not reply. The next reading may succeed.
    pub async fn read(&mut self) -> Result<Sample, Failure> {
        if self.locks.is_none() {
            let url = self.url.as_deref();
            self.locks = coordinator::connect_existing(url, Options::default()).await?;
        }
        let started = Instant::now();
        let listed = match &self.locks {
            Some(locks) => listing::read_all(locks, &self.prefix, LIMITS).await,
            None => Ok(listing::Listing {
                is_complete: true,
                ..listing::Listing::default()
            }),
        };
        let listing = match listed {
            Ok(listing) => listing,
            Err(error) => {
                // Another process may serve the user's own locks by now, or none.
                self.locks = None;
                return Err(error.into());
            }
        };
        let took = started.elapsed();
        let is_complete = listing.is_complete;
        let now = clock::unix_millis();
        Ok(Sample {
            changes: self.snapshot.advance(listing.queues, is_complete, now),
            took,
            is_complete,
        })
    }

    /// Returns the contenders of the last reading.
    #[cfg(feature = "top")]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Returns the pause after a reading that took this long: a coordinator spends at most half of
    /// its time on us.
    pub fn pause(&self, took: Duration) -> Duration {
        self.interval.max(took)
    }
}

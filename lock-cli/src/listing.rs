//! Reads the queues of a whole namespace, page by page.

use std::time::{Duration, Instant};

use turnlock::{Error, LockName, Locks, Queue};

/// The number of locks in one request: its reply stays well below the message limit.
pub const PAGE_SIZE: usize = 500;

/// Bounds a reading, for a namespace that is larger than anybody thought.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most locks that are read.
    pub locks: usize,
    /// The time after which no further page is asked for.
    pub time: Duration,
}

/// The limits of commands that answer a question: a hundred requests.
pub const LIMITS: Limits = Limits {
    locks: 100 * PAGE_SIZE,
    time: Duration::from_secs(10),
};

/// The queues that were read. Those of different pages are not of one instant.
#[derive(Debug, Default)]
pub struct Listing {
    pub queues: Vec<Queue>,
    /// Whether these are all of them.
    pub is_complete: bool,
}

/// Reads the queues of the native locks whose names begin with this text.
pub async fn read_all(locks: &Locks, prefix: &str, limits: Limits) -> Result<Listing, Error> {
    let started = Instant::now();
    let mut listing = Listing::default();
    let mut after: Option<LockName> = None;
    loop {
        let page = locks.list(prefix, after.as_ref(), PAGE_SIZE).await?;
        let is_last = page.len() < PAGE_SIZE;
        after = page.last().map(|queue| queue.name.clone());
        listing.queues.extend(page);
        if is_last {
            listing.is_complete = true;
            return Ok(listing);
        }
        if listing.queues.len() >= limits.locks || started.elapsed() >= limits.time {
            return Ok(listing);
        }
    }
}

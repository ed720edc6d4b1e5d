//! Measures a coordinator: how long it takes to reply, and how much its locks are used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use turnlock::{Backend, Entry, Error, Locks, Options, Queue};

use crate::commands::queue::{held_since, queued_since};
use crate::listing::{self, Limits, PAGE_SIZE};

/// The requests that are measured, after the one that connects.
const PROBES: usize = 5;

/// Bounds the listing: a status is asked for again and again.
const LIMITS: Limits = Limits {
    locks: 20 * PAGE_SIZE,
    time: Duration::from_secs(3),
};

/// How long a coordinator takes to list one lock.
#[derive(Debug, Clone, Copy)]
pub struct RoundTrip {
    pub median: Duration,
    pub slowest: Duration,
}

/// Asks for a list of locks, to see whether the coordinator serves them and how fast.
pub async fn round_trip(backend: &dyn Backend) -> Result<RoundTrip, Error> {
    // This one may have to connect, and may be tried again.
    lock_core::retry::retry_briefly(|| backend.locks("", None, 1)).await?;
    let mut took = Vec::with_capacity(PROBES);
    for _ in 0..PROBES {
        let started = Instant::now();
        backend.locks("", None, 1).await?;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    Ok(RoundTrip {
        median: took[PROBES / 2],
        slowest: took[PROBES - 1],
    })
}

/// How much the locks of a namespace are used.
#[derive(Debug, Default)]
pub struct Load {
    pub held: usize,
    pub contended: usize,
    pub waiting: usize,
    /// The hold that lasts longest and the wait that lasts longest: since when, by the clocks of the
    /// contenders, and for which lock.
    pub longest_hold: Option<(u64, String)>,
    pub longest_wait: Option<(u64, String)>,
    /// Whether all locks were counted.
    pub is_complete: bool,
}

/// Counts the locks in use, and who waits.
pub async fn load(backend: Arc<dyn Backend>) -> Result<Load, Error> {
    let locks = Locks::new(backend, Options::default())?;
    let listing = listing::read_all(&locks, "", LIMITS).await?;
    let mut load = Load {
        is_complete: listing.is_complete,
        held: listing.queues.len(),
        ..Load::default()
    };
    for queue in &listing.queues {
        let (holders, waiters) = queue.entries.split_at(queue.holders());
        load.contended += usize::from(!waiters.is_empty());
        load.waiting += waiters.len();
        keep_longest(&mut load.longest_hold, queue, holders, held_since);
        keep_longest(&mut load.longest_wait, queue, waiters, queued_since);
    }
    Ok(load)
}

fn keep_longest(
    longest: &mut Option<(u64, String)>,
    queue: &Queue,
    entries: &[Entry],
    since: fn(&Entry) -> Option<u64>,
) {
    let Some(earliest) = entries.iter().filter_map(since).min() else {
        return;
    };
    if longest.as_ref().is_none_or(|(known, _)| earliest < *known) {
        *longest = Some((earliest, queue.name.as_str().to_owned()));
    }
}

impl Load {
    pub fn to_json(&self) -> Value {
        let shown = |longest: &Option<(u64, String)>| {
            let longest = longest.as_ref();
            longest.map(|(since, name)| json!({"name": name, "since_unix_ms": since}))
        };
        json!({
            "in_use": self.held,
            "contended": self.contended,
            "waiting": self.waiting,
            "longest_hold": shown(&self.longest_hold),
            "longest_wait": shown(&self.longest_wait),
            "complete": self.is_complete,
        })
    }
}

//! What a program chooses of a sticky lock, and what it can learn of it.

use std::time::Duration;

/// How a [`Mutex`](crate::Mutex) is kept between the holds of this process: see
/// [`Mutex::sticky`](crate::Mutex::sticky).
///
/// ```
/// use std::time::Duration;
/// use lock_core::Sticky;
///
/// // For a lock that one process takes again and again.
/// let kept = Sticky::default();
/// assert_eq!((kept.idle, kept.turns), (Duration::from_secs(1), 1));
/// // For a lock that many tasks of many processes want: up to 16 of them in a row.
/// let cohort = Sticky::default().with_idle(Duration::ZERO).with_turns(16);
/// # let _ = cohort;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sticky {
    /// How long the lock is kept while no task of this process uses it. Zero keeps it only while
    /// tasks of this process wait for it.
    pub idle: Duration,
    /// How many holds of this process may follow each other while others wait, the one during which
    /// this process notices them included. At least 1. Until this process knows whether others wait,
    /// and after a wait behind others, the same limit counts from the grant.
    pub turns: u32,
    /// How long others may have waited, or may have been waiting unnoticed, when another hold of this
    /// process begins. After a wait behind others this counts from the grant.
    pub overtime: Duration,
    /// How long the lock is not kept after somebody else wanted it while it was kept. Each further
    /// time soon after that doubles this, up to 5 minutes.
    pub cool_down: Duration,
}

impl Default for Sticky {
    /// Returns an idle time of 1 s, 1 turn, an overtime of 100 ms, and 30 s to cool down.
    fn default() -> Self {
        Sticky {
            idle: Duration::from_secs(1),
            turns: 1,
            overtime: Duration::from_millis(100),
            cool_down: Duration::from_secs(30),
        }
    }
}

impl Sticky {
    /// Sets how long the lock is kept while no task of this process uses it.
    #[must_use]
    pub fn with_idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Sets how many holds of this process may follow each other while others wait.
    #[must_use]
    pub fn with_turns(mut self, turns: u32) -> Self {
        self.turns = turns;
        self
    }

    /// Sets how long others may have waited when another hold of this process begins.
    #[must_use]
    pub fn with_overtime(mut self, overtime: Duration) -> Self {
        self.overtime = overtime;
        self
    }

    /// Sets how long the lock is not kept after somebody else wanted it.
    #[must_use]
    pub fn with_cool_down(mut self, cool_down: Duration) -> Self {
        self.cool_down = cool_down;
        self
    }
}

/// What became of the acquires of one lock through [`Mutex::sticky`](crate::Mutex::sticky), over all
/// tasks of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StickyStats {
    /// Acquires that took a place in the lock's queue.
    pub placed: u64,
    /// Acquires that took the lock again without a place of their own.
    pub hits: u64,
    /// How many times this process has noticed that somebody else wants a lock that it keeps.
    pub recalls: u64,
}

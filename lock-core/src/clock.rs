//! The clocks, and what follows from their differences.
//!
//! A deadline must hold while the machine sleeps: the server's lease runs on although our processor
//! stands still. [`std::time::Instant`] does not count suspend on Linux, so deadlines are kept on
//! CLOCK_BOOTTIME, which does. Neither clock is touched when somebody sets the wall clock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use crate::surroundings::Surroundings;

/// The part of a time to live that a deadline leaves out: the greatest difference in rate between
/// our clock and the server's that the deadlines allow for (1 in 100). NTP slews a clock by at most
/// 1 in 2,000; virtual machines do worse.
pub const DRIFT: f64 = 0.01;

/// The time that a deadline leaves out for acting on an answer: between asking "is the lock still
/// mine?" and the write that rests on it.
pub const MARGIN: Duration = Duration::from_millis(100);

/// Returns how long a renewal proves that a session of this time to live is alive: `ttl` less
/// [`DRIFT`] and [`MARGIN`]. It counts from when the renewal was SENT, never from its answer.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use lock_core::clock;
///
/// assert_eq!(clock::validity(Duration::from_secs(10)), Duration::from_millis(9_800));
/// ```
pub fn validity(ttl: Duration) -> Duration {
    ttl.mul_f64(1.0 - DRIFT).saturating_sub(MARGIN)
}

/// An instant on a clock that goes on while the machine is suspended. Instants can be compared only
/// within one boot of one machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootInstant(u64);

impl BootInstant {
    /// Returns the time from `earlier` to `self`; zero if `earlier` is the later one.
    pub fn saturating_since(self, earlier: BootInstant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns the instant so many nanoseconds after boot, the inverse of
    /// [`as_nanos`](BootInstant::as_nanos).
    pub fn from_nanos(nanos: u64) -> Self {
        BootInstant(nanos)
    }

    /// Returns the nanoseconds since boot, which another process on this machine can use.
    pub fn as_nanos(self) -> u64 {
        self.0
    }
}

impl std::ops::Add<Duration> for BootInstant {
    type Output = BootInstant;

    fn add(self, rhs: Duration) -> BootInstant {
        let nanos = u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX);
        BootInstant(self.0.saturating_add(nanos))
    }
}

impl fmt::Debug for BootInstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot+{:?}", Duration::from_nanos(self.0))
    }
}

/// A source of [`BootInstant`]s: the system's, or one that a test sets by hand.
#[derive(Debug, Clone, Default)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System(Surroundings),
    Manual(Arc<AtomicU64>),
}

impl Default for Source {
    fn default() -> Self {
        Source::System(Surroundings::current())
    }
}

impl Clock {
    /// Returns the machine's clock: CLOCK_BOOTTIME on Linux, and CLOCK_MONOTONIC elsewhere (which
    /// goes on during suspend on macOS).
    pub fn system() -> Self {
        Clock::default()
    }

    /// Returns a clock that stands still until [`Clock::advance`] is called on it or on a clone of
    /// it.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use lock_core::clock::Clock;
    ///
    /// let clock = Clock::manual();
    /// let start = clock.now();
    /// clock.advance(Duration::from_secs(3));
    /// assert_eq!(clock.now().saturating_since(start), Duration::from_secs(3));
    /// ```
    pub fn manual() -> Self {
        // Not zero: zero is what a deadline that was never set looks like.
        Clock(Source::Manual(Arc::new(AtomicU64::new(1_000_000_000))))
    }

    /// Returns the present instant.
    pub fn now(&self) -> BootInstant {
        match &self.0 {
            Source::System(machine) => BootInstant(machine.boot_nanos()),
            Source::Manual(nanos) => BootInstant(nanos.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock forward. Does nothing to the system's clock.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(nanos) = &self.0 {
            let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
            nanos.fetch_add(by, Ordering::SeqCst);
        }
    }
}

/// A stopwatch that stands still while the machine is suspended, unlike [`Clock`].
#[derive(Debug, Clone)]
pub struct Stopwatch {
    surroundings: Surroundings,
    start: Duration,
}

impl Stopwatch {
    /// Starts a stopwatch.
    ///
    /// # Examples
    /// ```
    /// use lock_core::clock::Stopwatch;
    ///
    /// let watch = Stopwatch::start();
    /// let before = watch.elapsed();
    /// assert!(watch.elapsed() >= before);
    /// ```
    pub fn start() -> Self {
        let surroundings = Surroundings::current();
        Stopwatch {
            start: surroundings.running_time(),
            surroundings,
        }
    }

    /// Returns for how long the machine has run since the start.
    pub fn elapsed(&self) -> Duration {
        self.surroundings.running_time().saturating_sub(self.start)
    }
}

/// Returns the milliseconds since the Unix epoch on the wall clock. They are for people and for
/// metadata; nothing is decided by them.
pub fn unix_millis() -> u64 {
    let now = Surroundings::current().wall_clock();
    now.duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_keeps_back_drift_and_margin() {
        assert_eq!(
            validity(Duration::from_secs(10)),
            Duration::from_millis(9_800)
        );
        assert_eq!(validity(Duration::from_millis(50)), Duration::ZERO);
    }

    #[test]
    fn the_system_clock_runs() {
        let clock = Clock::system();
        let before = clock.now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(clock.now().saturating_since(before) >= Duration::from_millis(2));
        assert_eq!(before.saturating_since(clock.now()), Duration::ZERO);
    }

    #[test]
    fn a_manual_clock_moves_only_when_it_is_advanced() {
        let clock = Clock::manual();
        let start = clock.now();
        assert_eq!(clock.now(), start);
        clock.clone().advance(Duration::from_secs(3));
        assert_eq!(clock.now(), start + Duration::from_secs(3));
    }
}

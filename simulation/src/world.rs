//! The world of one run: its time, its chance and its trace.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use lock_core::clock::BootInstant;
use testkit::history::journal::CommonClock;
use tokio::time::Instant;

/// The instant at which every world begins. Zero would look like a deadline that was never set.
const START_NANOS: u64 = 1_000_000_000;

/// A world. Clones are the same one.
#[derive(Clone)]
pub struct World(Arc<Inner>);

struct Inner {
    start: Instant,
    rng: Mutex<Rng>,
    trace: Mutex<Trace>,
}

/// A hash over all that happens, in its order and with its time. Two runs with the same hash are taken
/// for the same run.
#[derive(Default)]
struct Trace {
    hash: u64,
    events: u64,
    /// Whether each event is printed.
    is_printed: bool,
}

impl World {
    /// Begins a world. Must be called within its runtime.
    pub fn new(seed: u64, is_printed: bool) -> Self {
        let trace = Trace {
            is_printed,
            ..Trace::default()
        };
        World(Arc::new(Inner {
            start: Instant::now(),
            rng: Mutex::new(Rng::with_seed(seed)),
            trace: Mutex::new(trace),
        }))
    }

    /// Returns the time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.0.start.elapsed()
    }

    /// Draws something at random.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut lock(&self.0.rng))
    }

    /// Adds an event to the trace: its kind, and two numbers that identify it.
    pub fn trace(&self, kind: &str, first: u64, second: u64) {
        let at = self.elapsed();
        let mut trace = lock(&self.0.trace);
        if trace.is_printed {
            eprintln!("{:>12.6} {kind} {first} {second}", at.as_secs_f64());
        }
        let kind = crc32fast::hash(kind.as_bytes());
        for word in [to_nanos(at), u64::from(kind), first, second] {
            let mixed = (trace.hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            trace.hash = mixed.rotate_left(29);
        }
        trace.events += 1;
    }

    /// Returns the hash of the trace, and the number of its events.
    pub fn trace_hash(&self) -> (u64, u64) {
        let trace = lock(&self.0.trace);
        (trace.hash, trace.events)
    }
}

/// Locks a mutex, also after a panic: a run that panicked has failed anyway.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn to_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

/// The world's own clock, by which all records of a run go.
impl CommonClock for World {
    fn now(&self) -> BootInstant {
        BootInstant::from_nanos(START_NANOS + to_nanos(self.elapsed()))
    }

    fn to_common(&self, own: BootInstant) -> BootInstant {
        own
    }
}

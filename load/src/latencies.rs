//! The latencies of the operations, in histograms of a fixed size that the workers share.
//!
//! A histogram for each worker would grow while it is measured: with thousands of workers, most of
//! the time would go into that.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// The number of histograms, so that workers rarely wait for each other.
const PARTS: usize = 16;

/// The longest latency that is recorded. Longer ones count as this one.
const MAX: Duration = Duration::from_secs(60);

/// Counts of latencies in nanoseconds, exact to three digits.
#[derive(Debug)]
pub(crate) struct Latencies {
    parts: [Mutex<Histogram<u32>>; PARTS],
}

impl Latencies {
    /// Allocates everything that is needed while the latencies are recorded.
    pub(crate) fn new() -> Self {
        Latencies {
            parts: std::array::from_fn(|_| Mutex::new(histogram())),
        }
    }

    /// Records how long an operation of this worker took.
    pub(crate) fn record(&self, worker: usize, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let part = &self.parts[worker % PARTS];
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        part.saturating_record(nanos);
    }

    /// Returns all that is recorded.
    pub(crate) fn sum(&self) -> Histogram<u32> {
        let mut sum = histogram();
        for part in &self.parts {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            sum.add(&*part).expect("all have the same bounds");
        }
        sum
    }
}

fn histogram() -> Histogram<u32> {
    let max = u64::try_from(MAX.as_nanos()).expect("a minute");
    Histogram::new_with_bounds(1, max, 3).expect("valid bounds and precision")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_workers_are_summed_and_the_longest_time_counts_as_the_limit() {
        let latencies = Latencies::new();
        for worker in 0..100 {
            latencies.record(worker, Duration::from_micros(7));
        }
        latencies.record(0, Duration::from_secs(3600));
        let sum = latencies.sum();
        assert_eq!(sum.len(), 101);
        assert!(sum.equivalent(sum.value_at_quantile(0.5), 7_000));
        assert!(sum.equivalent(sum.max(), 60_000_000_000));
    }
}

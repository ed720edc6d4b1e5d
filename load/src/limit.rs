//! Capacity: how many workers a coordinator takes before it makes them wait for too long.

use std::time::Duration;

use turnlock::Error;

use crate::generator::{Plan, measure};
use crate::measurement::Measurement;
use crate::target::Target;
use crate::workload::Workload;

/// More than this are not tried.
const MOST_WORKERS: usize = 4096;

/// Where the latency breaks its bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Knee {
    /// The most workers that were within the bound; `None` if not even one was.
    pub within: Option<Measurement>,
    /// The fewest that were not; `None` if 4,096 were still within it.
    pub beyond: Option<Measurement>,
}

/// Raises the load until one operation in a hundred takes longer than `bound`: doubles the workers,
/// and then halves the distance until it is known to an eighth. `told` is told of every measurement.
///
/// # Errors
/// As [`measure`].
pub async fn find_limit(
    target: &Target,
    workload: Workload,
    length: Duration,
    bound: Duration,
    mut told: impl FnMut(&Measurement),
) -> Result<Knee, Error> {
    let bound_us = bound.as_secs_f64() * 1e6;
    let mut knee = Knee {
        within: None,
        beyond: None,
    };
    while let Some(workers) = next(&knee) {
        let plan = Plan {
            workload,
            workers,
            length,
        };
        let line = measure(target, plan).await?;
        told(&line);
        // What did not even end once took the whole time.
        match line.ops > 0 && line.p99_us <= bound_us {
            true => knee.within = Some(line),
            false => knee.beyond = Some(line),
        }
    }
    Ok(knee)
}

/// With how many workers to go on, if it is not known well enough yet.
fn next(knee: &Knee) -> Option<usize> {
    let within = knee.within.as_ref().map_or(0, |line| line.workers);
    match &knee.beyond {
        None if within >= MOST_WORKERS => None,
        None => Some((2 * within).clamp(1, MOST_WORKERS)),
        Some(beyond) => {
            let distance = beyond.workers - within;
            (distance > 1 && distance * 8 > within).then_some(within + distance / 2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(workers: usize) -> Option<Measurement> {
        (workers > 0).then(|| Measurement {
            target: "p".into(),
            workload: Workload::Uncontended,
            workers,
            ops: 1,
            seconds: 1.0,
            ops_per_s: 1.0,
            p50_us: 1.0,
            p99_us: 1.0,
        })
    }

    /// What is tried when `limit` workers are within the bound.
    fn tried(limit: usize) -> Vec<usize> {
        let mut knee = Knee {
            within: None,
            beyond: None,
        };
        let mut tried = vec![];
        while let Some(workers) = next(&knee) {
            tried.push(workers);
            match workers <= limit {
                true => knee.within = line(workers),
                false => knee.beyond = line(workers),
            }
        }
        tried
    }

    #[test]
    fn the_knee_is_closed_in_on() {
        assert_eq!(tried(0), [1]);
        assert_eq!(tried(1), [1, 2]);
        assert_eq!(tried(5), [1, 2, 4, 8, 6, 5]);
        assert_eq!(tried(100), [1, 2, 4, 8, 16, 32, 64, 128, 96, 112, 104]);
        assert_eq!(tried(usize::MAX).last(), Some(&MOST_WORKERS));
    }
}

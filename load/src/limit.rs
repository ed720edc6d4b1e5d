//! The capacity of a coordinator: the number of workers at which they wait for too long.

use std::time::{Duration, Instant};

use turnlock::Error;

use crate::bottleneck::{Bottleneck, Usage};
use crate::generator::{MAX_WORKERS, Plan, measure};
use crate::measurement::Measurement;
use crate::target::Target;
use crate::workload::Workload;

/// The load at which the latency exceeds its bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Knee {
    /// The measurement with the most workers within the bound, or `None` if a single worker exceeds
    /// it.
    pub within: Option<Measurement>,
    /// The measurement with the fewest workers beyond the bound, or `None` if [`MAX_WORKERS`] are
    /// still within it.
    pub beyond: Option<Measurement>,
    /// What ended first under the highest load, or `None` if that is still within the bound.
    pub bottleneck: Option<Bottleneck>,
}

/// Raises the load until one operation in a hundred takes longer than `bound`. Doubles the workers
/// until that happens, and then halves the distance until the limit is known to an eighth.
///
/// `after` is called with each measurement.
///
/// # Errors
/// As [`measure`].
///
/// # Cancel safety
/// As [`measure`]; the measurements so far are lost.
pub async fn find_limit(
    target: &Target,
    workload: Workload,
    length: Duration,
    bound: Duration,
    mut after: impl FnMut(&Measurement),
) -> Result<Knee, Error> {
    let bound_us = bound.as_secs_f64() * 1e6;
    let mut knee = Knee {
        within: None,
        beyond: None,
        bottleneck: None,
    };
    while let Some(workers) = next(&knee) {
        let plan = Plan {
            workload,
            workers,
            length,
        };
        let (usage, begun) = (Usage::read(), Instant::now());
        let line = measure(target, plan).await?;
        after(&line);
        // What did not even end once took the whole time.
        match line.ops > 0 && line.p99_us <= bound_us {
            true => knee.within = Some(line),
            false => {
                // The first load beyond the bound is the highest of all.
                knee.bottleneck
                    .get_or_insert_with(|| usage.find_bottleneck(workload, begun.elapsed()));
                knee.beyond = Some(line);
            }
        }
    }
    Ok(knee)
}

/// Returns the next number of workers to try, or `None` if the limit is known well enough.
fn next(knee: &Knee) -> Option<usize> {
    let within = knee.within.as_ref().map_or(0, |line| line.workers);
    match &knee.beyond {
        None if within >= MAX_WORKERS => None,
        None => Some((2 * within).clamp(1, MAX_WORKERS)),
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

    /// Returns the numbers that are tried if `limit` workers are within the bound.
    fn tried(limit: usize) -> Vec<usize> {
        let mut knee = Knee {
            within: None,
            beyond: None,
            bottleneck: None,
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
        assert_eq!(tried(usize::MAX).last(), Some(&MAX_WORKERS));
    }
}

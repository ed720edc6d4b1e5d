//! A survey: the whole set of workloads, in rounds.

use std::time::Duration;

use turnlock::Error;

use crate::generator::{Plan, measure};
use crate::measurement::Measurement;
use crate::report::Report;
use crate::target::Target;
use crate::workload::Workload;

/// Lists the whole set: each workload with its number of workers, the baselines first.
pub const RUNS: [(Workload, usize); 13] = [
    (Workload::Raw, 1),
    (Workload::Raw, 4),
    (Workload::Raw, 16),
    (Workload::Raw, 64),
    (Workload::Uncontended, 1),
    (Workload::Uncontended, 4),
    (Workload::Uncontended, 16),
    (Workload::Uncontended, 64),
    (Workload::Contended, 16),
    (Workload::Drain, 500),
    (Workload::Readers, 16),
    (Workload::Churn, 16),
    (Workload::Churn, 64),
];

/// Measures the whole set on each of these targets, in rounds. Each round goes through everything,
/// so that a machine that is busy for a while does not spoil a single workload.
///
/// `before` is called with the round, the target and the plan of each measurement, and `after` with
/// its result.
///
/// # Errors
/// As [`measure`].
///
/// # Cancel safety
/// As [`measure`]; the measurements so far are lost.
pub async fn survey(
    targets: &[&Target],
    rounds: usize,
    length: Duration,
    mut before: impl FnMut(usize, &Target, Plan),
    mut after: impl FnMut(&Measurement),
) -> Result<Report, Error> {
    let mut report = Report::default();
    for round in 1..=rounds {
        for target in targets {
            let runs = RUNS.into_iter();
            for (workload, workers) in
                runs.filter(|run| target.has_baseline() || run.0 != Workload::Raw)
            {
                let plan = Plan {
                    workload,
                    workers,
                    length,
                };
                before(round, target, plan);
                let line = measure(target, plan).await?;
                after(&line);
                report.add(line);
            }
        }
    }
    Ok(report)
}

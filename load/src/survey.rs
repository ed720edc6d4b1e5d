//! The whole set of workloads, in rounds.

use std::time::Duration;

use turnlock::Error;

use crate::generator::{Plan, measure};
use crate::measurement::Measurement;
use crate::report::Report;
use crate::target::Target;
use crate::workload::Workload;

/// The whole set: each workload with its workers. The baselines come first.
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

/// Measures the whole set on each of these targets. Rounds go through everything in turn, because a
/// machine that is busy for a while must not spoil one workload only. `before` is told what is
/// about to be measured and `after` what was.
///
/// # Errors
/// As [`measure`].
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

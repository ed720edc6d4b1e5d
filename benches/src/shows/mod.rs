//! Checks the promises about costs in a way that anybody can repeat. Ratios are medians over rounds
//! in which both sides were measured one after the other.

mod baseline;
mod handoff;
mod idle;
mod speed;

use std::process::ExitCode;
use std::time::Duration;

use benches::servers::Server;
use clap::ValueEnum;
use load::{Measurement, Plan, Workload, measure};

/// A promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Show {
    /// Locks on etcd and ZooKeeper against their bare requests
    Baseline,
    /// The embedded coordinator against etcd on the same disk, and what a lock in memory costs
    Speed,
    /// A turn with 1,000 waiters against one with 10, on every backend
    Handoff,
    /// The memory of 100,000 held locks, and the processor time that they take (three minutes)
    Idle,
}

/// A figure and its limit.
struct Finding {
    what: String,
    measured: f64,
    unit: &'static str,
    bound: Bound,
}

enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// Checks these promises, or all if there are none, and prints the results.
pub fn check(chosen: &[Show]) -> ExitCode {
    let all = Show::value_variants();
    let mut kept = true;
    for show in if chosen.is_empty() { all } else { chosen } {
        let findings = match show {
            Show::Baseline => baseline::findings(),
            Show::Speed => speed::findings(),
            Show::Handoff => handoff::findings(),
            Show::Idle => idle::findings(),
        };
        for finding in findings {
            kept &= finding.holds();
            println!("{finding}");
        }
    }
    match kept {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

impl Finding {
    fn holds(&self) -> bool {
        match self.bound {
            Bound::AtLeast(bound) => self.measured >= bound,
            Bound::AtMost(bound) => self.measured <= bound,
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (relation, bound) = match self.bound {
            Bound::AtLeast(bound) => ("at least", bound),
            Bound::AtMost(bound) => ("at most", bound),
        };
        let verdict = if self.holds() { "kept  " } else { "MISSED" };
        let Finding {
            what,
            measured,
            unit,
            ..
        } = self;
        write!(
            f,
            "{verdict} {what}: {measured:.2}{unit}, {relation} {bound}{unit}"
        )
    }
}

/// Makes one measurement.
fn take(
    runtime: &tokio::runtime::Runtime,
    server: &Server,
    workload: Workload,
    workers: usize,
    length: Duration,
) -> Measurement {
    let plan = Plan {
        workload,
        workers,
        length,
    };
    let line = runtime.block_on(measure(server.target(), plan));
    let line = line.expect("a server of our own serves");
    eprintln!("{line}");
    line
}

/// Returns the median.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

//! Measures the cost of a turn when many wait: a release wakes one of them, whatever their number.

use std::time::Duration;

use benches::servers::{self, Server};
use load::{Workload, runtime};

use super::{Bound, Finding, median, take};

const ROUNDS: usize = 3;
const LENGTH: Duration = Duration::from_secs(1);
const FEW: usize = 10;
const MANY: usize = 1000;
const PROMISED: f64 = 2.0;

pub(super) fn findings() -> Vec<Finding> {
    let runtime = runtime().expect("the operating system gives threads");
    let finding = |name| {
        let server = Server::start(name);
        let contended =
            |workers| take(&runtime, &server, Workload::Contended, workers, LENGTH).ops_per_s;
        let ratios = (0..ROUNDS).map(|_| contended(FEW) / contended(MANY));
        Finding {
            what: format!("{name}: a turn among {MANY}"),
            measured: median(ratios.collect()),
            unit: " times a turn among 10",
            bound: Bound::AtMost(PROMISED),
        }
    };
    servers::names().into_iter().map(finding).collect()
}

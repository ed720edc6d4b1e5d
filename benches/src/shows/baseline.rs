//! Compares a lock on etcd or ZooKeeper with the bare requests that the lock needs.

use std::time::Duration;

use benches::servers::{self, Server};
use load::{Workload, runtime};

use super::{Bound, Finding, median, take};

const ROUNDS: usize = 5;
const LENGTH: Duration = Duration::from_secs(1);
/// The promises: target, workload, workers, and the promised share of its baseline's rate.
const PROMISED: [(&str, Workload, usize, f64); 8] = [
    ("etcd", Workload::Uncontended, 1, 0.95),
    ("etcd", Workload::Uncontended, 64, 0.9),
    ("etcd", Workload::Contended, 16, 1.0),
    ("etcd", Workload::Drain, 500, 0.8),
    ("zookeeper", Workload::Uncontended, 1, 0.95),
    ("zookeeper", Workload::Uncontended, 64, 0.9),
    ("zookeeper", Workload::Contended, 16, 0.85),
    ("zookeeper", Workload::Drain, 500, 0.8),
];

pub(super) fn findings() -> Vec<Finding> {
    let promised_of = |target| {
        PROMISED
            .into_iter()
            .filter(move |promised| promised.0 == target)
    };
    let names = servers::names().into_iter();
    let targets = names.filter(|name| promised_of(*name).next().is_some());
    let runtime = runtime().expect("the operating system gives threads");
    let findings_of = |target| {
        let server = Server::start(target);
        let mut findings = vec![];
        for (_, workload, workers, bound) in promised_of(target) {
            let rate =
                |workload, workers| take(&runtime, &server, workload, workers, LENGTH).ops_per_s;
            let baseline = || rate(Workload::Raw, workload.baseline(workers));
            let ratios = (0..ROUNDS).map(|_| rate(workload, workers) / baseline());
            findings.push(Finding {
                what: format!("{target}: {workload} with {workers}"),
                measured: median(ratios.collect()),
                unit: " of the bare requests' rate",
                bound: Bound::AtLeast(bound),
            });
        }
        findings
    };
    targets.flat_map(findings_of).collect()
}

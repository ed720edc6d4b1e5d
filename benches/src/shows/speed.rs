//! Compares the embedded coordinator, which replies after an fsync like etcd, with etcd.

use std::time::Duration;

use benches::servers::Server;
use load::{Workload, runtime};

use super::{Bound, Finding, median, take};

const ROUNDS: usize = 5;
const LENGTH: Duration = Duration::from_millis(700);
/// The promises: target, workers, and the promised multiple of etcd's rate.
const PROMISED: [(&str, usize, f64); 4] = [
    ("durable", 1, 2.5),
    ("durable", 64, 8.0),
    ("served", 1, 1.5),
    ("served", 64, 3.0),
];
/// The promised time of an acquire and a release in memory.
const IN_MEMORY_US: f64 = 5.0;

pub(super) fn findings() -> Vec<Finding> {
    let runtime = runtime().expect("the operating system gives threads");
    let [memory, etcd] = ["memory", "etcd"].map(Server::start);
    let ours = ["durable", "served"].map(|name| (name, Server::start(name)));
    let mut ratios = PROMISED.map(|_| vec![]);
    let mut turns_us = vec![];
    for _ in 0..ROUNDS {
        let uncontended = |server, workers| {
            take(&runtime, server, Workload::Uncontended, workers, LENGTH).ops_per_s
        };
        turns_us.push(1e6 / uncontended(&memory, 1));
        for workers in [1, 64] {
            let baseline = uncontended(&etcd, workers);
            for (name, server) in &ours {
                let ratio = uncontended(server, workers) / baseline;
                let promised = PROMISED.iter().position(|p| (p.0, p.1) == (*name, workers));
                ratios[promised.expect("all are promised")].push(ratio);
            }
        }
    }
    let mut findings = vec![Finding {
        what: "memory: an acquire and release".into(),
        measured: median(turns_us),
        unit: " µs",
        bound: Bound::AtMost(IN_MEMORY_US),
    }];
    for ((name, workers, bound), ratios) in PROMISED.into_iter().zip(ratios) {
        findings.push(Finding {
            what: format!("{name}: uncontended with {workers}"),
            measured: median(ratios),
            unit: " times etcd",
            bound: Bound::AtLeast(bound),
        });
    }
    findings
}

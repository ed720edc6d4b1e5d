//! Measures every peer that was compiled in, on a real server that it starts itself, and compares
//! each workload with the bare requests of the same run.
//!
//! ```sh
//! cargo run --release -p benches --features etcd,zk -- --rounds 5 --seconds 2
//! ```
//!
//! On standard output: one line of JSON a measurement. On standard error: the medians, and their
//! ratios to the raw pairs of the same round. Rounds go through all workloads in turn, because a
//! machine that is busy for a while must not spoil one workload only.

mod load;
mod peer;
mod report;
mod workload;

#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "zk")]
mod zk;

use std::time::Duration;

use clap::Parser;

use crate::peer::Peer;
use crate::report::Report;
use crate::workload::Workload;

#[derive(Debug, Parser)]
#[command(about = "Measure Turnlock's locks beside the bare requests of their stores")]
struct Arguments {
    /// How often each workload is measured; the medians are reported
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each measurement takes, in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// What is measured: the workload and its workers. The first is the floor of the others.
const RUNS: [(Workload, usize); 3] = [
    (Workload::Raw, 1),
    (Workload::Uncontended, 1),
    (Workload::Contended, 16),
];

fn main() {
    let arguments = Arguments::parse();
    let length = Duration::from_secs_f64(arguments.seconds);
    let peers = peers();
    if peers.is_empty() {
        eprintln!("no peer was compiled in: give --features etcd, zk, or both");
        std::process::exit(64);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the operating system gives threads");
    for peer in peers {
        let mut report = Report::new(peer.name());
        for round in 1..=arguments.rounds {
            eprintln!("{}: round {round} of {}", peer.name(), arguments.rounds);
            for (workload, workers) in RUNS {
                let figures = runtime.block_on(load::measure(&*peer, workload, workers, length));
                report.add(workload, workers, &figures);
            }
            for other in peer.others(length) {
                report.add_other(&other);
            }
        }
        report.conclude();
    }
}

fn peers() -> Vec<Box<dyn Peer>> {
    vec![
        #[cfg(feature = "etcd")]
        Box::new(etcd::Etcd::start()),
        #[cfg(feature = "zk")]
        Box::new(zk::ZooKeeper::start()),
    ]
}

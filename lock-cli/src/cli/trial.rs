//! The arguments of what tries whether locks are kept.

use std::time::Duration;

use clap::Args;

use super::time::seconds;

const CONFORMANCE_HELP: &str = "\
Examples:
  turnlock conformance                                          your own coordinator on this machine
  turnlock --backend etcd://etcd-1:2379 conformance
  turnlock --backend zk://zk-1:2181 conformance --filter order
  turnlock conformance --list

Every case runs in a namespace of its own below that of the URL, and nothing is left of it. What would
need the servers stopped, or others' sessions ended, is skipped. The status is 1 if a case fails.
";

const CHAOS_HELP: &str = "\
Examples:
  turnlock chaos --backend etcd --nodes 3 --seconds 900 --seed 42
  turnlock chaos --backend zk --json >report.json
  turnlock chaos                                   the embedded coordinator, for a minute

It starts servers of its own, on free ports of this machine, and stops them. etcd and ZooKeeper must be
installed: apt-get install etcd-server, apt-get install zookeeper. The status is 70 if a rule is broken and
it is Turnlock that breaks it; what the servers break is reported, and no failure.
";

#[derive(Debug, Args)]
#[command(after_help = CONFORMANCE_HELP)]
pub struct Conformance {
    /// Show the cases and run none
    #[arg(long)]
    pub list: bool,
    /// Only cases whose names contain this
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = CHAOS_HELP)]
pub struct Chaos {
    /// How many servers: 1 or 3 [default: 3; of the embedded coordinator, 1]
    #[arg(long, value_name = "N")]
    pub nodes: Option<usize>,
    /// How long faults are made
    #[arg(long, value_name = "SECS", value_parser = seconds, default_value = "60")]
    pub seconds: Duration,
    /// What the faults and the contenders' doings are drawn from [default: another one each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

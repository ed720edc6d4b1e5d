//! The arguments of `turnlock conformance`.

use clap::Args;

const CONFORMANCE_HELP: &str = "\
Examples:
  turnlock conformance                                          your own coordinator on this machine
  turnlock --backend etcd://etcd-1:2379 conformance
  turnlock --backend zk://zk-1:2181 conformance --filter order
  turnlock conformance --list

Every case runs in a namespace of its own below that of the URL, and nothing is left of it. What would
need the servers stopped, or others' sessions ended, is skipped. The status is 1 if a case fails.
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

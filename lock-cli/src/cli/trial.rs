//! The arguments of `turnlock conformance`.

use clap::Args;

const CONFORMANCE_HELP: &str = "\
Examples:
  turnlock conformance             your own coordinator on this machine
  turnlock --backend etcd://etcd-1:2379 conformance
  turnlock --backend zk://zk-1:2181 conformance --filter order
  turnlock conformance --list

Every case runs in a namespace of its own below that of the URL, and nothing of
it is left. Cases that would have to stop the servers, or to end the sessions of
others, are skipped. The status is 1 if a case fails.
";

#[derive(Debug, Args)]
#[command(after_help = CONFORMANCE_HELP)]
pub struct Conformance {
    /// List the cases without running them
    #[arg(long)]
    pub list: bool,
    /// Run only the cases whose names contain this
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
}

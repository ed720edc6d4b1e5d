//! The commands of those who look after locks and coordinators.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use benches::Workload;
#[cfg(feature = "embedded")]
use clap::ArgAction;
use clap::Args;
use turnlock::Token;

use super::help::{BENCH_HELP, BENCH_USAGE, CONFORMANCE_HELP};
use super::time::{milliseconds, positive_seconds, seconds};

#[derive(Debug, Args)]
pub struct Ls {
    /// Only locks whose names begin with this, or of files in this folder
    #[arg(default_value = "", hide_default_value = true)]
    pub prefix: OsString,
}

#[derive(Debug, Args)]
pub struct Queue {
    /// Use NAME verbatim as the etcd prefix or ZooKeeper path
    #[arg(long)]
    pub raw: bool,
    /// The lock, or the path of a file
    pub name: OsString,
}

#[derive(Debug, Args)]
pub struct Evict {
    /// Only the entry with this token, whether it holds or waits
    #[arg(long, value_name = "N")]
    pub token: Option<Token>,
    /// Use NAME verbatim as the etcd prefix or ZooKeeper path
    #[arg(long)]
    pub raw: bool,
    /// The lock, or the path of a file
    pub name: OsString,
}

#[derive(Debug, Args)]
pub struct Floor {
    /// Have every token from now on exceed N, which another coordinator printed. Lowers nothing
    #[arg(long, value_name = "N")]
    pub raise_to: Option<u64>,
}

#[derive(Debug, Args)]
#[command(override_usage = BENCH_USAGE, after_help = BENCH_HELP)]
pub struct Bench {
    /// What the workers do: raw, uncontended, contended, drain, readers or churn
    #[arg(long, value_name = "NAME", required_unless_present = "report")]
    pub workload: Option<Workload>,
    /// How many workers at once, each with a session of its own
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub workers: u16,
    /// How long each measurement takes
    #[arg(long, value_name = "SECS", value_parser = positive_seconds, default_value = "2")]
    pub seconds: Duration,
    /// Raise the number of workers until one operation in a hundred takes longer than this many
    /// milliseconds [default: 100]
    #[arg(
        long,
        value_name = "MS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "100",
        value_parser = milliseconds,
        conflicts_with_all = ["workers", "report"]
    )]
    pub find_limit: Option<Duration>,
    /// Measure the whole set in rounds, beside the bare requests, and write report.md, report.json
    /// and report.svg into this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["workload", "workers"])]
    pub report: Option<PathBuf>,
    /// How many rounds a report is the median of
    #[arg(long, value_name = "N", default_value_t = 5, requires = "report", value_parser = clap::value_parser!(u16).range(1..=99))]
    pub rounds: u16,
}

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

#[cfg(feature = "embedded")]
#[derive(Debug, Args)]
pub struct Serve {
    /// The folder to keep the data in [default: $TURNLOCK_HOME, or turnlock in the XDG state
    /// folder]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where to listen: HOST:PORT on loopback, or unix:PATH [default: unix:DIR/turnlock.sock]
    #[arg(long, value_name = "ADDR", action = ArgAction::Append)]
    pub listen: Vec<String>,
    /// End after this many seconds without a session
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub idle: Option<Duration>,
    /// Leave the caller's terminal
    #[arg(long, hide = true)]
    pub background: bool,
}

#[derive(Debug, Args)]
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

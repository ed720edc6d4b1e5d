//! The arguments of `turnlock bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use load::Workload;

use super::time::parse_seconds;

const BENCH_USAGE: &str = "turnlock bench [OPTIONS] --workload NAME
       turnlock bench [OPTIONS] --workload NAME --find-limit[=MS]
       turnlock bench [OPTIONS] --report DIR";

const BENCH_HELP: &str = "\
Workloads:
  raw          create and delete an entry without a lock: the cost that no lock
               can do without
  uncontended  one lock per worker
  contended    one lock for all workers
  drain        all queue on one lock at once, and each takes it once; counted
               from their common start
  readers      one read/write lock for all, one turn in ten a writer's
  churn        a lock of another name each time

Examples:
  turnlock bench --workload contended --workers 64
  turnlock --backend etcd://etcd-1:2379 bench --workload raw --seconds 10 --json
  turnlock --backend zk://zk-1,zk-2,zk-3 bench --report zookeeper/
  turnlock bench --workload uncontended --find-limit=20
  turnlock --backend embedded:///srv/test bench --workload drain --workers 500

The locks are named turnlock-bench/... No other lock is touched, and nothing is
left of these. With --json, it prints one object per measurement: peer, workload,
workers, ops, seconds, ops_per_s, p50_us, p99_us.
";

#[derive(Debug, Args)]
#[command(override_usage = BENCH_USAGE, after_help = BENCH_HELP)]
pub struct Bench {
    /// What the workers do: raw, uncontended, contended, drain, readers or churn
    #[arg(long, value_name = "NAME", required_unless_present = "report")]
    pub workload: Option<Workload>,
    /// How many workers run at once, each with a session of its own
    #[arg(
        long,
        value_name = "N",
        default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(1..=load::MAX_WORKERS as i64)
    )]
    pub workers: u16,
    /// How long each measurement lasts
    #[arg(long, value_name = "SECS", value_parser = parse_measurement_time, default_value = "2")]
    pub seconds: Duration,
    /// Raise the number of workers until one operation in a hundred takes longer than this many
    /// milliseconds [default: 100]; say what ends first, and what to change
    #[arg(
        long,
        value_name = "MS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "100",
        value_parser = parse_milliseconds,
        conflicts_with_all = ["workers", "report"]
    )]
    pub find_limit: Option<Duration>,
    /// Measure all workloads in rounds, beside the bare requests, and write report.md, report.json
    /// and report.svg into this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["workload", "workers"])]
    pub report: Option<PathBuf>,
    /// The number of rounds whose median a report gives
    #[arg(
        long,
        value_name = "N",
        default_value_t = 5,
        requires = "report",
        value_parser = clap::value_parser!(u16).range(1..=99)
    )]
    pub rounds: u16,
}

/// The longest measurement that a user can request.
const LONGEST_MEASUREMENT: Duration = Duration::from_secs(3600);

/// Parses the duration of a measurement.
fn parse_measurement_time(text: &str) -> Result<Duration, String> {
    match parse_seconds(text)? {
        Duration::ZERO => Err("nothing can be measured in no time: give more than 0".to_owned()),
        time if time > LONGEST_MEASUREMENT => Err("give at most 3600".to_owned()),
        time => Ok(time),
    }
}

/// Parses a bare number of milliseconds.
fn parse_milliseconds(text: &str) -> Result<Duration, String> {
    let number = text.parse::<f64>().ok();
    let time = number.and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok());
    match time {
        // Longer latencies are not told apart.
        Some(time) if time >= Duration::from_secs(60) => Err("give less than 60000".to_owned()),
        Some(time) => Ok(time),
        None => Err("not a number of milliseconds".to_owned()),
    }
}

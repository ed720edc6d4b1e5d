//! The command line: one definition gives the parser and the help.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use benches::Workload;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use turnlock::Token;

use crate::exit;

const ABOUT: &str = "Run commands under a lock, first come first served, with a fencing token.";

const EXAMPLES: &str = "\
Examples:
  turnlock run ledger -- ./post-entries          wait for our turn, then run
  turnlock run -n nightly -- ./report            run only if nobody else does
  turnlock run -w 30 -s index -- ./search        wait at most 30 s, share with other readers
  turnlock run deploy -c 'echo $TURNLOCK_TOKEN'  a shell line, with its fencing token
  turnlock edit ledger book.json -- jq '.n += 1' change a file that refuses late writers
  turnlock queue ledger                          who holds it, who waits
  turnlock --backend etcd://etcd-1:2379 run ledger -- ./post-entries
";

/// What all who change fenced files need to know.
macro_rules! fenced_help {
    () => {
        "\
Inside `turnlock run NAME` of the same NAME it uses that hold's token and takes no lock. A token lower
than one that the file has seen changes nothing: status 79. The mark lies beside FILE, as .FILE.fence.
"
    };
}

const RUN_USAGE: &str = "turnlock run [OPTIONS] NAME -- COMMAND [ARGS]...
       turnlock run [OPTIONS] NAME -c TEXT";

const RUN_HELP: &str = "\
The command finds TURNLOCK_NAME, TURNLOCK_TOKEN, TURNLOCK_MODE and TURNLOCK_DEADLINE_UNIX_MS in its
environment, and in TURNLOCK_FENCING_TOKEN all that a resource needs to check a write. turnlock ends with
its exit status: see `turnlock --help` for the others.
";

const WRITE_HELP: &str = concat!(
    "\
Examples:
  ./render | turnlock write site index.html
  turnlock run site -c './render | turnlock write site index.html'   with the token of `run`

",
    fenced_help!()
);

const APPEND_HELP: &str = concat!(
    "\
Examples:
  echo \"$(date) done\" | turnlock append journal journal.txt

",
    fenced_help!()
);

const EDIT_USAGE: &str = "turnlock edit [OPTIONS] NAME FILE -- COMMAND [ARGS]...";

const EDIT_HELP: &str = concat!(
    "\
Examples:
  turnlock edit ledger ledger.json -- jq '.total += 5'
  turnlock edit hosts hosts -- sort -u

If COMMAND fails, the file stays as it is and turnlock ends with its status. If the lock is lost
meanwhile, COMMAND is stopped as under `turnlock run`, and the status is 76.

",
    fenced_help!()
);

const CHECK_HELP: &str = "\
Examples:
  turnlock run site -c './render >new && turnlock fence check out && rsync new/ out/'

What comes after the check is not covered by it: where a file can be changed with `write`, `append`
or `edit`, check and change are one.
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

const FLOOR_HELP: &str = "\
Examples, for a fleet that moves from its own coordinators to etcd; first stop all who use locks:
  turnlock floor                                                  prints, say, 4711
  turnlock --backend etcd://etcd-1:2379 floor --raise-to 4711     then start them with this backend

Without this, the new coordinator would begin with lower tokens, and every fence that has seen the
old ones would refuse the fleet. It is not done while the new one is in use: 75. Raw locks keep the
coordinator's own tokens.
";

const BENCH_USAGE: &str = "turnlock bench [OPTIONS] --workload NAME
       turnlock bench [OPTIONS] --workload NAME --find-limit[=MS]
       turnlock bench [OPTIONS] --report DIR";

const BENCH_HELP: &str = "\
Workloads:
  raw          create and delete an entry, without any lock: what no lock can do without
  uncontended  a lock for each worker
  contended    one lock for all
  drain        all queue on one lock at once, each takes it once; counted from the common start
  readers      one read/write lock for all, one turn in ten a writer's
  churn        each time a lock of another name

Examples:
  turnlock bench --workload contended --workers 64
  turnlock --backend etcd://etcd-1:2379 bench --workload uncontended --seconds 10 --json
  turnlock --backend zk://zk-1,zk-2,zk-3 bench --report zookeeper/
  turnlock bench --workload uncontended --find-limit=20
  turnlock --backend embedded:///srv/test bench --workload drain --workers 500

The locks are named turnlock-bench/...; nobody else's are touched, and nothing is left of them.
With --json, one object a measurement: peer, workload, workers, ops, seconds, ops_per_s, p50_us, p99_us.
";

/// The longest measurement that can be asked for.
const LONGEST_MEASUREMENT: Duration = Duration::from_secs(3600);

const CONFORMANCE_HELP: &str = "\
Examples:
  turnlock conformance                                          your own coordinator on this machine
  turnlock --backend etcd://etcd-1:2379 conformance
  turnlock --backend zk://zk-1:2181 conformance --filter order
  turnlock conformance --list

Every case runs in a namespace of its own below that of the URL, and nothing is left of it. What would
need the servers stopped, or others' sessions ended, is skipped. The status is 1 if a case fails.
";

#[derive(Debug, Parser)]
#[command(name = "turnlock", version, about = ABOUT, after_help = after_help(), max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

fn after_help() -> String {
    format!("{EXAMPLES}\n{}", exit::help())
}

#[derive(Debug, Args)]
pub struct Global {
    /// The coordinator: etcd://HOST[:PORT][,...] or zk://HOST[:PORT][,...][/CHROOT], the same with
    /// etcds:// or zks:// for TLS, or etcd+unix:///SOCKET [default: your own on this machine, started when needed]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "TURNLOCK_BACKEND",
        hide_env_values = true
    )]
    pub backend: Option<String>,
    /// Print JSON, one object a line; tokens are strings
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command under a lock
    Run(Run),
    /// Hold a lock until a signal comes
    Hold(Hold),
    /// Replace a file with what comes on stdin, under a lock
    Write(Write),
    /// Append what comes on stdin to a file, whole or not at all, under a lock
    Append(Append),
    /// Replace a file with what a command makes of it, under a lock
    Edit(Edit),
    /// Check a token where the damage would be done
    #[command(subcommand)]
    Fence(Fence),
    /// List locks that somebody holds or waits for
    Ls(Ls),
    /// Show who holds a lock and who waits for it, in order
    Queue(Queue),
    /// Print a number that no token given out so far exceeds, or have all later ones exceed one
    #[command(after_help = FLOOR_HELP)]
    Floor(Floor),
    /// Measure what locks cost on a coordinator
    Bench(Bench),
    /// Check that a coordinator keeps the promises of locks, without harm to its users
    Conformance(Conformance),
    /// Run a coordinator in the foreground, behind the etcd v3 API
    #[cfg(feature = "embedded")]
    Serve(Serve),
    /// Stop your own coordinator on this machine
    #[cfg(feature = "embedded")]
    Stop,
    /// Try the locks on servers and contenders that are paused, killed and cut off at random
    #[command(after_help = CHAOS_HELP)]
    Chaos(Chaos),
}

/// How to stand in the queue.
#[derive(Debug, Args)]
pub struct Acquire {
    /// Fail at once if the lock is not free
    #[arg(short = 'n', long, visible_alias = "nb", conflicts_with = "wait")]
    pub nonblock: bool,
    /// Fail if the lock is not acquired within this many seconds, such as 0.5
    #[arg(short = 'w', long = "wait", value_name = "SECS", value_parser = seconds)]
    pub wait: Option<Duration>,
    /// The exit status when the lock is not acquired
    #[arg(short = 'E', long = "conflict-exit-code", value_name = "CODE", default_value_t = exit::Exit::NotAcquired.code())]
    pub conflict_exit_code: u8,
    /// How long the lock outlives this process if it dies, and how long it can be cut off before it
    /// loses the lock
    #[arg(long, value_name = "SECS", value_parser = seconds, default_value = "10")]
    pub ttl: Duration,
    /// Shown to others in the queue
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Use NAME verbatim as the etcd prefix or ZooKeeper path, to join a queue of other clients
    #[arg(long)]
    pub raw: bool,
}

#[derive(Debug, Args)]
#[command(override_usage = RUN_USAGE, after_help = RUN_HELP)]
pub struct Run {
    #[command(flatten)]
    pub acquire: Acquire,
    /// Share the lock with other shared holders, as a reader does
    #[arg(short = 's', long)]
    pub shared: bool,
    /// What to do when the lock is lost, or cannot be renewed and its deadline comes near
    #[arg(long, value_enum, default_value_t = OnLost::Term)]
    pub on_lost: OnLost,
    /// The time between TERM and KILL [default: a fifth of the ttl; at most half of it]
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub grace: Option<Duration>,
    /// Keep the lock until all that COMMAND started has ended, also in the background
    #[arg(long)]
    pub wait_all: bool,
    /// Run this text with the shell
    #[arg(
        short = 'c',
        value_name = "TEXT",
        conflicts_with = "command",
        required_unless_present = "command"
    )]
    pub shell: Option<String>,
    /// The lock
    pub name: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// A change of a fenced file: what `write`, `append` and `edit` have in common.
#[derive(Debug, Args)]
pub struct Change {
    #[command(flatten)]
    pub acquire: Acquire,
    /// Change the file with this token, and take no lock
    #[arg(long, value_name = "N")]
    pub token: Option<Token>,
    /// The lock
    pub name: String,
    /// The file
    pub file: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = WRITE_HELP)]
pub struct Write {
    #[command(flatten)]
    pub change: Change,
}

#[derive(Debug, Args)]
#[command(after_help = APPEND_HELP)]
pub struct Append {
    #[command(flatten)]
    pub change: Change,
}

#[derive(Debug, Args)]
#[command(override_usage = EDIT_USAGE, after_help = EDIT_HELP)]
pub struct Edit {
    #[command(flatten)]
    pub change: Change,
    /// The command and its arguments: reads the old content on stdin, prints the new one
    #[arg(trailing_var_arg = true, value_name = "COMMAND", required = true)]
    pub command: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
pub enum Fence {
    /// Admit a token at the fence of FILE, and from then on no lower one; 79 if it is stale
    #[command(after_help = CHECK_HELP)]
    Check(Check),
}

#[derive(Debug, Args)]
pub struct Check {
    /// The token [default: that of the surrounding `turnlock run`]
    #[arg(long, value_name = "N")]
    pub token: Option<Token>,
    /// The file, or whatever stands for the resource: its mark lies beside it, as .FILE.fence
    pub file: PathBuf,
}

/// What happens to the command when its lock is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnLost {
    /// TERM to all that it started, then KILL before the deadline
    Term,
    /// KILL at once
    Kill,
    /// A warning only; the exit status is 76 all the same
    Ignore,
}

#[derive(Debug, Args)]
pub struct Hold {
    #[command(flatten)]
    pub acquire: Acquire,
    /// Share the lock with other shared holders, as a reader does
    #[arg(short = 's', long)]
    pub shared: bool,
    /// The lock
    pub name: String,
}

#[derive(Debug, Args)]
pub struct Ls {
    /// Only locks whose names begin with this
    #[arg(default_value = "", hide_default_value = true)]
    pub prefix: String,
}

#[derive(Debug, Args)]
pub struct Queue {
    /// Use NAME verbatim as the etcd prefix or ZooKeeper path
    #[arg(long)]
    pub raw: bool,
    /// The lock
    pub name: String,
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

/// A length of time that something can be measured in.
fn positive_seconds(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("nothing can be measured in no time: give more than 0".to_owned()),
        time if time > LONGEST_MEASUREMENT => Err("give at most 3600".to_owned()),
        time => Ok(time),
    }
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let seconds = seconds(text).map_err(|_| "not a number of milliseconds".to_owned())?;
    Ok(seconds / 1000)
}

/// Seconds with a fraction, as `flock -w` takes them.
fn seconds(text: &str) -> Result<Duration, String> {
    let secs: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(secs)
        .map_err(|_| "not a number of seconds of zero or more".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_may_have_options_of_its_own() {
        for line in [
            &["turnlock", "run", "-n", "a", "--", "ls", "-n", "--wait"][..],
            &["turnlock", "run", "-n", "a", "ls", "-n", "--wait"],
        ] {
            let Command::Run(run) = Cli::parse_from(line).command else {
                panic!("not run")
            };
            assert!(run.acquire.nonblock);
            assert_eq!(run.command, ["ls", "-n", "--wait"]);
        }
    }

    #[test]
    fn seconds_take_fractions_and_nothing_else() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["", "-1", "nan", "inf", "1e300", "5s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}

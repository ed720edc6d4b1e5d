//! Measures every target that was compiled in, on a real server that this program starts, beside
//! the bare requests of the same round.
//!
//! ```sh
//! cargo run --release -p benches --features zk -- --rounds 5 --seconds 2
//! ```
//!
//! Standard output gets one line of JSON for each measurement, and standard error the medians. With
//! `--report DIR`, they are also written to files. `shows` checks the promises about costs, and
//! fails if one is missed:
//!
//! ```sh
//! cargo run --release -p benches --features zk -- shows
//! ```

mod shows;

use std::error::Error;
use std::iter::successors;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use benches::servers::{self, Server};
use clap::{Parser, Subcommand};
use load::{Measurement, Plan, Report, Target, runtime, survey};

/// The same allocator as that of the command `turnlock`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(about = "Measure Turnlock's locks beside the bare requests of their stores")]
struct Arguments {
    /// How often each workload is measured; the medians are reported
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each measurement takes, in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only these targets [default: all that were compiled in]
    #[arg(long, value_delimiter = ',')]
    targets: Vec<String>,
    /// Write report.md, report.json and report.svg into this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check what is promised of costs; ends with 1 if something is missed
    Shows {
        /// Only these [default: all whose targets were compiled in]
        names: Vec<shows::Show>,
    },
}

fn main() -> ExitCode {
    servers::serve_if_asked();
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Command::Shows { names }) => shows::check(names),
        None => report(&arguments),
    }
}

fn report(arguments: &Arguments) -> ExitCode {
    let known = servers::names();
    if let Some(unknown) = arguments
        .targets
        .iter()
        .find(|name| !known.contains(&&***name))
    {
        eprintln!(
            "there is no target {unknown:?}: give {}, or compile more of them in with --features \
             zk",
            known.join(", ")
        );
        return ExitCode::from(64);
    }
    let chosen = |name: &&str| {
        arguments.targets.is_empty() || arguments.targets.iter().any(|target| target == name)
    };
    let servers: Vec<Server> = known
        .into_iter()
        .filter(chosen)
        .map(Server::start)
        .collect();
    let length = Duration::from_secs_f64(arguments.seconds);
    let targets: Vec<&Target> = servers.iter().map(Server::target).collect();
    let before = |round: usize, target: &Target, plan: Plan| {
        let name = target.name();
        let (workload, workers) = (plan.workload, plan.workers);
        eprintln!(
            "round {round} of {}: {name}, {workload} {workers}",
            arguments.rounds
        );
    };
    let runtime = runtime().expect("the operating system gives threads");
    let surveyed = runtime.block_on(survey(&targets, arguments.rounds, length, before, print));
    let mut report = match surveyed {
        Ok(report) => report,
        Err(error) => {
            let causes = successors(Some(&error as &dyn Error), |&error| error.source());
            let causes: Vec<String> = causes.map(ToString::to_string).collect();
            eprintln!("{}", causes.join(": "));
            return ExitCode::FAILURE;
        }
    };
    for _ in 0..arguments.rounds {
        for line in servers
            .iter()
            .flat_map(|server| server.measure_peers(length))
        {
            print(&line);
            report.add(line);
        }
    }
    conclude(&report, arguments)
}

fn conclude(report: &Report, arguments: &Arguments) -> ExitCode {
    for row in report.table() {
        let [target, workload, rest @ ..] = row;
        let rest = rest.map(|cell| format!("{cell:>10}")).join(" ");
        eprintln!("{target:<10} {workload:<12} {rest}");
    }
    for warning in report.noise() {
        eprintln!("warning: {warning}");
    }
    if let Some(folder) = &arguments.report
        && let Err(error) = report.write(folder)
    {
        eprintln!("the report cannot be written: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn print(line: &Measurement) {
    let text = serde_json::to_string(line).expect("plain data");
    println!("{text}");
}

//! Many runs: each worker is a process of its own, and makes one run after another.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Write};
use std::panic::{self, AssertUnwindSafe};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::Parser;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::arguments::Arguments;
use crate::corpus;
use crate::run::run;
use crate::setup::{Setup, name};
use crate::summary::{Outcome, PANIC, Summary};
use crate::world::lock;

const BROKEN: u8 = 1;
const USAGE: u8 = 2;

/// Where the panics of tasks are noted. Those of the store's library are its way to report damage.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.worker {
        note_panics();
        return exit(work(arguments.trace).map(|()| true));
    }
    let corpus = match corpus::read() {
        Ok(corpus) => corpus,
        Err(wrong) => {
            eprintln!("simulation/corpus.txt: {wrong}");
            return ExitCode::from(USAGE);
        }
    };
    exit(match arguments.twice {
        true => compare(&arguments),
        false => simulate(&arguments, corpus),
    })
}

fn exit(passed: io::Result<bool>) -> ExitCode {
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(BROKEN),
        // The reader of stdout has left, and knows that.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(BROKEN),
        Err(error) => {
            eprintln!("tools/simulate: a worker failed: {error}");
            ExitCode::from(BROKEN)
        }
    }
}

/// Prints on stdout, whose reader may have left.
fn print(text: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}

/// Makes all runs once. Returns whether no rule was broken.
fn simulate(arguments: &Arguments, corpus: Vec<Setup>) -> io::Result<bool> {
    let begun = Instant::now();
    // The build of this program, of which tools/simulate has made this process.
    let build_seconds = children_seconds()?;
    let limit = arguments.limit();
    let corpus = match arguments.trace || arguments.until_failure {
        true => vec![],
        false => corpus,
    };
    let first = arguments.seeds.start;
    let summary = Mutex::new(Summary::default());
    // Runs of lower seeds than the one that failed are under way by then, and are finished.
    let has_failed = || arguments.until_failure && lock(&summary).failed > 0;
    let goes_on = |seed: &u64| {
        let is_due = match limit {
            Some(limit) => begun.elapsed() < limit,
            None => *seed < arguments.seeds.end,
        };
        is_due && !has_failed()
    };
    let next_seed = AtomicU64::new(first);
    let seeds = (first..)
        .take_while(goes_on)
        .inspect(|seed| next_seed.store(seed + 1, Ordering::Relaxed));
    let setups = corpus.iter().copied();
    let setups = setups.chain(seeds.map(|seed| arguments.setup(seed)));
    make(arguments, setups, |outcome| {
        let mut summary = lock(&summary);
        summary.judge(&outcome);
        // What is made by each call would be counted many times by those who add calls up.
        if !corpus.contains(&outcome.setup) {
            summary.add(&outcome);
        }
        if !outcome.violations.is_empty() {
            tell_failure(arguments, &outcome);
        }
    })?;
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.next_seed = next_seed.into_inner();
    summary.wall_seconds = begun.elapsed().as_secs_f64();
    summary.cpu_seconds = children_seconds()? - build_seconds;
    match arguments.json {
        true => print(serde_json::to_string(&summary)?)?,
        false => print(&summary)?,
    }
    Ok(summary.failed == 0)
}

/// Prints a run that failed: on stderr if stdout has the summary for a program.
fn tell_failure(arguments: &Arguments, outcome: &Outcome) {
    let setup = outcome.setup;
    let text = format!(
        "\n{outcome}\n\nshown again by: {}\nfor simulation/corpus.txt: {setup}",
        command(setup)
    );
    match arguments.json {
        true => eprintln!("{text}"),
        // Without its reader, the summary fails as well.
        false => drop(print(text)),
    }
}

/// Returns the time that the children of this process, which have ended, took of processors.
fn children_seconds() -> io::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let taken = usage.user_time() + usage.system_time();
    Ok(taken.num_milliseconds() as f64 / 1e3)
}

/// Makes all runs twice. Returns whether no run differed from itself.
fn compare(arguments: &Arguments) -> io::Result<bool> {
    let setups: Vec<_> = arguments
        .seeds
        .clone()
        .map(|seed| arguments.setup(seed))
        .collect();
    let traces = || {
        let traces = Mutex::new(vec![]);
        make(arguments, setups.iter().copied(), |outcome| {
            let trace = (outcome.setup.seed, outcome.trace, outcome.events);
            lock(&traces).push(trace);
        })?;
        let mut traces = traces.into_inner().unwrap_or_else(PoisonError::into_inner);
        traces.sort_unstable();
        io::Result::Ok(traces)
    };
    let (once, again) = (traces()?, traces()?);
    for ((seed, trace, events), (_, other, others)) in once.iter().zip(&again) {
        let verdict = match trace == other {
            true => "the same".to_owned(),
            false => format!("not the same: {other:016x} of {others} events"),
        };
        print(format_args!(
            "seed {seed}: trace {trace:016x} of {events} events, twice: {verdict}"
        ))?;
    }
    Ok(once == again)
}

/// Returns the command that makes a run again.
fn command(setup: Setup) -> String {
    let Setup {
        tier,
        profile,
        seconds,
        seed,
    } = setup;
    let (tier, profile, next) = (name(&tier), name(&profile), seed + 1);
    format!(
        "tools/simulate --tier {tier} --profile {profile} --seconds {seconds} --seeds {seed}..{next}"
    )
}

/// Makes these runs on several workers.
fn make(
    arguments: &Arguments,
    setups: impl Iterator<Item = Setup> + Send,
    done: impl Fn(Outcome) + Sync,
) -> io::Result<()> {
    let setups = Mutex::new(setups);
    let next = || lock(&setups).next();
    let employ = || {
        let mut worker = Worker::start(arguments.trace)?;
        while let Some(setup) = next() {
            done(worker.make(setup)?);
        }
        io::Result::Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.jobs()).map(|_| scope.spawn(employ)).collect();
        let mut ended = workers.into_iter().map(|worker| worker.join());
        ended.try_for_each(|ended| ended.unwrap_or_else(|panic| panic::resume_unwind(panic)))
    })
}

/// A process that makes runs. It ends when this is dropped.
struct Worker {
    process: Child,
    orders: Option<ChildStdin>,
    outcomes: BufReader<ChildStdout>,
}

impl Worker {
    fn start(is_printed: bool) -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("--worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if is_printed {
            command.arg("--trace");
        }
        let mut process = command.spawn()?;
        let outcomes = process.stdout.take().map(BufReader::new);
        Ok(Worker {
            orders: process.stdin.take(),
            outcomes: outcomes.ok_or(io::ErrorKind::NotFound)?,
            process,
        })
    }

    fn make(&mut self, setup: Setup) -> io::Result<Outcome> {
        let orders = self.orders.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let given = writeln!(orders, "{setup}").and_then(|()| orders.flush());
        given.map_err(|error| io::Error::other(format!("it takes no run {setup}: {error}")))?;
        let mut line = String::new();
        if self.outcomes.read_line(&mut line)? == 0 {
            return Err(io::Error::other(format!("it ended in the run {setup}")));
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.process.wait();
    }
}

/// Makes the runs that are named on stdin, and writes their outcomes to stdout.
fn work(is_printed: bool) -> io::Result<()> {
    for line in io::stdin().lines() {
        let setup: Setup = line?.parse().map_err(io::Error::other)?;
        let made = panic::catch_unwind(AssertUnwindSafe(|| run(setup, is_printed)));
        let panics = std::mem::take(&mut *lock(&PANICS));
        let mut outcome = made.unwrap_or_else(|_| Outcome::failed(setup, "a panic ended it"));
        if !panics.is_empty() {
            outcome.broken.insert(PANIC.to_owned());
            outcome.violations.extend(panics);
        }
        print(serde_json::to_string(&outcome)?)?;
    }
    Ok(())
}

fn note_panics() {
    panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        if !place.contains("/redb-") {
            lock(&PANICS).push(format!("a task panicked: {panic}"));
        }
    }));
}

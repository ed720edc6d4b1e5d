//! Watches the real coordinator under load.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::flatness::Level;
use crate::goal::Goal;
use crate::results::{Failure, Runs};
use crate::server::Server;
use crate::slice::Slice;

/// What the clients do, in turn.
const WORKLOADS: [&str; 5] = ["churn", "contended", "uncontended", "readers", "drain"];
/// How often each workload comes in a run: often enough for each quarter to have all of them alike.
const ROUNDS: u32 = 60;
/// The time between two samples.
const SAMPLE: Duration = Duration::from_secs(1);
/// The time that a run needs beside that under load.
const MARGIN: Duration = Duration::from_secs(10);
/// The shortest load that shows anything.
const SHORTEST: Duration = Duration::from_secs(30);

/// What `turnlock bench --json` prints, as far as it is kept.
#[derive(Debug, Deserialize)]
struct Measurement {
    ops: u64,
}

/// Returns the time that the slice must still have for a run.
pub fn least(slice: &Slice, goal: &Goal) -> Duration {
    match is_trial(slice, goal) {
        true => SHORTEST + MARGIN,
        false => goal.length() + MARGIN,
    }
}

/// Returns whether the whole slice is too short for the goal.
fn is_trial(slice: &Slice, goal: &Goal) -> bool {
    slice.length < goal.length() + MARGIN
}

/// Puts the coordinator under load for as long as the goal says. A run in a slice that is too short
/// for the goal is a trial, of which only failures are kept.
///
/// # Errors
/// If the command cannot be built or run, or a signal has come.
pub fn run(
    slice: &Slice,
    goal: &Goal,
    so_far: &Runs,
    folder: &Path,
    log: &Path,
) -> io::Result<Runs> {
    let commit = slice.read_commit()?;
    let release = "build --release --package lock-cli --target-dir target";
    slice.cargo(release, log)?;
    let turnlock = slice.root.join("target/release/turnlock");
    let is_trial = is_trial(slice, goal);
    let length = match is_trial {
        true => slice.time_left().saturating_sub(MARGIN).max(SHORTEST),
        false => goal.length(),
    };

    let server = Server::start(&turnlock, folder, log)?;
    let is_over = AtomicBool::new(false);
    let (loaded, levels) = thread::scope(|scope| {
        let sampling = scope.spawn(|| sample(&server, &is_over));
        let loaded = load(slice, &turnlock, &server.url(), length, log);
        is_over.store(true, Ordering::Relaxed);
        (loaded, sampling.join())
    });
    let levels = levels.map_err(|_| io::Error::other("no samples were taken"))?;
    let (operations, broken) = loaded?;

    let grown = levels.iter().filter(|(_, level)| !level.is_flat());
    let grown = grown.map(|(what, level)| format!("{what}: {level}"));
    let to_failure = |reason| Failure {
        command: format!("tools/soak coordinator: {reason}"),
        commit: commit.clone(),
    };
    let failures = broken.into_iter().chain(grown).map(to_failure).collect();
    for (what, level) in &levels {
        println!("coordinator: {what}: {level}");
    }
    if is_trial {
        println!("coordinator: a trial of {} s", length.as_secs());
        return Ok(Runs {
            next_seed: so_far.next_seed,
            failures,
            ..Runs::default()
        });
    }
    Ok(Runs {
        next_seed: so_far.next_seed + 1,
        runs: 1,
        holds: operations,
        seconds: length.as_secs_f64(),
        wall_seconds: length.as_secs_f64(),
        levels,
        commits: vec![commit],
        failures,
        ..Runs::default()
    })
}

/// Runs one workload after the other. Returns the number of operations, and what failed.
fn load(
    slice: &Slice,
    turnlock: &Path,
    url: &str,
    length: Duration,
    log: &Path,
) -> io::Result<(u64, Option<String>)> {
    let begun = Instant::now();
    let each = length.as_secs_f64() / f64::from(ROUNDS) / WORKLOADS.len() as f64;
    let seconds = each.max(1.0).to_string();
    let mut operations = 0;
    for workload in WORKLOADS.iter().cycle() {
        if begun.elapsed() >= length {
            break;
        }
        let mut command = Command::new(turnlock);
        command
            .args(["--backend", url, "bench", "--json"])
            .args(["--workload", workload, "--seconds", &seconds])
            .stderr(File::options().append(true).open(log)?);
        let (status, printed) = slice.run(&mut command)?;
        match serde_json::from_str::<Measurement>(&printed) {
            Ok(measured) if status.success() => operations += measured.ops,
            _ => return Ok((operations, Some(format!("{workload} ended with {status}")))),
        }
    }
    Ok((operations, None))
}

/// Takes samples until the load is over, and sums them up.
fn sample(server: &Server, is_over: &AtomicBool) -> BTreeMap<String, Level> {
    let mut samples: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    // If the coordinator has ended, the load fails, too.
    while let (false, Ok(measured)) = (is_over.load(Ordering::Relaxed), server.measure()) {
        for (what, value) in measured {
            samples.entry(what).or_default().push(value);
        }
        thread::sleep(SAMPLE);
    }
    let levels = samples.into_iter();
    let levels = levels.map(|(what, samples)| (what.to_owned(), Level::of(&samples)));
    levels.collect()
}

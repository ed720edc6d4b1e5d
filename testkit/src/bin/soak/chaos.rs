//! Makes chaos runs on real servers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Deserialize;
use testkit::chaos::report::Data;

use crate::goal::Goal;
use crate::results::{Failure, Runs};
use crate::slice::Slice;

/// The time that a run needs beside that of its faults.
const MARGIN: Duration = Duration::from_secs(30);
/// The time that the slice must still have for a run.
pub const LEAST: Duration = Duration::from_secs(40);
/// The exit status if Turnlock broke a rule, or the run could not go on.
const BROKEN: i32 = 70;

/// What the program prints with `--json`, as far as it is kept.
#[derive(Debug, Default, Deserialize)]
struct Report {
    seconds: u64,
    acquires: Acquires,
    data: Data,
    faults: BTreeMap<String, u64>,
    violations: Vec<Violation>,
}

#[derive(Debug, Default, Deserialize)]
struct Acquires {
    called: u64,
    granted: u64,
    lost: u64,
}

#[derive(Debug, Deserialize)]
struct Violation {
    blame: String,
}

/// Makes one run, for as long as the goal and the slice say.
///
/// # Errors
/// If the program cannot be run, a server is not installed, or a signal has come.
pub fn run(
    slice: &Slice,
    options: &[&str],
    goal: &Goal,
    so_far: &Runs,
    log: &Path,
) -> io::Result<Runs> {
    let commit = slice.read_commit()?;
    let missing = Duration::from_secs_f64((goal.seconds - so_far.seconds).max(1.0));
    let length = missing.min(slice.time_left().saturating_sub(MARGIN));
    let (seconds, seed) = (length.as_secs().max(1), so_far.next_seed);
    let options = format!("{} --seconds {seconds} --seed {seed}", options.join(" "));
    let mut command = Command::new(std::env::current_exe()?.with_file_name("chaos"));
    command
        .args(options.split(' '))
        .arg("--json")
        .stderr(File::create(log)?);
    let begun = Instant::now();
    let (status, printed) = slice.run(&mut command)?;
    let has_failed = status.code() == Some(BROKEN);
    if !status.success() && !has_failed {
        return Err(io::Error::other(format!("{status}: see {}", log.display())));
    }
    let failure = || Failure {
        command: format!("cargo run -p testkit --bin chaos -- {options}"),
        commit: commit.clone(),
    };
    // A run that could not go on reports nothing.
    let report: Report = serde_json::from_str(&printed).unwrap_or_default();
    let of_servers = |violation: &&Violation| violation.blame == "server";
    Ok(Runs {
        next_seed: seed + 1,
        runs: 1,
        acquires: report.acquires.called,
        holds: report.acquires.granted,
        lost: report.acquires.lost,
        data: report.data,
        seconds: report.seconds as f64,
        wall_seconds: begun.elapsed().as_secs_f64(),
        faults: report.faults,
        violations_of_servers: report.violations.iter().filter(of_servers).count() as u64,
        failures: has_failed.then(failure).into_iter().collect(),
        commits: vec![commit],
        ..Runs::default()
    })
}

//! Builds and runs one test in the copy.

use std::fmt;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// The time limit of a test, because some bugs are waits without an end. Tests that pass take less
/// than half of this on a busy machine.
const LIMIT: Duration = Duration::from_secs(150);

/// One test: `cargo test ARGUMENTS -- --exact NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// The package, one of its test programs, and the features.
    arguments: Vec<String>,
    name: String,
}

impl FromStr for Test {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .strip_prefix("cargo test ")
            .and_then(|rest| rest.split_once(" -- --exact "))
            .filter(|(arguments, name)| arguments.starts_with("-p ") && !name.contains(' '));
        let (arguments, name) = parsed.ok_or_else(|| {
            format!("not of the form \"cargo test -p PACKAGE ... -- --exact NAME\": {text:?}")
        })?;
        Ok(Test {
            arguments: arguments.split_whitespace().map(str::to_owned).collect(),
            name: name.to_owned(),
        })
    }
}

impl Test {
    pub fn package(&self) -> &str {
        &self.arguments[1]
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.package(), self.name)
    }
}

/// The outcome of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    /// The test took longer than [`LIMIT`].
    Stopped,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Passed => f.write_str("passed"),
            Outcome::Failed => f.write_str("failed"),
            Outcome::Stopped => write!(f, "was stopped after {LIMIT:?}"),
        }
    }
}

/// Builds a test and runs it.
pub fn of(folder: &Path, test: &Test) -> Result<(Outcome, Duration), String> {
    build(folder, test)?;
    run(folder, test)
}

/// Builds the program of a test. A bug that does not compile does not count.
fn build(folder: &Path, test: &Test) -> Result<(), String> {
    let log = log(folder);
    let mut cargo = cargo(folder, test, &log)?;
    let built = cargo.arg("--no-run").status();
    match built.map_err(|error| format!("cargo does not run: {error}"))? {
        status if status.success() => Ok(()),
        _ => Err(format!("{test} cannot be built:\n{}", read(&log))),
    }
}

/// Runs a test that is built. Returns its outcome and the time that it took.
fn run(folder: &Path, test: &Test) -> Result<(Outcome, Duration), String> {
    let log = log(folder);
    let mut cargo = cargo(folder, test, &log)?;
    let started = Instant::now();
    let child = cargo
        .args(["--", "--exact", &test.name])
        // The group contains all servers that the test starts.
        .process_group(0)
        .spawn();
    let child = child.map_err(|error| format!("cargo does not run: {error}"))?;
    let ended = wait(child, started + LIMIT).map_err(|error| format!("{test}: {error}"))?;
    let outcome = match ended {
        None => Outcome::Stopped,
        Some(status) if !status.success() => Outcome::Failed,
        // Cargo would also succeed if there were no test of this name.
        Some(_) if read(&log).contains("test result: ok. 1 passed") => Outcome::Passed,
        Some(_) => return Err(format!("there is no one test {test}")),
    };
    Ok((outcome, started.elapsed()))
}

fn cargo(folder: &Path, test: &Test, log: &Path) -> Result<Command, String> {
    let at_log = |error| format!("{}: {error}", log.display());
    let output = File::create(log).map_err(at_log)?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .arg("test")
        .args(&test.arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .stdout(output.try_clone().map_err(at_log)?)
        .stderr(output);
    Ok(cargo)
}

/// Waits for the leader of a process group. Returns `None` if the leader and its group had to be
/// killed.
fn wait(mut leader: Child, until: Instant) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = leader.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            let group = format!("-{}", leader.id());
            Command::new("kill")
                .args(["-KILL", "--", &group])
                .status()?;
            leader.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the file with the last output of cargo and the test.
fn log(folder: &Path) -> PathBuf {
    folder.join("target").join("museum.log")
}

fn read(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}

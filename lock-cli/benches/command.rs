//! Measures the cost of `turnlock run` beside the real `flock`: one command at a time, and 400 with
//! 64 at a time on one lock. Ends with 1 if a promise is missed.
//!
//! ```sh
//! cargo bench -p lock-cli --bench command
//! ```
//!
//! Both programs run in turn in the same round, and the medians of the ratios count. The baselines
//! below show where the time goes: the cost of starting any program, of starting this one, and of
//! one request to the coordinator.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use tempfile::TempDir;

const TURNLOCK: &str = env!("CARGO_BIN_EXE_turnlock");
const ROUNDS: usize = 20;
/// The number of commands that are started in one round. The number that run at a time follows.
const MANY: usize = 400;
const AT_A_TIME: usize = 64;
const MANY_ROUNDS: usize = 5;
/// The limits of the time as a multiple of flock's: for one command at a time, and for many.
const ALONE: f64 = 3.0;
const CROWDED: f64 = 5.0;

fn main() -> ExitCode {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    assert!(
        descriptors > 256,
        "{descriptors} descriptors are too few: ulimit -n 1024"
    );
    let folder = Folder::new();
    let alone = folder.alone();
    let crowded = folder.crowded();
    let verdict = |ratio, most| if ratio <= most { "kept  " } else { "MISSED" };
    println!(
        "{} alone: {alone:.2} times flock, at most {ALONE}",
        verdict(alone, ALONE)
    );
    println!(
        "{} {MANY} with {AT_A_TIME} at a time: {crowded:.2} times flock, at most {CROWDED}",
        verdict(crowded, CROWDED)
    );
    match alone <= ALONE && crowded <= CROWDED {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// A folder with a coordinator of its own and a file for flock. The coordinator stops when the
/// folder is dropped.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let private = std::fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().permissions(private).tempdir();
        let folder = Folder(folder.expect("a temporary folder"));
        // The first command starts the coordinator.
        folder.time(TURNLOCK, &["run", "demo", "--", "true"]);
        folder
    }

    /// Measures one command after another. Returns the median of the ratios.
    fn alone(&self) -> f64 {
        let lock = self.file();
        let kinds: [(&str, &str, &[&str]); 5] = [
            ("any program", "true", &[]),
            ("this program", TURNLOCK, &["--version"]),
            ("one question", TURNLOCK, &["queue", "demo"]),
            ("flock", "flock", &[&lock, "true"]),
            ("turnlock run", TURNLOCK, &["run", "demo", "--", "true"]),
        ];
        let rounds: Vec<Vec<Duration>> = (0..ROUNDS)
            .map(|_| {
                kinds
                    .map(|(_, program, args)| self.time(program, args))
                    .into()
            })
            .collect();
        for (kind, (what, ..)) in kinds.iter().enumerate() {
            let took = median(rounds.iter().map(|round| round[kind].as_secs_f64()));
            println!("{what:<14} {:6.2} ms", took * 1e3);
        }
        median(rounds.iter().map(|round| ratio(round[4], round[3])))
    }

    /// Measures many commands at once on one lock. Returns the median of the ratios.
    fn crowded(&self) -> f64 {
        let lock = self.file();
        let ratios: Vec<f64> = (0..MANY_ROUNDS)
            .map(|_| {
                let flock = self.time_many("flock", &[&lock, "true"]);
                let turnlock = self.time_many(TURNLOCK, &["run", "demo", "--", "true"]);
                println!("flock {flock:.2?}, turnlock run {turnlock:.2?}");
                ratio(turnlock, flock)
            })
            .collect();
        median(ratios.into_iter())
    }

    fn time(&self, program: &str, args: &[&str]) -> Duration {
        let started = Instant::now();
        let status = self.command(program, args).status();
        let took = started.elapsed();
        let status = status.unwrap_or_else(|error| {
            panic!("{program} cannot be started: {error}; apt-get install util-linux has flock")
        });
        assert!(status.success(), "{program} {args:?}: {status}");
        took
    }

    fn time_many(&self, program: &str, args: &[&str]) -> Duration {
        let left = AtomicUsize::new(MANY);
        let started = Instant::now();
        thread::scope(|scope| {
            for _ in 0..AT_A_TIME {
                scope.spawn(|| {
                    let one_less = |left: usize| left.checked_sub(1);
                    while left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
                        .is_ok()
                    {
                        self.time(program, args);
                    }
                });
            }
        });
        started.elapsed()
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .env("TURNLOCK_HOME", self.path())
            .env_remove("TURNLOCK_BACKEND")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self) -> String {
        self.path().join("flock").to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = self.command(TURNLOCK, &["stop"]).status();
    }
}

fn ratio(ours: Duration, theirs: Duration) -> f64 {
    ours.as_secs_f64() / theirs.as_secs_f64()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

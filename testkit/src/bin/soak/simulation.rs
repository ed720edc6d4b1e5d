//! Runs simulations.

use std::collections::BTreeMap;
use std::io;
use std::process::Command;

use serde::Deserialize;
use testkit::chaos::report::Data;

use crate::results::{Failure, Runs};
use crate::slice::{STRETCH, Slice};

/// What `tools/simulate --json` prints.
#[derive(Debug, Deserialize)]
struct Summary {
    runs: u64,
    failed_runs: Vec<String>,
    next_seed: u64,
    acquires: u64,
    holds: u64,
    lost: u64,
    data: Data,
    simulated_seconds: f64,
    wall_seconds: f64,
    cpu_seconds: f64,
    faults: BTreeMap<String, u64>,
}

/// Makes the next runs for some minutes.
///
/// # Errors
/// If the simulation cannot be built or run, or a signal has come.
pub fn run(slice: &Slice, options: &[&str], so_far: &Runs) -> io::Result<Runs> {
    let commit = slice.read_commit()?;
    let length = slice.time_left().min(STRETCH);
    let seed = so_far.next_seed;
    let mut command = Command::new(slice.root.join("tools/simulate"));
    command
        .env("SIMULATION_BUILD", "soak")
        .args(options)
        .arg(format!("--seeds={seed}..{}", seed + 1))
        .arg(format!("--minutes={}", length.as_secs_f64() / 60.0))
        .arg("--json");
    let (status, printed) = slice.run(&mut command)?;
    let summary: Summary = serde_json::from_str(&printed)
        .map_err(|error| io::Error::other(format!("tools/simulate: {status}: {error}")))?;
    Ok(to_runs(summary, &commit))
}

fn to_runs(summary: Summary, commit: &str) -> Runs {
    let to_failure = |run: String| Failure {
        command: to_command(&run),
        commit: commit.to_owned(),
    };
    Runs {
        next_seed: summary.next_seed,
        runs: summary.runs,
        acquires: summary.acquires,
        holds: summary.holds,
        lost: summary.lost,
        data: summary.data,
        seconds: summary.simulated_seconds,
        wall_seconds: summary.wall_seconds,
        cpu_seconds: summary.cpu_seconds,
        faults: summary.faults,
        commits: vec![commit.to_owned()],
        failures: summary.failed_runs.into_iter().map(to_failure).collect(),
        ..Runs::default()
    }
}

/// Returns the command that makes a run again, which is named as in the corpus.
fn to_command(run: &str) -> String {
    let words: Vec<&str> = run.split_whitespace().collect();
    match (
        words.as_slice(),
        words.last().and_then(|seed| seed.parse::<u64>().ok()),
    ) {
        (&[tier, profile, seconds, seed], Some(number)) => {
            let next = number + 1;
            format!(
                "tools/simulate --tier {tier} --profile {profile} --seconds {seconds} --seeds {seed}..{next}"
            )
        }
        _ => run.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_kept_with_the_commands_of_what_failed() {
        let printed = r#"{
            "runs": 3, "failed": 1, "failed_runs": ["grpc dense 60 7"], "next_seed": 9,
            "acquires": 50, "holds": 40, "lost": 2,
            "data": {"requests": 9, "in_doubt": 1, "raises": 3, "raised": 2},
            "simulated_seconds": 190.5, "wall_seconds": 2.0, "cpu_seconds": 3.5, "faults": {"disk full": 1}
        }"#;
        let summary = serde_json::from_str(printed).expect("a summary");
        let runs = to_runs(summary, "abc");
        assert_eq!((runs.next_seed, runs.runs, runs.holds), (9, 3, 40));
        assert_eq!((runs.seconds, runs.cpu_seconds), (190.5, 3.5));
        assert_eq!(
            runs.failures,
            [Failure {
                command: "tools/simulate --tier grpc --profile dense --seconds 60 --seeds 7..8"
                    .to_owned(),
                commit: "abc".to_owned(),
            }]
        );
    }
}

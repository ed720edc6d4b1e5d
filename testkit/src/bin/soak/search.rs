//! Repeats tests that draw their cases from a seed.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::results::{Failure, Runs};
use crate::slice::{STRETCH, Slice, cargo};

/// A test that draws its cases from a seed.
#[derive(Debug, PartialEq)]
pub struct Search {
    /// The package, its test program, and the features.
    pub target: &'static str,
    pub test: &'static str,
    /// The environment variable for the seed.
    pub seed: &'static str,
    /// The environment variable for the number of cases of one seed, and that number.
    pub cases: Option<(&'static str, u64)>,
}

impl Search {
    /// Returns the words of the command that makes the cases of a seed: the variables, and the rest.
    fn words(&self, seed: u64) -> (Vec<(&'static str, u64)>, String) {
        let mut variables = vec![(self.seed, seed)];
        variables.extend(self.cases);
        let Search { target, test, .. } = self;
        (variables, format!("test {target} -- --exact {test}"))
    }

    fn to_command(&self, seed: u64) -> Command {
        let (variables, arguments) = self.words(seed);
        let mut command = cargo();
        command
            .args(["--quiet", "--locked"])
            .args(arguments.split(' '));
        for (name, value) in variables {
            command.env(name, value.to_string());
        }
        command
    }

    /// Returns the command as a person enters it.
    fn to_text(&self, seed: u64) -> String {
        let (variables, arguments) = self.words(seed);
        let variables = variables
            .iter()
            .map(|(name, value)| format!("{name}={value} "));
        format!("{}cargo {arguments}", variables.collect::<String>())
    }
}

/// Makes the cases of one seed after the other for some minutes.
///
/// # Errors
/// If the test cannot be built or is not there, or a signal has come.
pub fn run(slice: &Slice, search: &Search, so_far: &Runs, log: &Path) -> io::Result<Runs> {
    let commit = slice.read_commit()?;
    // So that a tree that does not compile is no failure of the test.
    slice.cargo(&format!("test --no-run {}", search.target), log)?;
    let begun = Instant::now();
    let length = slice.time_left().min(STRETCH);
    let mut made = Runs {
        next_seed: so_far.next_seed,
        commits: vec![commit.clone()],
        ..Runs::default()
    };
    while made.runs == 0 || begun.elapsed() < length {
        let seed = made.next_seed;
        let mut command = search.to_command(seed);
        let (status, printed) = slice.run(command.stderr(File::create(log)?))?;
        made.next_seed += 1;
        made.runs += search.cases.map_or(1, |(_, cases)| cases);
        if !status.success() {
            fs::write(log.with_extension(format!("{seed}.log")), &printed)?;
            made.failures.push(Failure {
                command: search.to_text(seed),
                commit: commit.clone(),
            });
        } else if !printed.contains("1 passed") {
            // Cargo also succeeds if there is no test of this name.
            return Err(io::Error::other(format!("no such test: {}", search.test)));
        }
    }
    made.wall_seconds = begun.elapsed().as_secs_f64();
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_shown_by_the_command_that_was_run() {
        let mut search = Search {
            target: "-p lock-core --lib",
            test: "rule::tests::some",
            seed: "PROPTEST_RNG_SEED",
            cases: Some(("PROPTEST_CASES", 1_000)),
        };
        assert_eq!(
            search.to_text(7),
            "PROPTEST_RNG_SEED=7 PROPTEST_CASES=1000 \
             cargo test -p lock-core --lib -- --exact rule::tests::some"
        );
        search.cases = None;
        let command = search.to_command(7);
        let variables: Vec<_> = command.get_envs().collect();
        assert_eq!(
            variables,
            [("PROPTEST_RNG_SEED".as_ref(), Some("7".as_ref()))]
        );
    }
}

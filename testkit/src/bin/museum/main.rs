//! Runs the museum: puts known bugs of locks back into this code one at a time, and checks that the
//! tests catch them.
//!
//! An exhibit is a patch in `testkit/museum/`, with a header of four lines: a description of the
//! bug, its source, the crate into which it is put, and the test that must fail with it. Exhibits
//! are applied in a copy of the tree under `target/museum`. The copy is kept, so that the next run
//! builds little. Without an exhibit all the tests must pass. With an exhibit its test must fail,
//! or be stopped because it takes too long.
//!
//! `cargo run -p testkit --bin museum` tries all exhibits, and fails if a bug is not caught. With a
//! text as argument it tries the exhibits whose file names contain that text, or that are put into
//! that crate. The caught bugs, and the times until they were caught, are written to
//! `testkit/MUSEUM.md`.
//!
//! With `--simulation` it searches for the bugs with `tools/simulate`, and writes
//! `testkit/SIMULATED.md`. A bug that no run shows has a fifth line in its header, `No run shows
//! it`, with the reason.

mod arguments;
mod copy;
mod exhibit;
mod simulation;
mod table;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use arguments::Arguments;
use clap::Parser;
use copy::Copy;
use exhibit::Exhibit;
use trial::{Outcome, Test};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let visited = exhibit::all(root()).and_then(|all| match arguments.simulation {
        true => simulation::visit(root(), &arguments, &all),
        false => visit(&arguments, &all),
    });
    match visited {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the root of the workspace.
fn root() -> &'static Path {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder)
}

fn visit(arguments: &Arguments, all: &[Exhibit]) -> Result<(), String> {
    let is_wanted = |exhibit: &&Exhibit| arguments.includes(exhibit);
    let mut visited: Vec<&Exhibit> = all.iter().filter(is_wanted).collect();
    // Exhibits of one crate, and of one test program, follow each other, so that little is built in
    // between.
    visited.sort_by_key(|exhibit| (&exhibit.mutates, &exhibit.caught_by));
    let copy = Copy::of(root())?;

    println!("Without any of the bugs, the tests pass:");
    let tests: BTreeSet<&Test> = visited.iter().map(|exhibit| &exhibit.caught_by).collect();
    for test in tests {
        match trial::of(copy.folder(), test)? {
            (Outcome::Passed, took) => println!("{:6.1} s  {test}", took.as_secs_f64()),
            (outcome, _) => return Err(format!("{test} {outcome} without any bug")),
        }
    }

    println!("With one of them each, they fail:");
    // The time until each exhibit was caught, if it was.
    let mut caught = BTreeMap::new();
    let mut problems = Vec::new();
    for exhibit in visited {
        let name = &exhibit.name;
        caught.insert(name.as_str(), None);
        if let Err(why) = copy.apply(exhibit) {
            problems.push(why);
            continue;
        }
        let tried = trial::of(copy.folder(), &exhibit.caught_by);
        copy.revert(exhibit)?;
        match tried {
            Ok((outcome, took)) => {
                let test = &exhibit.caught_by;
                println!("{:6.1} s  {name}: {test} {outcome}", took.as_secs_f64());
                match outcome {
                    Outcome::Passed => problems.push(format!("{name} is not caught by {test}")),
                    Outcome::Failed | Outcome::Stopped => {
                        caught.insert(name.as_str(), Some(took));
                    }
                }
            }
            Err(why) => problems.push(format!("{name}: {why}")),
        }
        // A run that is interrupted keeps the results so far.
        write(all, &caught)?;
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.join("\n")),
    }
}

/// Renews the rows of the exhibits that were tried. The others keep theirs.
fn write(all: &[Exhibit], caught: &BTreeMap<&str, Option<Duration>>) -> Result<(), String> {
    let file = root().join(table::FILE);
    let old = std::fs::read_to_string(&file).unwrap_or_default();
    let table = table::renew(&old, all, caught);
    std::fs::write(&file, table).map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This also detects a change of the code, or of a test's name, that has left an exhibit
    /// behind.
    #[test]
    fn every_exhibit_applies_to_the_tree_and_only_to_its_crate() {
        let exhibits = exhibit::all(root()).expect("sound exhibits");
        assert!(exhibits.len() >= 30, "{} exhibits", exhibits.len());
        for exhibit in exhibits {
            copy::check(root(), &exhibit).unwrap_or_else(|why| panic!("{why}"));
            let patch = std::fs::read_to_string(&exhibit.path).expect("readable");
            let changed = |line| str::strip_prefix(line, "+++ b/");
            let files: Vec<&str> = patch.lines().filter_map(changed).collect();
            assert!(!files.is_empty(), "{} changes nothing", exhibit.name);
            let inside = format!("{}/src/", exhibit.mutates);
            for file in files {
                assert!(file.starts_with(&inside), "{}: {file}", exhibit.name);
            }
        }
    }

    #[test]
    fn the_table_lists_exactly_the_exhibits() {
        let exhibits = exhibit::all(root()).expect("sound exhibits");
        let table = std::fs::read_to_string(root().join(table::FILE)).expect("the table");
        let mut rows: Vec<&str> = table
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        for exhibit in exhibits {
            let row = table::row(&exhibit);
            let found = rows.iter().position(|listed| listed.starts_with(&row));
            let found = found.unwrap_or_else(|| panic!("not listed as it is: {row}"));
            rows.remove(found);
        }
        assert!(rows.is_empty(), "listed, but not there: {rows:?}");
    }
}

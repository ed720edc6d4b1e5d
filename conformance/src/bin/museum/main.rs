//! The museum: known bugs of locks, put back into this code one at a time, and the tests that catch
//! them.
//!
//! An exhibit is a patch in `conformance/museum/`, with a head of four lines: what the bug is, where
//! it is known from, which crate it is put into, and the test that must fail with it. They are
//! applied in a copy of the tree under `target/museum`, which is kept, so that a next visit builds
//! little. Without an exhibit all the tests must pass; with one its test must fail, or be stopped for
//! taking too long.
//!
//! `cargo run -p conformance --bin museum` visits all, and writes `conformance/MUSEUM.md` if every
//! bug is caught; with a text after it, it visits those whose file names contain that.

mod copy;
mod exhibit;
mod table;
mod trial;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use copy::Copy;
use exhibit::Exhibit;
use trial::{Outcome, Test};

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    match visit(&wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace.
fn root() -> &'static Path {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder)
}

fn visit(wanted: &str) -> Result<(), String> {
    let mut exhibits = exhibit::all(root())?;
    exhibits.retain(|exhibit| exhibit.name.contains(wanted));
    // Those of one crate, and of one test program, follow each other: little is built in between.
    exhibits.sort_by_key(|exhibit| (exhibit.mutates.clone(), exhibit.caught_by.clone()));
    let copy = Copy::of(root())?;

    println!("Without any of the bugs, the tests pass:");
    let tests: BTreeSet<&Test> = exhibits.iter().map(|exhibit| &exhibit.caught_by).collect();
    for test in tests {
        trial::build(copy.folder(), test)?;
        match trial::run(copy.folder(), test)? {
            (Outcome::Passed, took) => println!("{:6.1} s  {test}", took.as_secs_f64()),
            (outcome, _) => return Err(format!("{test} {outcome} without any bug")),
        }
    }

    println!("With one of them each, they fail:");
    let mut caught = Vec::new();
    let mut survivors = Vec::new();
    for exhibit in exhibits {
        copy.apply(&exhibit)?;
        let tried = trial::build(copy.folder(), &exhibit.caught_by)
            .and_then(|()| trial::run(copy.folder(), &exhibit.caught_by));
        copy.revert(&exhibit)?;
        let (outcome, took) = tried.map_err(|why| format!("{}: {why}", exhibit.name))?;
        println!(
            "{:6.1} s  {}: {} {outcome}",
            took.as_secs_f64(),
            exhibit.name,
            exhibit.caught_by
        );
        match outcome {
            Outcome::Passed => survivors.push(exhibit.name),
            Outcome::Failed | Outcome::Stopped => caught.push((exhibit, took)),
        }
    }
    if !survivors.is_empty() {
        return Err(format!("not caught: {}", survivors.join(", ")));
    }
    report(&mut caught, wanted)
}

fn report(caught: &mut [(Exhibit, Duration)], wanted: &str) -> Result<(), String> {
    println!("all {} are caught", caught.len());
    if !wanted.is_empty() {
        return Ok(());
    }
    caught.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    let table = root().join(table::FILE);
    std::fs::write(&table, table::of(caught)).map_err(|e| format!("{}: {e}", table.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also finds out when a change of the code, or of a test's name, has left an exhibit behind.
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

//! Searches for the bugs with the simulation: how many runs it takes until one breaks a rule.

pub mod search;
pub mod table;

use std::collections::BTreeSet;
use std::path::Path;

use crate::arguments::Arguments;
use crate::copy::Copy;
use crate::exhibit::Exhibit;
use search::Tier;
use table::{Row, Table};

/// Searches for the bugs of these exhibits, and renews their rows of the table.
///
/// # Errors
/// If a run fails without any bug, or a bug is found by no run and its exhibit gives no reason.
pub fn visit(root: &Path, arguments: &Arguments, all: &[Exhibit]) -> Result<(), String> {
    let mut table = Table::read(root)?;
    let is_wanted = |exhibit: &&Exhibit| {
        arguments.includes(exhibit) && !(arguments.resume && table.get(exhibit).is_some())
    };
    let mut visited: Vec<&Exhibit> = all.iter().filter(is_wanted).collect();
    // Exhibits of one crate follow each other, so that little is built in between.
    visited.sort_by_key(|exhibit| &exhibit.mutates);
    let copy = Copy::of(root)?;

    // An interrupted search has made the runs without any bug before its first row.
    if !(arguments.resume && table.has_any()) {
        println!("Without any of the bugs, no run breaks a rule:");
        let tiers = visited.iter().flat_map(|exhibit| exhibit.tiers());
        for tier in tiers.collect::<BTreeSet<_>>() {
            search::check_without_a_bug(copy.folder(), *tier)?;
            println!("{tier}");
        }
    }

    println!("With one of them each, a run does:");
    let mut problems = Vec::new();
    for exhibit in visited {
        match try_one(&copy, exhibit) {
            Ok(row) => {
                println!("{}: {row}", exhibit.name);
                table.set(exhibit, row);
            }
            Err(why) => {
                println!("{why}");
                table.remove(exhibit);
                problems.push(why);
            }
        }
        // A search that is interrupted keeps the results so far.
        table.write(root, all)?;
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.join("\n")),
    }
}

/// Searches for one bug.
fn try_one(copy: &Copy, exhibit: &Exhibit) -> Result<Row, String> {
    let name = &exhibit.name;
    let found = if exhibit.tiers().is_empty() {
        Ok(None)
    } else {
        copy.apply(exhibit)?;
        let found = search::search(copy.folder(), exhibit.tiers());
        copy.revert(exhibit)?;
        found
    };
    let found = found.map_err(|why| format!("{name}: {why}"))?;
    match (found, exhibit.unseen_because()) {
        (Some(finds), None) => Ok(Row::Found(finds)),
        (None, Some(reason)) => Ok(Row::Unseen(reason)),
        (Some(finds), Some(_)) => Err(format!(
            "{name} is found, so its line \"No run shows it\" is wrong: {finds}"
        )),
        (None, None) => Err(format!(
            "{name} is found by no run: if none can show it, say why in a line \"No run shows it\""
        )),
    }
}

impl Exhibit {
    /// Returns the tiers that have the code into which the bug is put, the fastest first.
    fn tiers(&self) -> &'static [Tier] {
        match self.mutates.as_str() {
            "lock-core" => &[Tier::Core, Tier::Embedded, Tier::Grpc],
            "backend-kit" | "backend-embedded" => &[Tier::Embedded, Tier::Grpc],
            "backend-etcd" => &[Tier::Grpc],
            _ => &[],
        }
    }

    /// Returns why no run shows the bug, if none does.
    fn unseen_because(&self) -> Option<String> {
        match self.tiers() {
            [] => Some(format!("the simulation does not have {}", self.mutates)),
            _ => self.unseen_because.clone(),
        }
    }
}

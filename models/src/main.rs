//! Explores every state of Turnlock's protocols, with the product's own types inside, and checks that
//! each planted bug is found.
//!
//! `cargo run --profile explore -p models [NAME]...` takes about a minute; `--full` explores larger
//! sizes. What the models show, and what they do not show, is in `docs/proofs.md`.

mod explorer;
mod gate;
mod handoff;
mod ranks;
mod server;
mod suite;
mod token_offset;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Parser;

use crate::explorer::Exploration;
use crate::suite::Case;

/// Explores every state of Turnlock's protocols, and prints a table.
#[derive(Debug, Parser)]
struct Arguments {
    /// The models to explore; all if none is named.
    #[arg(value_parser = suite::MODELS)]
    names: Vec<String>,
    /// Explores the sizes that take minutes and gigabytes, not those of a gate.
    #[arg(long)]
    full: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    println!("     states  transitions  seconds  model");
    let mut failures = 0;
    // Not every size has room for every milestone.
    let mut never = BTreeMap::new();
    for case in suite::cases(arguments.full) {
        if !arguments.names.is_empty() && !arguments.names.iter().any(|name| name == case.model) {
            continue;
        }
        let exploration = (case.explore)();
        failures += usize::from(!report(&case, &exploration));
        if case.mutant.is_none() {
            let missed = never
                .entry(case.model)
                .or_insert(exploration.missed.clone());
            missed.retain(|milestone| exploration.missed.contains(milestone));
        }
    }
    for (model, milestones) in never {
        for milestone in milestones {
            println!("{:36}{model}, in no size: {milestone}", "");
            failures += 1;
        }
    }
    match failures {
        0 => ExitCode::SUCCESS,
        failures => {
            eprintln!("{failures} explorations did not show what they must");
            ExitCode::FAILURE
        }
    }
}

/// Prints the row and what is wrong with it, and returns whether nothing is.
fn report(case: &Case, exploration: &Exploration) -> bool {
    let Exploration {
        states,
        transitions,
        time,
        ..
    } = exploration;
    let seconds = time.as_secs_f64();
    let Case { model, size, .. } = case;
    print!("{states:>11} {transitions:>12} {seconds:>8.1}  {model}: {size}");
    match case.mutant {
        Some(bug) => println!("; mutant: {bug}"),
        None => println!(),
    }
    match (case.mutant, &exploration.violation) {
        (Some(_), Some(violation)) => {
            let steps = violation.path.len();
            println!("{:36}found after {steps} steps: {}", "", violation.property);
            true
        }
        (Some(_), None) => {
            println!("{:36}NOT FOUND", "");
            false
        }
        (None, Some(violation)) => {
            println!("{:36}VIOLATED: {}", "", violation.property);
            for step in &violation.path {
                println!("{:40}{step}", "");
            }
            false
        }
        (None, None) => true,
    }
}

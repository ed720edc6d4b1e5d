//! Writes the page of the results.

use std::collections::BTreeSet;

use crate::part::PARTS;
use crate::results::Results;
use crate::text::{group_digits, to_length};

const HEAD: &str = "\
# What long runs have shown

`tools/soak` makes these runs, and writes this page from [SOAK.json](SOAK.json). A length of a
simulation is in simulated time. What failed is listed at the end, with the command that shows it.

| Part | Goal | Length | Runs | Holds | of which lost | Holds a second | Million holds a core-hour | Faults | Failed | Wall time | Commits |
|---|---|---|---|---|---|---|---|---|---|---|---|
";

/// Returns the page.
pub fn write(results: &Results) -> String {
    let parts = write_parts(results);
    let faults = write_faults(results);
    let failures = write_failures(results);
    format!("{HEAD}{parts}{faults}{failures}")
}

fn write_parts(results: &Results) -> String {
    let rows = PARTS.iter().map(|part| {
        let runs = part.find_runs(results);
        let rate = runs
            .holds_per_core_hour()
            .map(|rate| format!("{:.2}", rate / 1e6));
        format!(
            "| {} | {} | {} | {} | {} | {} | {:.1} | {} | {} | {} | {} | {} |\n",
            part.name,
            part.goal(),
            to_length(runs.seconds),
            group_digits(runs.runs),
            group_digits(runs.holds),
            group_digits(runs.lost),
            runs.density(),
            rate.unwrap_or_default(),
            group_digits(runs.faults.values().sum()),
            runs.failures.len(),
            to_length(runs.wall_seconds),
            runs.commits.join(" "),
        )
    });
    rows.collect()
}

/// Writes how often each fault happened in each part.
fn write_faults(results: &Results) -> String {
    let kinds = results.runs.values().flat_map(|runs| runs.faults.keys());
    let kinds: BTreeSet<&String> = kinds.collect();
    let names: Vec<&str> = results.runs.keys().map(String::as_str).collect();
    let mut table = format!(
        "\n## Faults\n\n| Fault | {} |\n|---|{}\n",
        names.join(" | "),
        "---|".repeat(names.len())
    );
    for kind in kinds {
        let counts = results.runs.values().map(|runs| {
            let count = runs.faults.get(kind).copied().unwrap_or_default();
            group_digits(count)
        });
        let counts: Vec<String> = counts.collect();
        table += &format!("| {kind} | {} |\n", counts.join(" | "));
    }
    table
}

fn write_failures(results: &Results) -> String {
    let failures = results.runs.values().flat_map(|runs| &runs.failures);
    let lines = failures.map(|failure| format!("- `{}` at {}\n", failure.command, failure.commit));
    let lines: String = lines.collect();
    let lines = if lines.is_empty() {
        "Nothing failed.\n"
    } else {
        &lines
    };
    format!("\n## What failed\n\n{lines}")
}

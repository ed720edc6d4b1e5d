//! Writes the page of the results.

use std::collections::BTreeSet;

use crate::part::{Part, Work};
use crate::parts::PARTS;
use crate::results::{Results, Runs};
use crate::text::{group_digits, to_length};

const HEAD: &str = "\
# What long runs have shown

`tools/soak` makes these runs, and writes this page from [SOAK.json](SOAK.json). What failed is listed at the end, with
the command that shows it.

## Simulations and chaos

The lengths and the goals of simulations are in simulated time.

";

const FUZZ: &str = "
## Random tests

| Part | Goal | Cases | Failed | Wall time | Commits |
|---|---|---|---|---|---|
";

const COORDINATOR: &str = "
## The coordinator under load

Its clients do what `turnlock bench` measures, one workload after the other. A quantity may be a tenth higher in the last
quarter of the hour than in the second: the medians of samples that are taken each second.

| Quantity | Second quarter | Last quarter | Highest |
|---|---|---|---|
";

/// Returns the page.
pub fn write(results: &Results) -> String {
    [
        HEAD,
        &write_runs(results),
        FUZZ,
        &write_fuzz(results),
        COORDINATOR,
        &write_levels(results),
        "\n## What failed\n\n",
        &write_failures(results),
    ]
    .concat()
}

/// Writes a table with a column for each part.
fn write_runs(results: &Results) -> String {
    let parts = PARTS.iter().filter(|part| {
        let is_run = matches!(part.work, Work::Simulation(_) | Work::Chaos(_));
        is_run && results.runs.contains_key(part.name)
    });
    let parts: Vec<(&Part, Runs)> = parts.map(|part| (part, part.find_runs(results))).collect();
    let row = |title: &str, cell: &dyn Fn(&Part, &Runs) -> String| {
        let cells = parts.iter().map(|(part, runs)| cell(part, runs));
        format!("| {title} | {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let number =
        |title: &str, find: &dyn Fn(&Runs) -> u64| row(title, &|_, runs| group_digits(find(runs)));
    let mut table = row("", &|part, _| part.name.to_owned());
    table += &format!("|---|{}\n", "---|".repeat(parts.len()));
    table += &row("goal", &|part, _| part.goal.to_string());
    table += &row("length", &|_, runs| to_length(runs.seconds));
    table += &number("runs", &|runs| runs.runs);
    table += &number("holds", &|runs| runs.holds);
    table += &number("of which lost", &|runs| runs.lost);
    table += &row("holds a second", &|_, runs| {
        format!("{:.1}", runs.density())
    });
    table += &row("million holds a core-hour", &|_, runs| {
        let rate = runs.holds_per_core_hour();
        rate.map_or_else(String::new, |rate| format!("{:.2}", rate / 1e6))
    });
    table += &number("requests for values", &|runs| runs.data.requests as u64);
    table += &number("of which in doubt", &|runs| runs.data.in_doubt as u64);
    table += &number("raises of the token offset", &|runs| {
        runs.data.raised as u64
    });
    table += &number("faults", &|runs| runs.faults.values().sum());
    let kinds = parts.iter().flat_map(|(_, runs)| runs.faults.keys());
    for kind in kinds.collect::<BTreeSet<_>>() {
        table += &number(kind, &|runs| {
            runs.faults.get(kind).copied().unwrap_or_default()
        });
    }
    table += &number("rules broken by the servers", &|runs| {
        runs.violations_of_servers
    });
    table += &number("failed", &|runs| runs.failures.len() as u64);
    table += &row("wall time", &|_, runs| to_length(runs.wall_seconds));
    table += &row("commits", &|_, runs| runs.commits.join(" "));
    table
}

fn write_fuzz(results: &Results) -> String {
    let parts = PARTS
        .iter()
        .filter(|part| matches!(part.work, Work::Fuzz(_)));
    let rows = parts.map(|part| {
        let runs = part.find_runs(results);
        format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            part.name,
            part.goal,
            group_digits(runs.runs),
            runs.failures.len(),
            to_length(runs.wall_seconds),
            runs.commits.join(" ")
        )
    });
    rows.collect()
}

fn write_levels(results: &Results) -> String {
    let levels = results.runs.values().flat_map(|runs| &runs.levels);
    let rows = levels.map(|(what, level)| {
        format!(
            "| {what} | {} | {} | {} |\n",
            group_digits(level.second_quarter),
            group_digits(level.last_quarter),
            group_digits(level.highest)
        )
    });
    rows.collect()
}

fn write_failures(results: &Results) -> String {
    let failures = results.runs.values().flat_map(|runs| &runs.failures);
    let lines = failures.map(|failure| format!("- `{}` at {}\n", failure.command, failure.commit));
    let lines: String = lines.collect();
    match lines.is_empty() {
        true => "Nothing.\n".to_owned(),
        false => lines,
    }
}

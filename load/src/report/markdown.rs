//! The report as a page of Markdown.

use super::{Machine, Report};

const EXPLANATION: &str = "\
One operation is a lock acquired and released; of `raw`, one ephemeral entry created and deleted by
the same client without any lock; of `drain`, a turn, counted from the moment when all queued at
once. `of raw` compares the rate with that of `raw` in the same round: with one worker where the
lock goes from hand to hand (`contended`, `drain`), otherwise with as many workers. Rates and
latencies are medians over the rounds.

![Latency against workers](report.svg)
";

pub(super) fn page(report: &Report, machine: &Machine) -> String {
    let mut page = format!("# What the locks cost\n\nMachine: {machine}.\n\n{EXPLANATION}\n");
    for warning in report.noise() {
        page.push_str(&format!("**Warning:** {warning}.\n\n"));
    }
    let mut rows = report.table().into_iter();
    if let Some(heading) = rows.next() {
        page.push_str(&row(&heading));
        page.push_str("|---|---|---:|---:|---:|---:|---:|\n");
    }
    rows.for_each(|cells| page.push_str(&row(&cells)));
    page
}

fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

//! The table of what was caught by what.

use std::time::Duration;

use crate::exhibit::Exhibit;

/// Where it is.
pub const FILE: &str = "conformance/MUSEUM.md";

const HEAD: &str = "\
# The museum of known bugs

Each of these bugs of this and other lock services and clients was put back into this code, as the patch of its name in
[museum](museum/), and the test beside it failed. Without them all of the tests passed. Written by
`cargo run -p conformance --bin museum`, which fails if a bug goes unnoticed; the seconds are those of the test that failed.

| Exhibit | Bug | Known from | Put into | Caught by | Seconds |
|---|---|---|---|---|---|
";

/// The whole file.
pub fn of(caught: &[(Exhibit, Duration)]) -> String {
    let rows = caught
        .iter()
        .map(|(exhibit, took)| format!("{} {:.1} |\n", row(exhibit), took.as_secs_f64()));
    HEAD.to_owned() + &rows.collect::<String>()
}

/// A row, up to the seconds.
pub fn row(exhibit: &Exhibit) -> String {
    let Exhibit {
        name,
        bug,
        source,
        mutates,
        caught_by,
        ..
    } = exhibit;
    format!(
        "| `{name}` | {bug} | {source} | {mutates} | {}: `{}` |",
        caught_by.package(),
        caught_by.name()
    )
}

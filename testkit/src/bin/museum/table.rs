//! Writes the table of the exhibits and the tests that caught them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::exhibit::Exhibit;

/// The file of the table.
pub const FILE: &str = "testkit/MUSEUM.md";

const HEAD: &str = "\
# The museum of known bugs

Each of these bugs of this and other lock services and clients was put back into this code, as the \
patch of its name in
[museum](museum/), and the test beside it failed. Without them all of the tests passed. Written by
`cargo run -p testkit --bin museum`, which fails if a bug goes unnoticed; the seconds are those of \
the test that failed.

| Exhibit | Bug | Known from | Put into | Caught by | Seconds |
|---|---|---|---|---|---|
";

/// Returns the file with new rows for the exhibits that were tried and caught now, and with the old
/// rows of the other exhibits.
pub fn renew(old: &str, all: &[Exhibit], tried: &BTreeMap<&str, Option<Duration>>) -> String {
    let mut table = HEAD.to_owned();
    for exhibit in all {
        let row = row(exhibit);
        let line = match tried.get(exhibit.name.as_str()) {
            Some(caught) => caught.map(|took| format!("{row} {:.1} |", took.as_secs_f64())),
            None => (rows(old).find(|line| line.starts_with(&row))).map(str::to_owned),
        };
        table.extend(line.map(|line| line + "\n"));
    }
    table
}

/// Returns the rows of a file.
pub fn rows(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter(|line| line.starts_with("| `"))
}

/// Returns a row, up to the seconds.
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

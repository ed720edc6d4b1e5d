//! Reads and writes the table of the bugs that the simulation finds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use super::search::{Finds, SEEDS};
use crate::exhibit::Exhibit;

/// The file of the table.
pub const FILE: &str = "testkit/SIMULATED.md";

const HEAD: &str = "\
# The museum of known bugs, in the simulation

Each of these bugs is put back into the code, as the patch of its name in [museum](museum/), and the
[simulation](../docs/proofs.md#the-simulation) is run with one seed after another until a run breaks
a rule. There are five such searches for each bug, with seeds from 1, 100001, 200001, 300001 and
400001 on. A search takes at most 500 seeds. A bug counts as found if most of its searches have
success. Without the bugs none of these runs breaks a rule. Written by
`cargo run -p testkit --bin museum -- --simulation`.
";

const FOUND: &str = "
| Exhibit | Seeds to find, median | Tier | Each search | Rules broken |
|---|---|---|---|---|
";

const UNSEEN: &str = "
These are not found:

| Exhibit | Why no run shows it |
|---|---|
";

/// What is known of one exhibit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    Found(Finds),
    /// The reason why no run shows the bug.
    Unseen(String),
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Row::Found(finds) => write!(f, "{} | {finds}", finds.median().unwrap_or(SEEDS)),
            Row::Unseen(reason) => f.write_str(reason),
        }
    }
}

/// The rows by the names of their exhibits.
pub struct Table {
    rows: BTreeMap<String, Row>,
}

impl Table {
    /// Reads the table. It is empty if there is no file.
    pub fn read(root: &Path) -> Result<Table, String> {
        let text = fs::read_to_string(root.join(FILE)).unwrap_or_default();
        let lines = crate::table::rows(&text);
        let rows = lines.map(|line| parse(line).ok_or_else(|| format!("{FILE}: {line}")));
        Ok(Table {
            rows: rows.collect::<Result<_, _>>()?,
        })
    }

    pub fn has_any(&self) -> bool {
        !self.rows.is_empty()
    }

    pub fn get(&self, exhibit: &Exhibit) -> Option<&Row> {
        self.rows.get(&exhibit.name)
    }

    pub fn set(&mut self, exhibit: &Exhibit, row: Row) {
        self.rows.insert(exhibit.name.clone(), row);
    }

    pub fn remove(&mut self, exhibit: &Exhibit) {
        self.rows.remove(&exhibit.name);
    }

    pub fn write(&self, root: &Path, all: &[Exhibit]) -> Result<(), String> {
        let file = root.join(FILE);
        fs::write(&file, self.render(all)).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Returns the text of the table, with the rows of these exhibits only.
    pub fn render(&self, all: &[Exhibit]) -> String {
        let (mut found, mut unseen) = (String::new(), String::new());
        let mut medians = vec![];
        for exhibit in all {
            let Some(row) = self.get(exhibit) else {
                continue;
            };
            let line = format!("| `{}` | {row} |\n", exhibit.name);
            match row {
                Row::Found(finds) => {
                    medians.extend(finds.median());
                    found.push_str(&line);
                }
                Row::Unseen(_) => unseen.push_str(&line),
            }
        }
        medians.sort_unstable();
        let searched = all.iter().filter(|it| self.get(it).is_some()).count();
        let mut summary = format!(
            "\n{} of {searched} exhibits are found. The median of their medians is {}.\n",
            medians.len(),
            medians.get(medians.len() / 2).unwrap_or(&0)
        );
        if searched < all.len() {
            let left = all.len() - searched;
            summary += &format!("The searches for {left} others have not been made yet.\n");
        }
        [HEAD, &summary, FOUND, &found, UNSEEN, &unseen].concat()
    }
}

/// Parses a row, with the name of its exhibit.
fn parse(line: &str) -> Option<(String, Row)> {
    let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
    let (name, row) = match cells[..] {
        [name, _median, tier, seeds, rules] => {
            let seeds = seeds.split(", ").map(|seeds| match seeds {
                "none" => Some(None),
                seeds => seeds.parse().ok().map(Some),
            });
            let finds = Finds {
                tier: tier.parse().ok()?,
                seeds: seeds.collect::<Option<_>>()?,
                rules: rules
                    .split(", ")
                    .map(str::to_owned)
                    .collect::<BTreeSet<_>>(),
            };
            (name, Row::Found(finds))
        }
        [name, reason] => (name, Row::Unseen(reason.to_owned())),
        _ => return None,
    };
    Some((name.trim_matches('`').to_owned(), row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written() {
        for row in [
            Row::Found(Finds {
                tier: "grpc".parse().expect("a tier"),
                seeds: vec![Some(2), Some(3), Some(40), None, None],
                rules: ["B1", "S1"].map(str::to_owned).into(),
            }),
            Row::Unseen("no run restores a backup".to_owned()),
        ] {
            let line = format!("| `01-readers` | {row} |");
            assert_eq!(parse(&line), Some(("01-readers".to_owned(), row)));
        }
    }
}

//! The lists of tests, and what is expected of each.

use std::collections::BTreeMap;
use std::fmt;

use crate::beside;
use crate::server::Kind;

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
        })
    }
}

impl Outcome {
    fn parse(text: &str) -> Option<Self> {
        [Outcome::Passed, Outcome::Failed]
            .into_iter()
            .find(|outcome| outcome.to_string() == text)
    }
}

/// The expected outcomes of the tests of one program, by their names.
pub struct List {
    name: &'static str,
    rows: BTreeMap<String, [Outcome; 2]>,
}

impl List {
    /// Reads a list. Its lines are NAME | ETCD | TURNLOCK | REASON, and the reason is there if and
    /// only if something fails.
    pub fn read(name: &'static str) -> Self {
        let text = std::fs::read_to_string(beside(name)).expect("a list");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let rows = lines.map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let (test, outcomes, reason) = match cells[..] {
                [test, etcd, ours] => (test, [etcd, ours], None),
                [test, etcd, ours, reason] => (test, [etcd, ours], Some(reason)),
                _ => panic!("{name}: not NAME | ETCD | TURNLOCK | REASON: {line}"),
            };
            let outcomes = outcomes.map(|outcome| {
                Outcome::parse(outcome).unwrap_or_else(|| panic!("{name}: no outcome in: {line}"))
            });
            let fails = outcomes.contains(&Outcome::Failed);
            assert_eq!(fails, reason.is_some(), "{name}: a reason in: {line}");
            (test.to_owned(), outcomes)
        });
        List {
            name,
            rows: rows.collect(),
        }
    }

    /// Returns the tests that are expected to end like this on a server of this kind.
    pub fn expected(&self, kind: Kind, outcome: Outcome) -> Vec<&str> {
        let rows = self.rows.iter();
        rows.filter(|(_, outcomes)| outcomes[kind as usize] == outcome)
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// Checks that exactly the listed tests ran, and that they ended as listed.
    pub fn check(&self, kind: Kind, ended: &BTreeMap<String, Outcome>, said: &str) {
        let mut wrong = Vec::new();
        for (test, outcomes) in &self.rows {
            let expected = outcomes[kind as usize];
            match ended.get(test) {
                Some(outcome) if *outcome == expected => {}
                Some(outcome) => wrong.push(format!("{test} {outcome}, not {expected}")),
                None => wrong.push(format!("{test} did not run")),
            }
        }
        let unknown = ended.keys().filter(|test| !self.rows.contains_key(*test));
        wrong.extend(unknown.map(|test| format!("{test} is not in the list")));
        let passed = ended
            .values()
            .filter(|outcome| **outcome == Outcome::Passed);
        println!(
            "{} on {kind:?}: {} of {} passed",
            self.name,
            passed.count(),
            ended.len()
        );
        assert!(
            wrong.is_empty(),
            "other than in {}: {wrong:#?}\n{said}",
            self.name
        );
    }
}

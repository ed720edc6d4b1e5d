//! Runs `tools/simulate` in the copy until a run breaks a rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;

use serde::Deserialize;

/// The first seed of each search.
const STARTS: [u64; 5] = [1, 100_001, 200_001, 300_001, 400_001];
/// How many seeds a search may take.
pub const SEEDS: u64 = 500;
/// The exit status of a simulation in which a run broke a rule.
const BROKEN: i32 = 1;

/// How much of the stack is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    Core,
    Embedded,
    Grpc,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::Core => "core",
            Tier::Embedded => "embedded",
            Tier::Grpc => "grpc",
        })
    }
}

impl FromStr for Tier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let tiers = [Tier::Core, Tier::Embedded, Tier::Grpc];
        let named = tiers.into_iter().find(|tier| tier.to_string() == text);
        named.ok_or_else(|| format!("there is no tier {text:?}"))
    }
}

/// What the searches for one bug have found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finds {
    pub tier: Tier,
    /// How many seeds each search took, in rising order. A search without success comes last.
    pub seeds: Vec<Option<u64>>,
    /// The rules that were broken.
    pub rules: BTreeSet<String>,
}

impl Finds {
    /// Returns the median of the searches, if most of them had success.
    pub fn median(&self) -> Option<u64> {
        *self.seeds.get(STARTS.len() / 2)?
    }
}

impl fmt::Display for Finds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seeds = self.seeds.iter().map(|seeds| match seeds {
            Some(seeds) => seeds.to_string(),
            None => "none".to_owned(),
        });
        let seeds = seeds.collect::<Vec<_>>().join(", ");
        let rules: Vec<_> = self.rules.iter().map(String::as_str).collect();
        write!(f, "{} | {seeds} | {}", self.tier, rules.join(", "))
    }
}

/// Searches for a bug that is in the code of this folder, in the first of these tiers that shows it.
/// Returns `None` if most searches had no success.
pub fn search(folder: &Path, tiers: &[Tier]) -> Result<Option<Finds>, String> {
    for tier in tiers {
        let finds = search_in(folder, *tier)?;
        if finds.median().is_some() {
            return Ok(Some(finds));
        }
    }
    Ok(None)
}

/// Makes the searches of one tier. If the first has no success, the others are left out.
fn search_in(folder: &Path, tier: Tier) -> Result<Finds, String> {
    let mut finds = Finds {
        tier,
        seeds: vec![],
        rules: BTreeSet::new(),
    };
    for start in STARTS {
        let summary = simulate(folder, tier, start)?;
        finds.rules.extend(summary.broken.into_keys());
        let seeds = summary.failed_runs.iter().map(|run| seed(run));
        let first = seeds.min().transpose()?;
        finds.seeds.push(first.map(|seed| seed + 1 - start));
        if finds.seeds == [None] {
            break;
        }
    }
    finds.seeds.sort_by_key(|seeds| seeds.unwrap_or(u64::MAX));
    Ok(finds)
}

/// Makes the runs of all searches, without a bug.
pub fn check_without_a_bug(folder: &Path, tier: Tier) -> Result<(), String> {
    for start in STARTS {
        let summary = simulate(folder, tier, start)?;
        if let Some(run) = summary.failed_runs.first() {
            return Err(format!("the run {run} breaks a rule without any bug"));
        }
    }
    Ok(())
}

/// What `tools/simulate --json` says, as far as it matters.
#[derive(Deserialize)]
struct Summary {
    failed_runs: Vec<String>,
    /// How many runs broke each rule.
    broken: BTreeMap<String, u64>,
}

/// Runs the simulation with the seeds of one search, until a run fails.
fn simulate(folder: &Path, tier: Tier, start: u64) -> Result<Summary, String> {
    let (tier, end) = (tier.to_string(), start + SEEDS);
    let output = Command::new(folder.join("tools/simulate"))
        .args(["--json", "--until-failure", "--tier", &tier])
        .args(["--seeds", &format!("{start}..{end}")])
        .stderr(Stdio::piped())
        .output();
    let output = output.map_err(|error| format!("tools/simulate does not run: {error}"))?;
    match output.status.code() {
        Some(0 | BROKEN) => serde_json::from_slice(&output.stdout).map_err(|e| e.to_string()),
        _ => Err(format!(
            "tools/simulate fails:\n{}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// Returns the seed of a run, which is the last word of its name.
fn seed(run: &str) -> Result<u64, String> {
    let last = run.split(' ').next_back().unwrap_or_default();
    last.parse().map_err(|_| format!("{run:?} names no run"))
}

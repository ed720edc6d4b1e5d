//! What runs have shown: one by one, and all together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use testkit::chaos::report::{Acquires, Data};
use testkit::checker::Violation;
use testkit::history::History;

use crate::setup::Setup;

/// What stands for a rule where a panic ended a task or a run.
pub const PANIC: &str = "panic";

/// The outcome of a run. One program writes it, and another reads it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    pub setup: Setup,
    /// The time that passed in the world, in milliseconds.
    pub simulated_ms: u64,
    /// The hash of all that happened.
    pub trace: u64,
    pub events: u64,
    pub acquires: usize,
    pub holds: usize,
    pub lost: usize,
    pub data: Data,
    pub faults: BTreeMap<String, usize>,
    /// The rules that Turnlock broke.
    pub broken: BTreeSet<String>,
    /// How it broke them.
    pub violations: Vec<String>,
}

impl Outcome {
    pub fn new(
        setup: Setup,
        simulated: Duration,
        (trace, events): (u64, u64),
        history: &History,
        violations: &[&Violation],
    ) -> Self {
        let acquires = Acquires::of(history);
        let mut faults = BTreeMap::new();
        for fault in &history.faults {
            *faults.entry(fault.what.clone()).or_default() += 1;
        }
        Outcome {
            setup,
            simulated_ms: u64::try_from(simulated.as_millis()).unwrap_or(u64::MAX),
            trace,
            events,
            acquires: acquires.called,
            holds: acquires.granted,
            lost: acquires.lost,
            data: Data::of(history),
            faults,
            broken: violations.iter().map(|it| it.rule.to_string()).collect(),
            violations: violations.iter().map(ToString::to_string).collect(),
        }
    }

    /// Returns the outcome of a run that could not go on.
    pub fn failed(setup: Setup, reason: &str) -> Self {
        Outcome {
            setup,
            simulated_ms: 0,
            trace: 0,
            events: 0,
            acquires: 0,
            holds: 0,
            lost: 0,
            data: Data::default(),
            faults: BTreeMap::new(),
            broken: [PANIC.to_owned()].into(),
            violations: vec![format!("the run could not go on: {reason}")],
        }
    }
}

/// The sum of many runs without those of the corpus, as `--json` prints it.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    pub runs: usize,
    pub failed: usize,
    /// The runs that failed, also of the corpus, as it names them.
    failed_runs: Vec<String>,
    /// The first seed that was not run.
    pub next_seed: u64,
    acquires: usize,
    holds: usize,
    lost: usize,
    data: Data,
    simulated_seconds: f64,
    pub wall_seconds: f64,
    /// The time that the workers took of all processors.
    pub cpu_seconds: f64,
    /// The number of failed runs in which each rule was broken.
    broken: BTreeMap<String, usize>,
    /// The number of faults of each kind.
    faults: BTreeMap<String, usize>,
}

impl Summary {
    /// Notes the run if it failed.
    pub fn judge(&mut self, outcome: &Outcome) {
        if !outcome.violations.is_empty() {
            self.failed += 1;
            self.failed_runs.push(outcome.setup.to_string());
        }
        for rule in &outcome.broken {
            *self.broken.entry(rule.clone()).or_default() += 1;
        }
    }

    /// Adds what happened in the run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.acquires += outcome.acquires;
        self.holds += outcome.holds;
        self.lost += outcome.lost;
        self.data += outcome.data;
        self.simulated_seconds += Duration::from_millis(outcome.simulated_ms).as_secs_f64();
        for (what, count) in &outcome.faults {
            *self.faults.entry(what.clone()).or_default() += count;
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let simulated = self.simulated_seconds;
        writeln!(f, "runs            {}, {} failed", self.runs, self.failed)?;
        writeln!(
            f,
            "simulated       {:.1} h in {:.1} s, with {:.1} s of processors: {:.0} times real time",
            simulated / 3600.0,
            self.wall_seconds,
            self.cpu_seconds,
            simulated / self.wall_seconds.max(0.001)
        )?;
        writeln!(
            f,
            "holds           {} of {} acquires, {} lost; {:.2} million a core-hour",
            self.holds,
            self.acquires,
            self.lost,
            self.holds as f64 / self.cpu_seconds.max(0.001) * 3600.0 / 1e6
        )?;
        writeln!(f, "data            {}", self.data)?;
        write!(f, "faults          {}", self.faults.values().sum::<usize>())?;
        for (what, count) in &self.faults {
            write!(f, "\n  {what:<28}{count}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome {
            setup,
            trace,
            events,
            holds,
            ..
        } = self;
        write!(
            f,
            "{setup}: {holds} holds, {events} events, trace {trace:016x}"
        )?;
        for violation in &self.violations {
            write!(f, "\n\n{violation}")?;
        }
        Ok(())
    }
}

//! What runs have shown: one by one, and all together.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use testkit::chaos::report::Acquires;
use testkit::history::History;

use crate::setup::Setup;

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
    pub faults: BTreeMap<String, usize>,
    /// The rules that Turnlock broke.
    pub violations: Vec<String>,
}

impl Outcome {
    pub fn new(
        setup: Setup,
        simulated: Duration,
        (trace, events): (u64, u64),
        acquires: Acquires,
        history: &History,
        violations: Vec<String>,
    ) -> Self {
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
            faults,
            violations,
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
            faults: BTreeMap::new(),
            violations: vec![format!("the run could not go on: {reason}")],
        }
    }
}

/// The sum of many runs.
#[derive(Debug, Default)]
pub struct Summary {
    pub runs: usize,
    pub failed: usize,
    simulated: Duration,
    acquires: usize,
    holds: usize,
    lost: usize,
    faults: BTreeMap<String, usize>,
}

impl Summary {
    pub fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.failed += usize::from(!outcome.violations.is_empty());
        self.simulated += Duration::from_millis(outcome.simulated_ms);
        self.acquires += outcome.acquires;
        self.holds += outcome.holds;
        self.lost += outcome.lost;
        for (what, count) in &outcome.faults {
            *self.faults.entry(what.clone()).or_default() += count;
        }
    }

    /// Returns the report of runs that took this long on so many processors.
    pub fn report(&self, took: Duration, jobs: usize) -> String {
        let core_hours = took.as_secs_f64() * jobs as f64 / 3600.0;
        let mut lines = vec![
            format!("runs            {}, {} failed", self.runs, self.failed),
            format!(
                "simulated       {:.1} h in {:.1} s: {:.0} times real time",
                self.simulated.as_secs_f64() / 3600.0,
                took.as_secs_f64(),
                self.simulated.as_secs_f64() / took.as_secs_f64().max(0.001)
            ),
            format!(
                "holds           {} of {} acquires, {} lost; {:.2} million a core-hour",
                self.holds,
                self.acquires,
                self.lost,
                self.holds as f64 / core_hours.max(1e-9) / 1e6
            ),
            format!("faults          {}", self.faults.values().sum::<usize>()),
        ];
        let each = self.faults.iter();
        lines.extend(each.map(|(what, count)| format!("  {what:<28}{count}")));
        lines.join("\n")
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

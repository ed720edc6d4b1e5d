//! The parts and their goals.

use std::io;
use std::time::Duration;

use crate::goal::Goal;
use crate::results::{Results, Runs, Store};
use crate::slice::Slice;
use crate::{chaos, simulation};

/// The time with faults that each backend needs, in seconds.
const CHAOS: f64 = 15.0 * 60.0;
const DAY: f64 = 24.0 * 3600.0;

/// A part, which a command names.
#[derive(Debug, PartialEq)]
pub struct Part {
    pub name: &'static str,
    pub work: Work,
}

/// What a part does.
#[derive(Debug, PartialEq)]
pub enum Work {
    /// Runs of `tools/simulate` with these options.
    Simulation(&'static [&'static str], Goal),
    /// Runs of the program `chaos` with these options.
    Chaos(&'static [&'static str], Goal),
}

/// All parts, in the order in which they are done.
pub const PARTS: [Part; 8] = [
    Part {
        name: "grpc-busy",
        work: Work::Simulation(
            &["--tier", "grpc", "--profile", "busy"],
            Goal {
                holds: 25_000_000,
                seconds: 10.0 * DAY,
                density: 12.0,
            },
        ),
    },
    Part {
        name: "grpc-sparse",
        work: Work::Simulation(
            &["--tier", "grpc", "--profile", "sparse"],
            Goal {
                seconds: 355.0 * DAY,
                ..Goal::NOTHING
            },
        ),
    },
    Part {
        name: "grpc-dense",
        work: Work::Simulation(
            &["--tier", "grpc", "--profile", "dense"],
            Goal {
                seconds: DAY,
                ..Goal::NOTHING
            },
        ),
    },
    Part {
        name: "grpc-storm",
        work: Work::Simulation(
            &["--tier", "grpc", "--profile", "storm"],
            Goal {
                seconds: DAY,
                ..Goal::NOTHING
            },
        ),
    },
    Part {
        name: "embedded-dense",
        work: Work::Simulation(
            &["--tier", "embedded", "--profile", "dense"],
            Goal {
                holds: 75_000_000,
                ..Goal::NOTHING
            },
        ),
    },
    on_servers("chaos-embedded", &["--backend", "embedded"]),
    on_servers("chaos-etcd", &["--backend", "etcd"]),
    on_servers("chaos-zk", &["--backend", "zk"]),
];

const fn on_servers(name: &'static str, options: &'static [&'static str]) -> Part {
    let goal = Goal {
        seconds: CHAOS,
        ..Goal::NOTHING
    };
    Part {
        name,
        work: Work::Chaos(options, goal),
    }
}

impl Part {
    /// Works on the part until its goal is reached or the slice is over. Returns whether something
    /// failed.
    ///
    /// # Errors
    /// If the part cannot go on, or a signal has come.
    pub fn work(&self, slice: &Slice, store: &Store) -> io::Result<bool> {
        let mut has_failed = false;
        loop {
            let so_far = self.find_runs(&store.read()?);
            println!("{}: {}", self.name, self.goal().describe(&so_far));
            if self.goal().share(&so_far) >= 1.0 || slice.time_left() <= self.least() {
                return Ok(has_failed);
            }
            let later = match &self.work {
                Work::Simulation(options, _) => simulation::run(slice, options, &so_far)?,
                Work::Chaos(options, goal) => {
                    let log = store.log(self.name)?;
                    chaos::run(slice, options, goal, &so_far, &log)?
                }
            };
            for failure in &later.failures {
                println!("{}: failed: {}", self.name, failure.command);
                has_failed = true;
            }
            store.change(|results| {
                results
                    .runs
                    .entry(self.name.to_owned())
                    .or_default()
                    .add(later);
            })?;
        }
    }

    /// Returns what the part lacks, for people.
    pub fn missing(&self, results: &Results) -> Vec<String> {
        self.goal().missing(&self.find_runs(results))
    }

    /// Returns the results of the part.
    pub fn find_runs(&self, results: &Results) -> Runs {
        results.runs.get(self.name).cloned().unwrap_or_default()
    }

    pub fn goal(&self) -> &Goal {
        match &self.work {
            Work::Simulation(_, goal) | Work::Chaos(_, goal) => goal,
        }
    }

    /// Returns the time below which the part does not begin a run.
    fn least(&self) -> Duration {
        match &self.work {
            Work::Simulation(..) => Duration::ZERO,
            Work::Chaos(..) => chaos::LEAST,
        }
    }
}

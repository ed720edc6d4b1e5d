//! Works on a part of the long runs.

use std::io;
use std::time::Duration;

use crate::goal::Goal;
use crate::results::{Results, Runs, Store};
use crate::search::Search;
use crate::slice::Slice;
use crate::{chaos, coordinator, search, simulation};

/// A part, which a command names.
#[derive(Debug, PartialEq)]
pub struct Part {
    pub name: &'static str,
    pub goal: Goal,
    pub work: Work,
}

/// What a part does.
#[derive(Debug, PartialEq)]
pub enum Work {
    /// Makes runs of `tools/simulate` with these options.
    Simulation(&'static [&'static str]),
    /// Makes runs of the program `chaos` with these options.
    Chaos(&'static [&'static str]),
    /// Puts the real coordinator under load.
    Coordinator,
    /// Repeats a random test.
    Fuzz(Search),
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
            println!("{}: {}", self.name, self.goal.describe(&so_far));
            if self.goal.share(&so_far) >= 1.0 || slice.time_left() <= self.least(slice) {
                return Ok(has_failed);
            }
            let later = self.go_on(slice, store, &so_far)?;
            for failure in &later.failures {
                println!("{}: failed: {}", self.name, failure.command);
                has_failed = true;
            }
            store.change(|results| {
                let runs = results.runs.entry(self.name.to_owned());
                runs.or_default().add(later);
            })?;
        }
    }

    /// Makes the next runs.
    fn go_on(&self, slice: &Slice, store: &Store, so_far: &Runs) -> io::Result<Runs> {
        let folder = store.folder()?;
        let log = folder.join(format!("{}.log", self.name));
        match &self.work {
            Work::Simulation(options) => simulation::run(slice, options, so_far),
            Work::Chaos(options) => chaos::run(slice, options, &self.goal, so_far, &log),
            Work::Coordinator => coordinator::run(slice, &self.goal, so_far, &folder, &log),
            Work::Fuzz(search) => search::run(slice, search, so_far, &log),
        }
    }

    /// Returns what the part lacks, for people.
    pub fn missing(&self, results: &Results) -> Vec<String> {
        self.goal.missing(&self.find_runs(results))
    }

    /// Returns the results of the part.
    pub fn find_runs(&self, results: &Results) -> Runs {
        results.runs.get(self.name).cloned().unwrap_or_default()
    }

    /// Returns the time below which no run is begun.
    fn least(&self, slice: &Slice) -> Duration {
        match &self.work {
            Work::Simulation(_) | Work::Fuzz(_) => Duration::ZERO,
            Work::Chaos(_) => chaos::LEAST,
            Work::Coordinator => coordinator::least(slice, &self.goal),
        }
    }
}

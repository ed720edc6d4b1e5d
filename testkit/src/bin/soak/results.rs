//! Keeps the results in a file of the repository.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use testkit::chaos::report::Data;

use crate::flatness::Level;
use crate::page;

/// All results so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Results {
    /// The runs of each part, by its name.
    pub runs: BTreeMap<String, Runs>,
}

/// The sums of many runs. Each part has those that it can have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Runs {
    /// The first seed that was not run.
    pub next_seed: u64,
    /// The number of runs, or of the cases of a random test.
    pub runs: u64,
    pub acquires: u64,
    pub holds: u64,
    pub lost: u64,
    pub data: Data,
    /// How long the runs were: in simulated seconds, or with faults or load in real ones.
    pub seconds: f64,
    pub wall_seconds: f64,
    /// The processor time of the simulations.
    pub cpu_seconds: f64,
    pub faults: BTreeMap<String, u64>,
    /// The violations for which etcd or ZooKeeper is to blame.
    pub violations_of_servers: u64,
    /// What the coordinator used under load.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub levels: BTreeMap<String, Level>,
    pub commits: Vec<String>,
    pub failures: Vec<Failure>,
}

/// A run that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The command that shows it.
    pub command: String,
    pub commit: String,
}

impl Default for Runs {
    fn default() -> Self {
        Runs {
            next_seed: 1,
            runs: 0,
            acquires: 0,
            holds: 0,
            lost: 0,
            data: Data::default(),
            seconds: 0.0,
            wall_seconds: 0.0,
            cpu_seconds: 0.0,
            faults: BTreeMap::new(),
            violations_of_servers: 0,
            levels: BTreeMap::new(),
            commits: vec![],
            failures: vec![],
        }
    }
}

impl Runs {
    /// Returns the number of holds a second.
    pub fn density(&self) -> f64 {
        self.holds as f64 / self.seconds.max(1.0)
    }

    /// Returns the number of holds that an hour of one processor makes, if its time was measured.
    pub fn holds_per_core_hour(&self) -> Option<f64> {
        (self.cpu_seconds > 0.0).then(|| self.holds as f64 / self.cpu_seconds * 3600.0)
    }

    /// Adds later runs.
    pub fn add(&mut self, later: Runs) {
        self.next_seed = later.next_seed;
        self.runs += later.runs;
        self.acquires += later.acquires;
        self.holds += later.holds;
        self.lost += later.lost;
        self.data += later.data;
        self.seconds += later.seconds;
        self.wall_seconds += later.wall_seconds;
        self.cpu_seconds += later.cpu_seconds;
        for (what, count) in later.faults {
            *self.faults.entry(what).or_default() += count;
        }
        self.violations_of_servers += later.violations_of_servers;
        self.levels.extend(later.levels);
        add_new(&mut self.commits, later.commits);
        add_new(&mut self.failures, later.failures);
    }
}

/// Adds what is not yet there.
pub fn add_new<T: PartialEq>(all: &mut Vec<T>, later: Vec<T>) {
    for one in later {
        if !all.contains(&one) {
            all.push(one);
        }
    }
}

/// The file of the results, and the page that shows them.
pub struct Store {
    root: PathBuf,
}

const DATA: &str = "testkit/SOAK.json";
const PAGE: &str = "testkit/SOAK.md";

impl Store {
    pub fn new(root: &Path) -> Self {
        Store {
            root: root.to_owned(),
        }
    }

    /// Reads the results.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn read(&self) -> io::Result<Results> {
        match fs::read(self.root.join(DATA)) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| io::Error::other(format!("{DATA}: {error}"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Results::default()),
            Err(error) => Err(at(DATA, &error)),
        }
    }

    /// Changes the results. Other calls of this program wait meanwhile.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn change(&self, change: impl FnOnce(&mut Results)) -> io::Result<Results> {
        let lock = File::create(self.folder()?.join("lock"))?;
        lock.lock()?;
        let mut results = self.read()?;
        change(&mut results);
        let text = serde_json::to_string_pretty(&results)?;
        self.replace(DATA, &(text + "\n"))?;
        self.replace(PAGE, &page::write(&results))?;
        Ok(results)
    }

    /// Keeps other calls of this program from the same part, until the file is dropped. Returns
    /// `None` if another call works on the part.
    ///
    /// # Errors
    /// If the file cannot be locked.
    pub fn claim(&self, part: &str) -> io::Result<Option<File>> {
        let file = File::create(self.folder()?.join(format!("{part}.lock")))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Returns the folder for all that is not kept.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn folder(&self) -> io::Result<PathBuf> {
        let folder = self.root.join("target/soak");
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Replaces a file as a whole, so that a kill leaves the old one or the new one.
    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.root.join(name);
        let draft = path.with_extension("draft");
        fs::write(&draft, text).map_err(|error| at(name, &error))?;
        fs::rename(&draft, &path).map_err(|error| at(name, &error))
    }
}

fn at(name: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(next_seed: u64, commit: &str, failed: &[&str]) -> Runs {
        let failure = |command: &&str| Failure {
            command: (*command).to_owned(),
            commit: commit.to_owned(),
        };
        Runs {
            next_seed,
            runs: 10,
            holds: 100,
            seconds: 60.0,
            cpu_seconds: 0.5,
            faults: [("disk full".to_owned(), 2)].into(),
            commits: vec![commit.to_owned()],
            failures: failed.iter().map(failure).collect(),
            ..Runs::default()
        }
    }

    #[test]
    fn later_runs_are_added_and_go_on_where_the_last_ones_stopped() {
        let mut all = Runs::default();
        assert_eq!(all.next_seed, 1);
        all.add(runs(11, "a", &["the corpus", "seed 7"]));
        all.add(Runs {
            faults: [("disk full".to_owned(), 1), ("disk slow".to_owned(), 4)].into(),
            ..runs(21, "a", &["the corpus"])
        });
        all.add(runs(31, "b", &["the corpus"]));
        assert_eq!((all.next_seed, all.runs, all.holds), (31, 30, 300));
        assert_eq!((all.seconds, all.cpu_seconds), (180.0, 1.5));
        assert_eq!(all.faults["disk full"], 5);
        assert_eq!(all.faults["disk slow"], 4);
        assert_eq!(all.commits, ["a", "b"]);
        // One that fails again on the same commit is kept once.
        let failed = all.failures.iter();
        let failed: Vec<_> = failed.map(|f| (&*f.command, &*f.commit)).collect();
        assert_eq!(
            failed,
            [("the corpus", "a"), ("seed 7", "a"), ("the corpus", "b")]
        );
    }

    #[test]
    fn results_outlive_the_program_and_keep_what_other_parts_have_done() {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir(root.path().join("testkit")).expect("a folder");
        let add = |part: &str| {
            let store = Store::new(root.path());
            let change = |results: &mut Results| {
                let runs = runs(11, "a", &[]);
                results.runs.entry(part.to_owned()).or_default().add(runs);
            };
            store.change(change).expect("written")
        };
        add("grpc-dense");
        add("chaos-zk");
        let results = add("grpc-dense");
        assert_eq!(results.runs["grpc-dense"].holds, 200);
        assert_eq!(results.runs["chaos-zk"].holds, 100);
        let store = Store::new(root.path());
        assert_eq!(store.read().expect("readable"), results);

        fs::write(root.path().join(DATA), "{").expect("written");
        let error = store.read().expect_err("damaged");
        assert!(error.to_string().starts_with(DATA), "{error}");
    }

    #[test]
    fn a_part_is_worked_on_by_one_call_at_a_time() {
        let root = tempfile::tempdir().expect("a folder");
        let store = Store::new(root.path());
        let claim = store.claim("chaos-zk").expect("a file");
        assert!(claim.is_some());
        assert!(store.claim("chaos-zk").expect("a file").is_none());
        assert!(store.claim("chaos-etcd").expect("a file").is_some());
        drop(claim);
        assert!(store.claim("chaos-zk").expect("a file").is_some());
    }

    #[test]
    fn the_page_shows_the_results_that_are_kept() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = folder.parent().expect("the workspace");
        let results = Store::new(root).read().expect("readable");
        let shown = fs::read_to_string(root.join(PAGE));
        if !matches!(&shown, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            assert_eq!(shown.expect("readable"), page::write(&results));
        }
    }
}

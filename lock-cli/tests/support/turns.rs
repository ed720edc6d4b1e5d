//! Runs processes of several kinds that take turns at one counter in a folder.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// Reads the counter, pauses, and writes it back plus one. Fails if another writer is inside.
const INCREMENT: &str = "mkdir inside || exit 99
n=$(cat counter)
sleep 0.002
echo $((n+1)) >counter
rmdir inside
";

/// Fails if a writer is inside.
const LOOK: &str = "n=$(cat counter)
sleep 0.002
[ ! -d inside ] && [ \"$(cat counter)\" = \"$n\" ]
";

/// The counter, and the processes that take turns at it.
pub struct Turns {
    folder: TempDir,
    each: usize,
    workers: Vec<Child>,
    increments: usize,
}

impl Turns {
    /// Makes a counter at which every worker takes this number of turns.
    pub fn new(each: usize) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        for (file, content) in [("counter", "0\n"), ("increment", INCREMENT), ("look", LOOK)] {
            fs::write(folder.path().join(file), content).expect("writable");
        }
        Turns {
            folder,
            each,
            workers: vec![],
            increments: 0,
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn each(&self) -> String {
        self.each.to_string()
    }

    /// Adds a worker that runs `turnlock run` anew for each turn and increments the counter.
    pub fn add_writer(&mut self, url: &str, path: &str) {
        self.increments += self.each;
        self.add_shell(url, &format!("--raw {path} -- sh increment"));
    }

    /// Adds a worker that runs `turnlock run -s` anew for each turn and checks that no writer is
    /// inside.
    pub fn add_reader(&mut self, url: &str, path: &str) {
        self.add_shell(url, &format!("-s --raw {path} -- sh look"));
    }

    fn add_shell(&mut self, url: &str, run: &str) {
        let script = format!(
            "i=0; while [ $i -lt {} ]; do \"$TURNLOCK\" run {run} || exit 1; i=$((i+1)); done",
            self.each
        );
        let mut worker = Command::new("sh");
        worker
            .args(["-c", &script])
            .env("TURNLOCK", env!("CARGO_BIN_EXE_turnlock"))
            .env("TURNLOCK_BACKEND", url);
        self.add(worker);
    }

    /// Adds a worker of another client that increments the counter.
    pub fn add_other_writer(&mut self, worker: Command) {
        self.increments += self.each;
        self.add(worker);
    }

    /// Adds a worker of another client that checks that no writer is inside.
    pub fn add_other_reader(&mut self, worker: Command) {
        self.add(worker);
    }

    fn add(&mut self, mut worker: Command) {
        worker
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.workers.push(worker.spawn().expect("it starts"));
    }

    /// Waits for all workers and counts their turns.
    pub fn finish(mut self) {
        let outputs: Vec<Output> = self
            .workers
            .drain(..)
            .map(|worker| worker.wait_with_output().expect("a child of ours"))
            .collect();
        for output in outputs {
            let said = [output.stdout, output.stderr].concat();
            assert!(
                output.status.success(),
                "{}: {}",
                output.status,
                super::text(&said)
            );
        }
        let counted = fs::read_to_string(self.folder().join("counter")).expect("readable");
        assert_eq!(counted.trim(), self.increments.to_string());
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

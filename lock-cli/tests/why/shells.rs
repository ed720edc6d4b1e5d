//! Shells of one coordinator, which make deadlocks and ask why.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Home, Running, code, eventually, text};

/// The limit for one answer, which takes some milliseconds on an idle machine.
const ANSWER: Duration = Duration::from_secs(20);

/// The users of one coordinator, each with a shell.
pub struct Shells<'a> {
    pub home: &'a Home,
    pub url: Option<String>,
}

impl Shells<'_> {
    pub fn own(home: &Home) -> Shells<'_> {
        Shells { home, url: None }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.home.turnlock(args);
        // Nested commands find the coordinator there, too.
        if let Some(url) = &self.url {
            command.env("TURNLOCK_BACKEND", url);
        }
        command.env("TURNLOCK", env!("CARGO_BIN_EXE_turnlock"));
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("turnlock starts")
    }

    /// Runs a shell line under a lock.
    pub fn shell(&self, args: &[&str], line: &str) -> Running {
        let mut command = self.command(&["run"]);
        command.args(args).args(["--", "sh", "-c", line]);
        Running::of(command.stdin(Stdio::null()).spawn().expect("starts"))
    }

    pub fn queue(&self, name: &str) -> Vec<Value> {
        let output = self.run(&["queue", "--json", name]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let lines = text(&output.stdout);
        lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// Waits until a queue has this many entries.
    pub fn wait_queue(&self, name: &str, entries: usize) -> Vec<Value> {
        eventually("they queue", || self.queue(name).len() == entries);
        self.queue(name)
    }

    /// Asks, and returns the status with the answer.
    pub fn why(&self, args: &[&str]) -> (i32, Value) {
        let started = Instant::now();
        let output = self.run(&[&["why", "--json"], args].concat());
        let took = started.elapsed();
        assert!(took < ANSWER, "it took {took:?}");
        eprintln!("{:?}: answered after {took:?}", self.url);
        let answer = serde_json::from_slice(&output.stdout);
        (
            code(&output),
            answer.unwrap_or_else(|_| panic!("{}", text(&output.stderr))),
        )
    }

    pub fn why_text(&self, args: &[&str]) -> String {
        text(&self.run(&[&["why"], args].concat()).stdout)
    }

    /// Makes a deadlock of two shells. Returns them with the processes: the two that hold, and the
    /// two that wait within.
    pub fn deadlock(&self) -> ([Running; 2], [u64; 4]) {
        let other = |mine: &str, theirs: &str, lock: &str| {
            format!(
                "touch {mine}; while [ ! -e {theirs} ]; do sleep 0.02; done; \
                 exec \"$TURNLOCK\" run {lock} -- true"
            )
        };
        let first = self.shell(&["a"], &other("in-a", "in-b", "b"));
        let second = self.shell(&["b"], &other("in-b", "in-a", "a"));
        let (a, b) = (self.wait_queue("a", 2), self.wait_queue("b", 2));
        let pid = |entry: &Value| entry["pid"].as_u64().expect("told");
        assert_eq!(pid(&a[0]), u64::from(first.id()));
        assert_eq!(pid(&b[0]), u64::from(second.id()));
        (
            [first, second],
            [pid(&a[0]), pid(&b[1]), pid(&b[0]), pid(&a[1])],
        )
    }
}

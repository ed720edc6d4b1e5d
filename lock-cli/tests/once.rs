//! Tests `turnlock run --once`: a command has its effect once, or nobody claims to know.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{Home, code, eventually, signal, text};

/// A command that appends its key to a file.
struct Effect {
    home: Home,
}

impl Effect {
    fn new() -> Self {
        Effect { home: Home::new() }
    }

    fn file(&self) -> PathBuf {
        self.home.file("effects")
    }

    /// Returns how often the command had its effect under this key.
    fn count(&self, key: &str) -> usize {
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        text.lines().filter(|line| *line == key).count()
    }

    /// Returns the arguments that have the command run once. It ends with this line of shell.
    fn args(&self, key: &str, more: &[&str], last: &str) -> Vec<String> {
        let line = format!("echo {key} >> {}; {last}", self.file().display());
        let args = [&["run", "--once", key], more, &["jobs", "-c", &line]].concat();
        args.into_iter().map(str::to_owned).collect()
    }

    fn run(&self, key: &str, more: &[&str], last: &str) -> Output {
        let args = self.args(key, more, last);
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        self.home.run(&args)
    }
}

#[test]
fn a_command_that_has_ended_well_is_not_run_again() {
    let effect = Effect::new();
    assert_eq!(code(&effect.run("a", &[], "true")), 0);
    let again = effect.run("a", &[], "true");
    assert_eq!(code(&again), 0);
    let said = text(&again.stderr);
    assert!(said.contains("jobs: a was done by the run of"), "{said}");
    assert_eq!(effect.count("a"), 1);
    assert_eq!(code(&effect.run("b", &[], "true")), 0);
    assert_eq!(effect.count("b"), 1, "another key is other work");
}

#[test]
fn a_command_that_has_failed_or_was_ended_by_a_signal_is_run_again() {
    let effect = Effect::new();
    assert_eq!(code(&effect.run("a", &[], "exit 3")), 3);
    assert_eq!(code(&effect.run("a", &[], "exec sh -c 'kill $$'")), 143);
    let nowhere = effect
        .home
        .run(&["run", "--once", "a", "jobs", "/no/such/program"]);
    assert_eq!(code(&nowhere), 127);
    assert_eq!(code(&effect.run("a", &[], "true")), 0);
    assert_eq!(effect.count("a"), 3);
    assert_eq!(code(&effect.run("a", &[], "true")), 0);
    assert_eq!(effect.count("a"), 3);
}

#[test]
fn a_key_is_forgotten_after_its_time() {
    let effect = Effect::new();
    assert_eq!(code(&effect.run("a", &["--once-for", "1ms"], "true")), 0);
    eventually("the key is forgotten", || {
        assert_eq!(code(&effect.run("a", &[], "true")), 0);
        effect.count("a") == 2
    });
}

#[test]
fn a_command_whose_end_is_not_known_is_run_again_only_if_asked() {
    let effect = Effect::new();
    let args = effect.args("a", &[], "sleep 600");
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let running = effect.home.spawn(&args);
    eventually("it runs", || effect.count("a") == 1);
    signal(running.id(), Signal::KILL);
    running.wait();
    for _ in 0..2 {
        let refused = effect.run("a", &[], "true");
        assert_eq!(code(&refused), 80);
        let said = text(&refused.stderr);
        assert!(
            said.contains("nobody knows whether it has done its work")
                && said.contains("--once-rerun-unknown"),
            "{said}"
        );
    }
    assert_eq!(effect.count("a"), 1);
    // A run that fails has not found out what became of the first one.
    for last in ["exit 3", "exec sh -c 'kill $$'"] {
        effect.run("a", &["--once-rerun-unknown"], last);
        assert_eq!(code(&effect.run("a", &[], "true")), 80);
    }
    let home = &effect.home;
    let typo = [
        "run",
        "--once",
        "a",
        "--once-rerun-unknown",
        "jobs",
        "/no/such/program",
    ];
    assert_eq!(code(&home.run(&typo)), 127);
    assert_eq!(code(&effect.run("a", &[], "true")), 80);
    let rerun = effect.run("a", &["--once-rerun-unknown"], "true");
    assert_eq!(code(&rerun), 0, "{}", text(&rerun.stderr));
    assert_eq!(code(&effect.run("a", &[], "true")), 0);
    assert_eq!(effect.count("a"), 4);
}

/// The watchdog alone knows how the command has ended.
#[test]
fn the_end_of_a_command_whose_watchdog_was_killed_is_not_known() {
    let effect = Effect::new();
    // The parent of the shell is the watchdog.
    let args = effect.args("a", &[], "kill -9 $PPID; sleep 600");
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    assert_ne!(code(&effect.home.run(&args)), 0);
    assert_eq!(code(&effect.run("a", &[], "true")), 80);
    assert_eq!(effect.count("a"), 1);
}

#[test]
fn a_key_that_cannot_be_used_is_refused() {
    let effect = Effect::new();
    let long = "k".repeat(201);
    for (more, key) in [
        (&["-s"][..], "a"),
        (&["--raw"], "a"),
        (&[], ""),
        (&[], "a\nb"),
        (&[], &long),
    ] {
        let refused = effect.run(key, more, "true");
        assert_eq!(code(&refused), 64, "{key:?}");
        assert!(text(&refused.stderr).contains("--once"), "{key:?}");
    }
    let alone = effect
        .home
        .run(&["run", "--once-rerun-unknown", "jobs", "true"]);
    assert_eq!(code(&alone), 64, "{}", text(&alone.stderr));
    assert!(!effect.file().exists());
}

/// How a run was when the next one came.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    NotBegun,
    Done,
    Unknown { effects: usize },
}

/// `TURNLOCK_ROUNDS` sets the number of runs that are killed.
#[test]
fn a_run_that_is_killed_at_any_moment_has_its_effect_once_or_says_that_nobody_knows() {
    let rounds = std::env::var("TURNLOCK_ROUNDS").ok();
    let rounds: u32 = rounds.map_or(60, |text| text.parse().expect("a number"));
    let effect = Effect::new();
    assert_eq!(code(&effect.run("first", &[], "true")), 0);
    let begun = Instant::now();
    assert_eq!(code(&effect.run("whole", &[], "true")), 0);
    let whole = begun.elapsed();
    let mut found = BTreeMap::<Found, u32>::new();
    for round in 0..rounds {
        let key = format!("k{round}");
        // A thousand keys are the most, and each of them is asked for at once.
        let args = effect.args(&key, &["--once-for", "60"], "true");
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let running = effect.home.spawn(&args);
        if round % 2 == 0 {
            std::thread::sleep(whole.mul_f64(f64::from(round % 48) / 40.0));
        } else {
            // Most of a run is over by then.
            eventually("the effect", || effect.count(&key) == 1);
            std::thread::sleep(Duration::from_millis(u64::from(round % 16)));
        }
        signal(running.id(), Signal::KILL);
        running.wait();
        let next = effect.run(&key, &[], "true");
        let effects = effect.count(&key);
        let was_run = text(&next.stderr).is_empty();
        let state = match (code(&next), was_run) {
            (0, true) => Found::NotBegun,
            (0, false) => Found::Done,
            (80, _) => Found::Unknown { effects },
            (other, _) => panic!("{key}: {other}: {}", text(&next.stderr)),
        };
        match state {
            Found::NotBegun | Found::Done => assert_eq!(effects, 1, "{key}: {state:?}"),
            Found::Unknown { effects } => assert!(effects <= 1, "{key}: {effects} effects"),
        }
        *found.entry(state).or_default() += 1;
    }
    println!("{rounds} runs were killed: {found:?}");
    assert!(found.len() > 1, "all were killed in one state: {found:?}");
}

//! Tests how a command is stopped.

use std::fs;

use crate::harness::{PATIENCE, Supervised, cases, eventually, state};

cases![
    a_command_that_heeds_term_ends_by_itself,
    a_command_that_ignores_term_is_killed_in_time,
    the_whole_group_has_the_time_to_clean_up,
    a_process_that_cleans_up_is_not_signalled,
    the_whole_group_is_killed_when_time_is_up,
    a_kill_at_once_takes_the_whole_group,
    a_stopped_group_is_killed,
    a_stopped_command_wakes_to_clean_up,
    a_dropped_command_is_killed,
];

/// A time in milliseconds that is longer than any case.
const NEVER: &str = "600000";

/// Runs a script until it says "ready", and has the supervisor act. Returns the lines that follow.
fn act(options: &[&str], script: &str) -> (Supervised, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let when = dir.path().join("when");
    let options = [&["--when", when.to_str().unwrap()], options].concat();
    let supervised = Supervised::script(&options, script);
    let ready = supervised.line();
    if let Some(pid) = ready.strip_prefix("stopped ") {
        eventually("the command is stopped", || {
            (state(pid) == Some('T')).then_some(())
        });
    }
    fs::write(&when, "").unwrap();
    // The whole group has ended when the output has.
    let rest = supervised.rest();
    (supervised, rest)
}

/// Returns how the command ended, as the supervisor reports it, and after how many milliseconds.
fn outcome(lines: &[String]) -> (&str, u128) {
    let line = lines
        .iter()
        .find_map(|line| line.strip_prefix("stopped "))
        .expect("the outcome");
    let (ended, millis) = line.split_once(" after ").unwrap();
    (ended, millis.parse().unwrap())
}

fn a_command_that_heeds_term_ends_by_itself() {
    let (mut supervised, rest) = act(
        &["--term", NEVER],
        "trap 'echo bye; exit 5' TERM; echo ready; read x",
    );
    assert_eq!(rest[0], "bye");
    let (ended, millis) = outcome(&rest);
    assert_eq!(ended, "Exited(5)");
    assert!(millis < PATIENCE.as_millis());
    assert_eq!(supervised.code(), 5);
}

fn a_command_that_ignores_term_is_killed_in_time() {
    let (mut supervised, rest) = act(
        &["--term", "300"],
        "trap '' TERM; echo ready; while :; do sleep 1000; done",
    );
    let (ended, millis) = outcome(&rest);
    assert_eq!(ended, "Killed(9)");
    assert!((300..PATIENCE.as_millis()).contains(&millis), "{millis}");
    assert_eq!(supervised.code(), 137);
}

/// The command itself ends at once, but a process that it started takes longer.
fn the_whole_group_has_the_time_to_clean_up() {
    let script =
        "exec 3<&0; (trap 'sleep 0.3; echo cleaned; exit' TERM; echo ready; read x <&3) & wait";
    let (_, rest) = act(&["--term", NEVER], script);
    assert_eq!(rest[0], "cleaned", "{rest:?}");
    let (ended, millis) = outcome(&rest);
    assert_eq!(ended, "Killed(15)");
    assert!((300..PATIENCE.as_millis()).contains(&millis), "{millis}");
}

/// While many others are signalled, the command has the time to start a process that cleans up.
fn a_process_that_cleans_up_is_not_signalled() {
    for _ in 0..5 {
        let script = "for i in $(seq 100); do sleep 1000 & done; \
                      trap 'sleep 0.1 && echo cleaned; exit' TERM; echo ready; read x";
        let (_, rest) = act(&["--term", NEVER], script);
        assert_eq!(rest[0], "cleaned", "{rest:?}");
    }
}

fn the_whole_group_is_killed_when_time_is_up() {
    let (_, rest) = act(
        &["--term", "300"],
        "(trap '' TERM; echo ready; sleep 1000) & wait",
    );
    let (ended, millis) = outcome(&rest);
    assert_eq!(ended, "Killed(15)");
    assert!((300..PATIENCE.as_millis()).contains(&millis), "{millis}");
}

fn a_kill_at_once_takes_the_whole_group() {
    let (_, rest) = act(
        &[],
        "(trap 'echo politely' TERM; echo ready; sleep 1000) & wait",
    );
    assert_eq!(outcome(&rest).0, "Killed(9)");
    assert_eq!(rest.len(), 1, "{rest:?}");
}

fn a_stopped_group_is_killed() {
    let (_, rest) = act(
        &[],
        "sleep 1000 & kill -STOP $!; echo stopped $$; kill -STOP $$",
    );
    assert_eq!(outcome(&rest).0, "Killed(9)");
}

fn a_stopped_command_wakes_to_clean_up() {
    let (_, rest) = act(
        &["--term", NEVER],
        "trap 'echo bye; exit 4' TERM; echo stopped $$; kill -STOP $$; sleep 1000",
    );
    assert_eq!(rest[0], "bye");
    assert_eq!(outcome(&rest).0, "Exited(4)");
}

fn a_dropped_command_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let when = dir.path().join("when");
    let supervised = Supervised::script(
        &["--drop", "--when", when.to_str().unwrap()],
        "echo $$; sleep 1000 & wait",
    );
    let command = supervised.line();
    fs::write(&when, "").unwrap();
    assert_eq!(supervised.line(), "dropped");
    eventually("the command is gone", || {
        state(&command).is_none().then_some(())
    });
    assert!(state(&supervised.process.id().to_string()).is_some());
}

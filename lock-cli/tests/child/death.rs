//! Tests that the command ends when its supervisor dies.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Supervised, cases, eventually, state};

cases![
    the_group_dies_with_the_supervisor,
    a_stopped_group_dies_with_the_supervisor,
    no_instant_of_the_start_is_unguarded,
    a_command_never_runs_unwatched,
    a_command_is_stopped_although_its_watchdog_is,
    the_watchdog_is_deaf_to_all_other_signals,
];

const PARENT_AND_CHILD: &str = "(trap '' HUP TERM; echo ready; sleep 1000) & wait";

fn the_group_dies_with_the_supervisor() {
    let supervised = Supervised::script(&[], PARENT_AND_CHILD);
    supervised.line();
    let killed = Instant::now();
    supervised.signal(Signal::KILL);
    supervised.rest();
    // One second is promised. It takes milliseconds; the rest is for a busy machine.
    assert!(
        killed.elapsed() < Duration::from_secs(5),
        "took {:?}",
        killed.elapsed()
    );
}

fn a_stopped_group_dies_with_the_supervisor() {
    let supervised = Supervised::script(&[], "echo $$; kill -STOP 0");
    let command = supervised.line();
    eventually("the command is stopped", || {
        (state(&command) == Some('T')).then_some(())
    });
    supervised.signal(Signal::KILL);
    supervised.rest();
}

/// The supervisor is killed a little later each time, from before it does anything until the
/// command runs.
fn no_instant_of_the_start_is_unguarded() {
    let mut ran = 0;
    for step in 0..120 {
        let supervised = Supervised::script(&[], "echo ready; sleep 1000 & wait");
        thread::sleep(Duration::from_micros(150) * step);
        supervised.signal(Signal::KILL);
        ran += supervised.rest().len();
    }
    // If the command never ran, the steps are too small for the test to mean anything. That is not
    // asserted, because it depends on the machine.
    println!("the command ran in {ran} of 120 starts");
}

fn a_command_never_runs_unwatched() {
    let mut supervised = Supervised::script(&[], "echo $$; exec sleep 1000");
    let command = supervised.line();
    kill_process(supervised.watchdog(), Signal::KILL).unwrap();
    assert_eq!(supervised.code(), 137);
    assert_eq!(state(&command), None);
}

/// The supervisor ends the command when a stopped watchdog cannot.
fn a_command_is_stopped_although_its_watchdog_is() {
    let dir = tempfile::tempdir().unwrap();
    let when = dir.path().join("when");
    let options = ["--when", when.to_str().unwrap()];
    let mut supervised = Supervised::script(&options, "(setsid sleep 1000 &); echo $$; read x");
    let command = supervised.line();
    kill_process(supervised.watchdog(), Signal::STOP).unwrap();
    std::fs::write(&when, "").unwrap();
    assert!(supervised.rest()[0].starts_with("stopped Killed(9)"));
    assert_eq!(state(&command), None);
    assert_eq!(supervised.code(), 137);
}

/// Returns whether the process has blocked every signal that can be blocked.
fn is_deaf(process: Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let mut lines = status.lines();
    let blocked = lines.find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    // TERM and HUP stand for the other signals.
    u64::from_str_radix(blocked.trim(), 16).unwrap() & 0x4001 == 0x4001
}

fn the_watchdog_is_deaf_to_all_other_signals() {
    let supervised = Supervised::script(&[], PARENT_AND_CHILD);
    supervised.line();
    let watchdog = supervised.watchdog();
    eventually("it has started the command", || {
        is_deaf(watchdog).then_some(())
    });
    for signal in [
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::TERM,
        Signal::USR1,
        Signal::PIPE,
        Signal::ALARM,
    ] {
        kill_process(watchdog, signal).unwrap();
    }
    supervised.signal(Signal::KILL);
    supervised.rest();
}

//! The supervisor dies, and the command with it.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use crate::harness::{Supervised, cases, eventually, state};

cases![
    the_group_dies_with_the_supervisor,
    a_stopped_group_dies_with_the_supervisor,
    no_instant_of_the_start_is_unguarded,
    the_command_dies_even_if_the_watchdog_is_gone,
    the_watchdog_is_deaf_to_all_other_signals,
    a_command_ends_as_usual_without_its_watchdog,
];

const PARENT_AND_CHILD: &str = "(trap '' HUP TERM; echo ready; sleep 1000) & wait";

fn the_group_dies_with_the_supervisor() {
    let supervised = Supervised::script(&[], PARENT_AND_CHILD);
    supervised.line();
    let killed = Instant::now();
    supervised.signal(Signal::KILL);
    supervised.rest();
    // Promised is one second. It takes milliseconds; the rest is for a busy machine.
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
    // Else the steps are too small to mean anything. Not asserted: it depends on the machine.
    println!("the command ran in {ran} of 120 starts");
}

fn the_command_dies_even_if_the_watchdog_is_gone() {
    let supervised = Supervised::script(&[], "echo $$; exec sleep 1000");
    let command = supervised.line();
    kill_process(supervised.watchdog(), Signal::KILL).unwrap();
    assert!(state(&command).is_some());
    supervised.signal(Signal::KILL);
    eventually("the command is gone", || {
        state(&command).is_none().then_some(())
    });
}

fn the_watchdog_is_deaf_to_all_other_signals() {
    let supervised = Supervised::script(&[], PARENT_AND_CHILD);
    supervised.line();
    let watchdog = supervised.watchdog();
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

fn a_command_ends_as_usual_without_its_watchdog() {
    let mut supervised = Supervised::script(&[], "trap 'exit 3' USR1; echo ready; read x");
    supervised.line();
    kill_process(supervised.watchdog(), Signal::KILL).unwrap();
    supervised.signal(Signal::USR1);
    assert_eq!(supervised.code(), 3);
}

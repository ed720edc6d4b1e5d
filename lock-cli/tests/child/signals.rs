//! Tests the signals that arrive at the supervisor.

use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;

use crate::harness::{Supervised, cases, eventually, state};

cases![
    every_signal_is_passed_on,
    signals_reach_all_that_the_command_started,
    a_signal_of_the_commands_own_is_not_passed_on,
    the_end_of_the_command_ends_the_supervisor,
    a_signal_that_the_command_handles_does_not_end_the_supervisor,
    a_stopped_command_is_continued
];

fn every_signal_is_passed_on() {
    let signals = [
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("TERM", Signal::TERM),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("WINCH", Signal::WINCH),
        ("CONT", Signal::CONT),
        ("TSTP", Signal::TSTP),
    ];
    for (name, signal) in signals {
        let script = format!("trap 'echo got {name}; exit 7' {name}; echo ready; read x");
        let mut supervised = Supervised::script(&[], &script);
        assert_eq!(supervised.line(), "ready");
        supervised.signal(signal);
        assert_eq!(supervised.line(), format!("got {name}"));
        assert_eq!(supervised.code(), 7);
    }
}

fn signals_reach_all_that_the_command_started() {
    let mut supervised = Supervised::script(
        &[],
        "exec 3<&0; (trap 'echo inner; exit' TERM; echo ready; read x <&3) & wait",
    );
    assert_eq!(supervised.line(), "ready");
    supervised.signal(Signal::TERM);
    assert_eq!(supervised.rest(), ["inner"]);
    assert_eq!(supervised.code(), 143);
}

/// The script does the same as `trap 'kill 0' EXIT`: the supervisor is in the same group, so the
/// command has received the signal already.
fn a_signal_of_the_commands_own_is_not_passed_on() {
    let script =
        "trap 'echo got' TERM; trap 'echo later; exit 7' WINCH; kill -TERM 0; read x; read x";
    let mut supervised = Supervised::script(&[], script);
    assert_eq!(supervised.line(), "got");
    // This signal comes after TERM, should that be passed on.
    supervised.signal(Signal::WINCH);
    assert_eq!(supervised.rest(), ["later"]);
    assert_eq!(supervised.code(), 7);
}

/// A shell around the supervisor ends its script at Ctrl-C only if the signal ended the process
/// that the shell waits for.
fn the_end_of_the_command_ends_the_supervisor() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP] {
        let mut supervised = Supervised::script(&[], "echo ready; exec cat");
        assert_eq!(supervised.line(), "ready");
        supervised.signal(signal);
        assert_eq!(supervised.status().signal(), Some(signal.as_raw()));
    }
}

fn a_signal_that_the_command_handles_does_not_end_the_supervisor() {
    let mut supervised = Supervised::script(&[], "trap 'exit 0' INT; echo ready; read x");
    assert_eq!(supervised.line(), "ready");
    supervised.signal(Signal::INT);
    assert_eq!(supervised.status().code(), Some(0));
    // A signal that only the command receives does not end the supervisor, either.
    let mut supervised = Supervised::script(&[], "kill -INT $$");
    assert_eq!(supervised.status().code(), Some(130));
}

/// Without a terminal, a stop concerns only the command: the supervisor keeps the lock.
fn a_stopped_command_is_continued() {
    let mut supervised = Supervised::script(&[], "echo $$; kill -STOP $$; echo continued");
    let command = supervised.line();
    eventually("the command is stopped", || {
        (state(&command) == Some('T')).then_some(())
    });
    supervised.signal(Signal::CONT);
    assert_eq!(supervised.line(), "continued");
    assert_eq!(supervised.code(), 0);
}

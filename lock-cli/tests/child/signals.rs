//! Signals that come in for the supervisor.

use rustix::process::Signal;

use crate::harness::{Supervised, cases, eventually, state};

cases![
    every_signal_is_passed_on,
    signals_reach_the_whole_group,
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

fn signals_reach_the_whole_group() {
    let mut supervised = Supervised::script(
        &[],
        "exec 3<&0; (trap 'echo inner; exit' TERM; echo ready; read x <&3) & wait",
    );
    assert_eq!(supervised.line(), "ready");
    supervised.signal(Signal::TERM);
    assert_eq!(supervised.rest(), ["inner"]);
    assert_eq!(supervised.code(), 143);
}

/// Without a terminal, a stop is the command's alone: the supervisor goes on to keep the lock.
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

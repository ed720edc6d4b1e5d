//! Tests the end of processes that the command has started and that hide from it: in groups and
//! sessions of their own, without a parent, or one after the other.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use rustix::process::{Signal, kill_process};

use crate::harness::{Supervised, cases, children, eventually, pid, state};

cases![
    hidden_processes_die_with_the_supervisor,
    hidden_processes_end_when_the_command_is_stopped,
    processes_that_are_started_during_the_stop_end_too,
    hidden_processes_end_when_the_supervisor_is_asked_to_end,
    hidden_processes_end_at_the_deadline_of_a_stopped_supervisor,
    hidden_processes_end_when_the_watchdog_is_killed,
    a_chain_of_forks_is_ended,
    a_tree_that_still_grows_is_ended,
    a_command_that_ignores_term_has_its_grace_and_no_more,
    a_process_left_running_is_left_alone,
    a_process_left_running_is_waited_for,
    a_process_left_running_ends_with_its_waiter,
    a_signal_at_the_end_of_the_command_ends_what_it_left,
    a_background_coordinator_is_spared,
];

/// Scripts that start a hidden process. Each says "ready" when that process runs, which also holds
/// the output open.
const HIDING: [&str; 7] = [
    "timeout 1000 sh -c 'echo ready; exec sleep 1000'",
    "setsid sh -c 'echo ready; exec sleep 1000' & wait",
    "bash -c 'set -m; (echo ready; exec sleep 1000) & wait'",
    "(sh -c 'echo ready; exec sleep 1000' &); read x",
    "(setsid sh -c 'echo ready; sleep 1000 & sleep 1000' &); read x",
    "nohup setsid nohup sh -c 'echo ready; exec sleep 1000' & read x",
    "trap '' HUP; setsid sh -c '(setsid sh -c \"echo ready; exec sleep 1000\" &); exit' & read x",
];

fn hidden_processes_die_with_the_supervisor() {
    for script in HIDING {
        let supervised = Supervised::script(&[], script);
        assert_eq!(supervised.line(), "ready", "{script}");
        supervised.signal(Signal::KILL);
        assert_eq!(supervised.rest(), Vec::<String>::new(), "{script}");
    }
}

fn hidden_processes_end_when_the_command_is_stopped() {
    for script in HIDING {
        for term in [&[][..], &["--term", "600000"]] {
            let dir = tempfile::tempdir().unwrap();
            let when = dir.path().join("when");
            let options = [&["--when", when.to_str().unwrap()], term].concat();
            let supervised = Supervised::script(&options, script);
            assert_eq!(supervised.line(), "ready", "{script}");
            fs::write(&when, "").unwrap();
            let rest = supervised.rest();
            assert!(rest[0].starts_with("stopped"), "{script}: {rest:?}");
        }
    }
}

fn processes_that_are_started_during_the_stop_end_too() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let when = dir.path().join("when");
        // Nothing is killed: all must have got TERM.
        let options = ["--when", when.to_str().unwrap(), "--term", "600000"];
        let supervised = Supervised::script(&options, "echo ready; while :; do sleep 1000 & done");
        assert_eq!(supervised.line(), "ready");
        fs::write(&when, "").unwrap();
        let rest = supervised.rest();
        assert!(rest[0].starts_with("stopped"), "{rest:?}");
    }
}

fn hidden_processes_end_when_the_supervisor_is_asked_to_end() {
    for script in HIDING {
        let mut supervised = Supervised::script(&[], script);
        assert_eq!(supervised.line(), "ready", "{script}");
        supervised.signal(Signal::TERM);
        assert_eq!(supervised.rest(), Vec::<String>::new(), "{script}");
        assert_eq!(supervised.code(), 143, "{script}");
    }
}

fn hidden_processes_end_at_the_deadline_of_a_stopped_supervisor() {
    let script = "setsid sh -c 'echo $$; exec sleep 1000' & echo $$; read x";
    let supervised = Supervised::script(&["--deadline", "1500"], script);
    let pids = [supervised.line(), supervised.line()];
    supervised.signal(Signal::STOP);
    eventually("all are gone", || {
        pids.iter().all(|pid| state(pid).is_none()).then_some(())
    });
}

fn hidden_processes_end_when_the_watchdog_is_killed() {
    for script in HIDING {
        let mut supervised = Supervised::script(&[], script);
        assert_eq!(supervised.line(), "ready", "{script}");
        kill_process(supervised.watchdog(), Signal::KILL).unwrap();
        assert_eq!(supervised.rest(), Vec::<String>::new(), "{script}");
        assert_eq!(supervised.code(), 137, "{script}");
    }
}

/// Each process of the chain starts the next one and exits, so none lives long enough to be waited
/// for.
fn a_chain_of_forks_is_ended() {
    for signal in [Signal::KILL, Signal::TERM] {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        // The chain ends by itself should the case fail.
        let text = "#!/bin/sh\ntrap '' TERM\n\
            [ $1 = 99000 ] && echo ready\n[ $1 = 0 ] || \"$0\" $(($1 - 1)) &\n";
        fs::write(&link, text).unwrap();
        fs::set_permissions(&link, fs::Permissions::from_mode(0o755)).unwrap();
        let script = format!("{} 99050; read x", link.display());
        let supervised = Supervised::script(&["--grace", "100"], &script);
        assert_eq!(supervised.line(), "ready");
        supervised.signal(signal);
        assert_eq!(supervised.rest(), Vec::<String>::new());
    }
}

/// The tree has up to 255 processes, most of which do not exist yet when it is ended.
fn a_tree_that_still_grows_is_ended() {
    let script = "grow() { [ $1 -gt 0 ] || exec sleep 1000; [ $1 != 5 ] || echo ready; \
                  grow $(($1 - 1)) & grow $(($1 - 1)) & wait; }; grow 7";
    let supervised = Supervised::script(&[], script);
    assert_eq!(supervised.line(), "ready");
    supervised.signal(Signal::KILL);
    supervised.rest();
}

fn a_command_that_ignores_term_has_its_grace_and_no_more() {
    let script = "setsid sh -c \"trap '' TERM; echo ready; while :; do sleep 1000; done\" & \
                  trap 'echo bye; exit 3' TERM; while :; do wait; done";
    let mut supervised = Supervised::script(&["--grace", "200"], script);
    assert_eq!(supervised.line(), "ready");
    supervised.signal(Signal::TERM);
    assert_eq!(supervised.rest(), ["bye"]);
    assert_eq!(supervised.code(), 3);
}

fn a_process_left_running_is_left_alone() {
    let mut supervised = Supervised::script(&[], "setsid sleep 1000 >/dev/null 2>&1 & echo $!");
    let left = supervised.line();
    assert_eq!(supervised.code(), 0);
    assert!(state(&left).is_some());
    kill_process(pid(&left), Signal::KILL).unwrap();
}

/// A script whose leftover process reads from the supervisor's input, so that the process ends when
/// the input does.
const LEFT: &str = "setsid sh -c 'echo $$; read x; echo late' <&3 & exit 4";

fn a_process_left_running_is_waited_for() {
    let mut supervised = Supervised::script(&["--whole"], &format!("exec 3<&0; {LEFT}"));
    let left = supervised.line();
    let watchdog = supervised.watchdog().as_raw_nonzero().to_string();
    assert!(state(&left).is_some() && state(&watchdog).is_some());
    drop(supervised.process.stdin.take());
    assert_eq!(supervised.rest(), ["late"]);
    assert_eq!(supervised.code(), 4, "the command's own status");
}

fn a_process_left_running_ends_with_its_waiter() {
    for (signal, code) in [(Signal::TERM, 4), (Signal::KILL, 137)] {
        let mut supervised = Supervised::script(&["--whole"], &format!("exec 3<&0; {LEFT}"));
        let left = supervised.line();
        await_end_of_command(&supervised, &left);
        supervised.signal(signal);
        assert_eq!(supervised.rest(), Vec::<String>::new());
        eventually("it is gone", || state(&left).is_none().then_some(()));
        assert_eq!(supervised.code(), code);
    }
}

/// The supervisor finds the signal and the report of the command's end together.
fn a_signal_at_the_end_of_the_command_ends_what_it_left() {
    for signal in [Signal::TERM, Signal::INT] {
        let script = format!("exec 3<&0; read x; {LEFT}");
        let mut supervised = Supervised::script(&["--whole"], &script);
        let watchdog = supervised.watchdog().as_raw_nonzero().to_string();
        eventually("the command runs", || {
            (children(&watchdog).len() == 1).then_some(())
        });
        supervised.signal(Signal::STOP);
        let supervisor = supervised.process.id().to_string();
        eventually("it is stopped", || {
            (state(&supervisor) == Some('T')).then_some(())
        });
        let input = supervised.process.stdin.as_mut().unwrap();
        input.write_all(b"\n").unwrap();
        let left = supervised.line();
        await_end_of_command(&supervised, &left);
        supervised.signal(signal);
        supervised.signal(Signal::CONT);
        assert_eq!(supervised.rest(), Vec::<String>::new());
        assert_eq!(supervised.code(), 4);
    }
}

/// Waits until the command of a script with [`LEFT`] has ended, and the watchdog knows it.
fn await_end_of_command(supervised: &Supervised, left: &str) {
    let watchdog = supervised.watchdog().as_raw_nonzero().to_string();
    eventually("the command has ended", || {
        (children(&watchdog) == [left]).then_some(())
    });
}

/// A coordinator that a nested `turnlock` starts serves other commands, too.
fn a_background_coordinator_is_spared() {
    let script = "setsid bash -c 'exec -a turnlock \"$@\"' bash sh serve --background >/dev/null & \
                  echo $!; read x";
    let dir = tempfile::tempdir().unwrap();
    // The shell runs this file, because its first argument is the file's name.
    fs::write(dir.path().join("serve"), "kill -STOP $$\n").unwrap();
    let mut line = crate::harness::supervise(&["--whole"], &["sh", "-c", script]);
    line.current_dir(dir.path())
        .stdin(std::process::Stdio::piped());
    let mut supervised = Supervised::start(line);
    let coordinator = supervised.line();
    eventually("it looks like one", || {
        let arguments = fs::read(format!("/proc/{coordinator}/cmdline")).ok()?;
        arguments
            .starts_with(b"turnlock\0serve\0--background")
            .then_some(())
    });
    supervised.signal(Signal::TERM);
    assert_eq!(supervised.code(), 143);
    assert!(state(&coordinator).is_some());
    kill_process(pid(&coordinator), Signal::KILL).unwrap();
}

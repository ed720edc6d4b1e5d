//! Tests output that fails: every command that prints, with its stdout on a full disk, in a pipe
//! whose reader has left, and closed; and with no stderr to complain on.

mod support;

use std::fs::{self, File, OpenOptions};
use std::process::{Command, Output, Stdio};

use support::{Home, eventually, text};

const FULL: &str = "turnlock: cannot write to stdout: No space left on device";

/// The commands that print.
const PRINTING: &[&[&str]] = &[
    &["--help"],
    &["--version"],
    &["--version", "--verbose"],
    &["completions", "bash"],
    &["man"],
    &["man", "fence", "check"],
    &["help", "run"],
    &["run", "--help"],
    &["run", "--version"],
    &["ls"],
    &["ls", "--json"],
    &["queue", "held"],
    &["queue", "--json", "held"],
    &["queue", "free"],
    &["evict", "free"],
    &["token-offset"],
    &["token-offset", "--json"],
    &["hold", "b"],
    &["hold", "--json", "b"],
    &["conformance", "--list"],
    &["conformance", "--list", "--json"],
    &["conformance", "--filter", "contention_is_a_value"],
    &[
        "bench",
        "--workload",
        "uncontended",
        "--workers",
        "1",
        "--seconds",
        "0.1",
    ],
    &[
        "bench",
        "--workload",
        "raw",
        "--workers",
        "1",
        "--seconds",
        "0.1",
        "--json",
    ],
    &[
        "bench",
        "--workload",
        "uncontended",
        "--find-limit=1000",
        "--seconds",
        "0.1",
    ],
    &["fence", "check", "--json", "--token", "9", "guarded"],
];

/// The commands that print nothing, so that a full disk does not concern them.
const SILENT: &[&[&str]] = &[
    &["run", "b", "--", "true"],
    &["write", "b", "file"],
    &["append", "b", "file"],
    &["edit", "b", "file", "--", "cat"],
    &["fence", "check", "--token", "9", "guarded"],
];

/// Makes a home with a lock that is held, and with files.
fn home() -> (Home, support::Running) {
    let home = Home::new();
    let holder = home.spawn(&["hold", "held", "--note", "nightly"]);
    eventually("it holds", || home.queue("held").len() == 1);
    fs::write(home.file("guarded"), "").expect("writable");
    let first = home.run(&["write", "--token", "1", "b", "guarded"]);
    assert!(first.status.success(), "{}", text(&first.stderr));
    (home, holder)
}

fn full() -> Stdio {
    let full = OpenOptions::new().write(true).open("/dev/full");
    full.expect("there").into()
}

/// Returns a pipe that nobody reads.
fn closed() -> Stdio {
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

fn run(home: &Home, args: &[&str], stdout: Stdio, stderr: Stdio) -> Output {
    let child = home.turnlock(args).stdout(stdout).stderr(stderr).spawn();
    child
        .expect("starts")
        .wait_with_output()
        .expect("a child of ours")
}

#[test]
fn a_full_disk_is_reported_with_status_74() {
    let (home, _holder) = home();
    for args in PRINTING {
        let output = run(&home, args, full(), Stdio::piped());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(74), "{args:?}: {said}");
        assert!(said.contains(FULL), "{args:?}: {said}");
    }
    assert!(home.queue("b").is_empty(), "nothing is left behind");
}

#[test]
fn a_reader_that_has_left_is_74_without_a_word() {
    let (home, _holder) = home();
    for args in PRINTING {
        let output = run(&home, args, closed(), Stdio::piped());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(74), "{args:?}: {said}");
        assert!(!said.contains("stdout"), "{args:?}: {said}");
    }
    assert!(home.queue("b").is_empty(), "nothing is left behind");
}

#[test]
fn a_command_without_output_needs_no_stdout() {
    let (home, _holder) = home();
    for args in SILENT {
        for stdout in [full(), closed()] {
            let output = run(&home, args, stdout, Stdio::piped());
            assert_eq!(
                output.status.code(),
                Some(0),
                "{args:?}: {}",
                text(&output.stderr)
            );
        }
    }
}

#[test]
fn a_change_whose_report_failed_is_reported_as_done() {
    let (home, _holder) = home();
    for args in [
        &["write", "--json", "b", "file"][..],
        &["append", "--json", "b", "file"],
        &["edit", "--json", "b", "file", "--", "echo", "new"],
    ] {
        for stdout in [full(), closed()] {
            let output = run(&home, args, stdout, Stdio::piped());
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(74), "{args:?}: {said}");
            assert!(said.contains("file was changed"), "{args:?}: {said}");
        }
    }
    assert_eq!(
        fs::read_to_string(home.file("file")).expect("there"),
        "new\n"
    );
}

#[test]
fn a_stderr_that_fails_changes_no_status() {
    let (home, holder) = home();
    for (args, status) in [
        (&["run", "-n", "held", "--", "true"][..], 75),
        (&["run", "-v", "b", "--", "sh", "-c", "exit 7"], 7),
        (&["run", "-w", "0.1", "held", "--", "true"], 75),
        (&["run", "--nonsense"], 64),
        (&["frobnicate"], 64),
        (&["run", "b", "--", "/nowhere"], 127),
        (&["--backend", "redis://x", "ls"], 78),
        (&["queue", "held"], 0),
        (&["token-offset"], 0),
        (&["stop"], 0),
        (&["stop"], 0),
    ] {
        for stderr in [full(), closed()] {
            let output = run(&home, args, Stdio::null(), stderr);
            assert_eq!(output.status.code(), Some(status), "{args:?}");
        }
    }
    drop(holder);
}

#[test]
fn stdout_that_is_closed_or_only_readable_takes_nothing() {
    let home = Home::new();
    assert!(home.run(&["run", "a", "--", "true"]).status.success());
    let readable = File::open("/dev/zero").expect("there");
    let output = run(&home, &["ls"], readable.into(), Stdio::piped());
    assert_eq!(output.status.code(), Some(74), "{}", text(&output.stderr));
    // If stdout was closed when the program started, it is the null device by then.
    let script = format!("exec {} ls >&-", env!("CARGO_BIN_EXE_turnlock"));
    let output = Command::new("sh")
        .args(["-c", &script])
        .env("TURNLOCK_HOME", home.path())
        .env_remove("TURNLOCK_BACKEND")
        .output()
        .expect("sh starts");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

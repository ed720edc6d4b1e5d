//! Tests that `turnlock watch` prints what happens, on every backend, and ends when nobody reads.

mod support;

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use support::{Home, Running, Server, code, eventually, signal, text, within};
use testkit::fixtures::zk::{Ensemble, Settings};

/// A `turnlock watch`, and what it prints.
struct Watch {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(home: &Home, url: Option<&str>, args: &[&str]) -> Self {
        let mut command = with_backend(home, url, &["watch", "--initial", "--interval", "0.1"]);
        command.args(args).stdout(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Watch { child, lines }
    }

    /// Returns the next event.
    fn next(&mut self) -> Value {
        let line = self.lines.next().expect("it goes on").expect("text");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))
    }

    /// Returns the next event of this kind and lock. Others may come before.
    fn wait_for(&mut self, event: &str, lock: &str) -> Value {
        loop {
            let said = self.next();
            if said["event"] == event && said["lock"] == lock {
                return said;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn with_backend(home: &Home, url: Option<&str>, args: &[&str]) -> Command {
    let mut command = home.turnlock(args);
    if let Some(url) = url {
        command.env("TURNLOCK_BACKEND", url);
    }
    command
}

fn prints_what_happens(home: &Home, url: Option<&str>) {
    let spawn = |args: &[&str]| {
        let mut command = with_backend(home, url, args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Running::of(command.spawn().expect("starts"))
    };
    let queue = |name: &str| {
        let output = with_backend(home, url, &["queue", "--json", name]).output();
        text(&output.expect("starts").stdout).lines().count()
    };
    let holder = spawn(&["hold", "a"]);
    eventually("it holds", || queue("a") == 1);
    let mut watch = Watch::start(home, url, &["--json"]);
    let granted = watch.wait_for("acquired", "a");
    assert_eq!(granted["pid"], holder.id(), "{granted}");
    assert_eq!(granted["mode"], "exclusive");
    let waiter = spawn(&["run", "a", "sleep", "1000"]);
    let waits = watch.wait_for("blocked", "a");
    assert_eq!(waits["pid"], waiter.id(), "{waits}");
    signal(holder.id(), Signal::TERM);
    let ended = watch.wait_for("hold_ended", "a");
    assert_eq!(ended["token"], granted["token"], "{ended}");
    assert!(
        ended["latencyMs"].as_f64().is_some_and(|held| held > 0.0),
        "{ended}"
    );
    let granted = watch.wait_for("acquired", "a");
    assert_eq!(granted["pid"], waiter.id(), "{granted}");
    assert!(
        granted["latencyMs"]
            .as_f64()
            .is_some_and(|waited| waited > 0.0),
        "{granted}"
    );
    for field in [
        "timestamp",
        "level",
        "message",
        "correlationId",
        "session",
        "token",
        "owner",
        "host",
        "command",
    ] {
        assert!(granted[field].is_string(), "{field}: {granted}");
    }
    let gives_up = spawn(&["run", "-w", "2", "a", "true"]);
    let waits = watch.wait_for("blocked", "a");
    let left = watch.wait_for("not_acquired", "a");
    assert_eq!(left["token"], waits["token"], "{left}");
    drop(gives_up);
    signal(waiter.id(), Signal::TERM);
    watch.wait_for("hold_ended", "a");
}

#[test]
fn what_happens_is_printed_for_the_users_own_coordinator() {
    prints_what_happens(&Home::new(), None);
}

#[test]
fn what_happens_is_printed_for_a_server_of_the_etcd_api() {
    let home = Home::new();
    let server = Server::start(&home);
    prints_what_happens(&home, Some(&server.url()));
}

#[test]
fn what_happens_is_printed_for_zookeeper() {
    let ensemble = Ensemble::start(Settings::default());
    prints_what_happens(&Home::new(), Some(&ensemble.url()));
}

#[test]
fn status_says_of_zookeeper_what_it_tells() {
    let ensemble = Ensemble::start(Settings::default());
    let home = Home::new();
    let url = ensemble.url();
    let output = with_backend(&home, Some(&url), &["status", "--json"]).output();
    let said: Value = serde_json::from_slice(&output.expect("starts").stdout).expect("JSON");
    assert_eq!(said["answers"], true, "{said}");
    assert!(
        said["round_trip_ms"].as_f64().is_some_and(|ms| ms > 0.0),
        "{said}"
    );
    assert_eq!(said["locks"]["in_use"], 0, "{said}");
    for unknown in ["clock_difference_ms", "sessions", "store_bytes", "version"] {
        assert!(said[unknown].is_null(), "{unknown}: {said}");
    }
}

#[test]
fn only_names_with_the_prefix_are_printed_and_people_get_lines() {
    let home = Home::new();
    let _other = support::holder(&home, &["b"]);
    let note = "a\u{1b}[2J\u{202e}";
    let _holder = support::holder(&home, &["--note", note, "a/x"]);
    let mut watch = Watch::start(&home, None, &["a/"]);
    let line = watch.lines.next().expect("a line").expect("text");
    assert!(
        line.contains("holds the lock lock=a/x mode=exclusive"),
        "{line}"
    );
    assert!(line.contains(" pid "), "{line}");
}

#[test]
fn a_coordinator_that_does_not_run_yet_is_waited_for() {
    let home = Home::new();
    let mut watch = Watch::start(&home, None, &["--json"]);
    assert_eq!(home.coordinator(), None, "it starts none");
    let _holder = support::holder(&home, &["a"]);
    watch.wait_for("acquired", "a");
    // And one that is started anew is found again.
    assert_eq!(code(&home.run(&["stop"])), 0);
    let _second = support::holder(&home, &["c"]);
    watch.wait_for("acquired", "c");
}

#[test]
fn it_ends_when_the_reader_has_left_or_a_signal_comes() {
    let home = Home::new();
    let _holder = support::holder(&home, &["a"]);
    let mut watch = Watch::start(&home, None, &["--json"]);
    watch.wait_for("acquired", "a");
    let (reader, _) = rustix::pipe::pipe().expect("a pipe");
    // Nothing happens any more, and the reader leaves.
    let lines = std::mem::replace(
        &mut watch.lines,
        BufReader::new(ChildStdout::from(reader)).lines(),
    );
    drop(lines);
    let mut status = None;
    within(Duration::from_secs(30), "it ends", || {
        status = watch.child.try_wait().expect("a child");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(0));

    for (sent, ends_by) in [(Signal::INT, None), (Signal::TERM, Some(0))] {
        let mut watch = Watch::start(&home, None, &["--json"]);
        watch.wait_for("acquired", "a");
        signal(watch.child.id(), sent);
        let status = watch.child.wait().expect("a child");
        assert_eq!(status.code(), ends_by, "{sent:?}: {status}");
    }
}

#[test]
fn a_coordinator_that_is_not_there_is_69() {
    let home = Home::new();
    let output = home.run(&["--backend", "etcd://127.0.0.1:1", "watch"]);
    assert_eq!(code(&output), 69, "{}", text(&output.stderr));
}

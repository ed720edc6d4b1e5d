//! Tests how holders and waiters are shown, to people and to programs, and how operators take a
//! lock away.

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use support::{Home, Running, code, eventually, holder, signal, text};

#[test]
fn quiet_says_nothing_but_errors() {
    let home = Home::new();
    let _holder = holder(&home, &["a"]);
    for args in [
        &["run", "-q", "-n", "a", "true"][..],
        &["run", "-qw", "0.1", "a", "true"],
        &["-q", "hold", "-n", "a"],
        &["-q", "run", "b", "true"],
    ] {
        let output = home.run(args);
        let status = if args.contains(&"b") { 0 } else { 75 };
        assert_eq!(code(&output), status, "{args:?}");
        assert_eq!(text(&output.stderr), "", "{args:?}");
    }
    let error = text(&home.run(&["run", "-q", "a//b", "true"]).stderr);
    assert!(error.contains("a segment is empty"), "{error}");
}

#[test]
fn a_long_wait_is_reported_once_and_with_verbose_at_once() {
    let home = Home::new();
    let holding = holder(&home, &["a"]);
    let waiters = [
        &["run", "-v", "-s", "a", "true"][..],
        &["run", "-s", "a", "true"],
    ];
    let waiters = waiters.map(|args| {
        let child = home.turnlock(args).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("starts");
        let mut said = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("it says something");
        assert!(line.contains("waiting for a"), "{line}");
        assert!(line.contains(&format!(" pid {}", holding.id())), "{line}");
        (Running::of(child), said, line)
    });
    signal(holding.id(), rustix::process::Signal::TERM);
    let [verbose, plain] = waiters.map(|(child, mut said, first)| {
        let mut rest = String::new();
        said.read_to_string(&mut rest).expect("text");
        assert_eq!(code(&child.wait()), 0);
        (first, rest)
    });
    assert!(verbose.0.starts_with("turnlock: waiting"), "{verbose:?}");
    assert!(
        verbose.1.contains("a: acquired (shared) after "),
        "{verbose:?}"
    );
    assert!(verbose.1.contains("a: released"), "{verbose:?}");
    assert!(plain.0.starts_with("turnlock: still waiting"), "{plain:?}");
    assert_eq!(plain.1, "", "and no more");
}

/// Runs the command on a terminal of 80 columns until `until` is on the screen. Returns the output.
fn on_terminal(home: &Home, args: &[&str], until: &str) -> String {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&screen)
        .and_then(|()| unlockpt(&screen))
        .expect("ours");
    let size = Winsize {
        ws_row: 24,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&screen, size).expect("a terminal");
    let name = ptsname(&screen, Vec::new()).expect("it has a name");
    let terminal = File::options()
        .read(true)
        .write(true)
        .open(name.to_str().expect("text"))
        .expect("ours");
    let again = || terminal.try_clone().expect("a descriptor");
    let child = home
        .turnlock(args)
        .env("TERM", "xterm")
        .stdout(again())
        .stderr(again())
        .spawn();
    let _running = Running::of(child.expect("starts"));
    let mut screen = File::from(screen);
    let mut shown = String::new();
    while !shown.contains(until) {
        let mut bytes = [0; 4096];
        let n = screen.read(&mut bytes).expect("it shows something");
        shown.push_str(&text(&bytes[..n]));
    }
    shown
}

#[test]
fn a_table_fits_the_lines_of_a_terminal() {
    let home = Home::new();
    let name = "services/accounting/ledger-of-the-whole-company";
    let note = "the report of the accounting department, not to be evicted before nine o'clock";
    let _holder = holder(&home, &["--note", note, name]);
    let _waiter = home.spawn(&["run", name, "true"]);
    eventually("it waits", || home.queue(name).len() == 2);
    for (args, until) in [
        (&["run", name, "true"][..], "held by"),
        (&["queue", name], "waits"),
        (&["ls"], "exclusive"),
    ] {
        let shown = on_terminal(&home, args, until);
        for line in shown.split(['\r', '\n']) {
            let line = line.strip_prefix("\x1b[K").unwrap_or(line);
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(shown.contains('…'), "{shown}");
    }
    let whole = text(&home.run(&["queue", name]).stdout);
    assert!(whole.contains(note), "{whole}");
}

#[test]
fn nobody_is_a_word_for_people_and_nothing_for_programs() {
    let home = Home::new();
    let shown = |args: &[&str]| text(&home.run(args).stdout);
    assert_eq!(shown(&["queue", "a"]), "nobody holds or waits for a\n");
    assert_eq!(shown(&["queue", "--json", "a"]), "");
    assert_eq!(shown(&["ls"]), "no lock is in use\n");
    assert_eq!(shown(&["ls", "--json"]), "");
}

#[test]
fn a_queue_shows_held_time_apart_from_queued_time() {
    let home = Home::new();
    let holding = holder(&home, &["a"]);
    let entry = home.queue("a").remove(0);
    assert_eq!(
        entry["held_unix_ms"], entry["since_unix_ms"],
        "it had not to wait"
    );
    let waiter = home.spawn(&["run", "a", "sleep", "1000"]);
    eventually("it waits", || home.queue("a").len() == 2);
    let queued = home.queue("a")[1]["since_unix_ms"].as_u64().expect("told");
    assert!(home.queue("a")[1]["held_unix_ms"].is_null());
    // It waits for longer than the time after which a wait is reported.
    eventually("it has waited for long", || {
        turnlock::clock::unix_millis() > queued + 1500
    });
    let released = turnlock::clock::unix_millis();
    signal(holding.id(), rustix::process::Signal::TERM);
    eventually("it says since when it holds", || {
        let queue = home.queue("a");
        let held = queue[0]["held_unix_ms"].as_u64();
        queue.len() == 1 && held.is_some_and(|held| held >= released)
    });
    assert_eq!(home.queue("a")[0]["since_unix_ms"], queued);
    drop(waiter);
}

#[test]
fn a_queue_shows_the_user_and_the_program_without_control_characters() {
    let home = Home::new();
    let note = "a\u{9b}31m\u{202e}b";
    let mut holding = home
        .turnlock(&["run", "--note", note, "a", "/bin/sleep", "1000"])
        .env("USER", "somebody-else")
        .spawn()
        .map(Running::of)
        .expect("starts");
    eventually("it holds", || home.queue("a").len() == 1);
    assert!(!holding.ended());
    let entry = home.queue("a").remove(0);
    let user = std::process::Command::new("id")
        .arg("-un")
        .output()
        .expect("id starts");
    assert_eq!(entry["owner"], text(&user.stdout).trim());
    assert_eq!(entry["command"], "sleep", "without its arguments");
    assert_eq!(entry["note"], note);
    for args in [&["queue", "a"][..], &["queue", "--json", "a"], &["ls"]] {
        let shown = text(&home.run(args).stdout);
        assert!(
            !shown.contains(['\u{9b}', '\u{202e}']),
            "{args:?}: {shown:?}"
        );
    }
    let table = text(&home.run(&["queue", "a"]).stdout);
    for word in ["QUEUED", "ago", "COMMAND", "sleep"] {
        assert!(table.contains(word), "{table}");
    }
}

#[test]
fn an_evicted_holder_stops_at_once_and_evict_prints_the_holder() {
    let home = Home::new();
    let running = home.spawn(&["run", "a", "sleep", "1000"]);
    eventually("it holds", || home.queue("a").len() == 1);
    let token = home.queue("a")[0]["token"]
        .as_str()
        .expect("text")
        .to_owned();
    let output = home.run(&["evict", "a"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(
        said.starts_with("a: evicted ") && said.contains("which held it"),
        "{said}"
    );
    assert!(said.contains(&format!("(token {token})")), "{said}");
    let lost = running.wait();
    assert_eq!(code(&lost), 76, "{}", text(&lost.stderr));

    // There is no holder left, and that is the state that was asked for.
    let output = home.run(&["evict", "a"]);
    assert_eq!(
        (code(&output), text(&output.stdout)),
        (0, "nobody holds a\n".to_owned())
    );
    let output = home.run(&["evict", "a", "--json", "--token", &token]);
    assert_eq!((code(&output), text(&output.stdout)), (0, String::new()));
}

#[test]
fn one_of_several_is_evicted_by_its_token() {
    let home = Home::new();
    let _first = holder(&home, &["-s", "a"]);
    let second = holder(&home, &["-s", "a"]);
    let waiter = home.spawn(&["run", "a", "true"]);
    eventually("it waits", || home.queue("a").len() == 3);
    let tokens: Vec<String> = home
        .queue("a")
        .iter()
        .map(|entry| entry["token"].as_str().expect("text").to_owned())
        .collect();
    let output = home.run(&["evict", "a"]);
    assert_eq!(code(&output), 64);
    let said = text(&output.stderr);
    assert!(
        said.contains("2 share a") && said.contains(&tokens[1]),
        "{said}"
    );
    assert_eq!(home.queue("a").len(), 3, "nobody was harmed");

    let output = home.run(&["evict", "--token", &tokens[2], "a"]);
    assert!(
        text(&output.stdout).contains("which waited for it"),
        "{}",
        text(&output.stdout)
    );
    assert_eq!(code(&waiter.wait()), 75);
    let output = home.run(&["evict", "--json", "--token", &tokens[1], "a"]);
    let evicted: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(evicted["state"], "evicted");
    assert_eq!(evicted["pid"], second.id());
    assert_eq!(code(&second.wait()), 76);
    assert_eq!(home.queue("a").len(), 1);
}

//! Tests `turnlock hold` for a script, and holds that would wait for themselves.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use support::{Home, Running, code, eventually, holder, text};

#[test]
fn a_command_that_would_wait_for_itself_is_refused() {
    let home = Home::new();
    let inside = |outer: &[&str], inner: &str| {
        let script = format!("\"{}\" {inner}", env!("CARGO_BIN_EXE_turnlock"));
        home.run(&[&["run"], outer, &["-c", &script]].concat())
    };
    for inner in [
        "run a true",
        "run -w 5 a true",
        "run -s a true",
        "hold a",
        "run ./a true",
    ] {
        let outer = if inner.contains("./") { "./a" } else { "a" };
        let output = inside(&[outer], inner);
        let said = text(&output.stderr);
        assert_eq!(code(&output), 64, "{inner}: {said}");
        assert!(said.contains("would wait for itself"), "{inner}: {said}");
    }
    let output = inside(&["-s", "a"], "run a true");
    assert_eq!(code(&output), 64, "{}", text(&output.stderr));
    let output = inside(&["a"], "run -n a true");
    assert_eq!(code(&output), 75, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("around this command"));

    for (outer, inner) in [
        (&["-s", "a"][..], "run -s a true"),
        (&["a"], "run b true"),
        (&["a"], "write a file </dev/null"),
        (&["a"], "append a file </dev/null"),
        (&["a"], "edit a file -- cat"),
    ] {
        let output = inside(outer, inner);
        assert_eq!(code(&output), 0, "{inner}: {}", text(&output.stderr));
    }
}

#[test]
fn a_token_that_is_given_back_forbids_nothing() {
    let home = Home::new();
    let output = home.run(&["run", "a", "-c", "echo $TURNLOCK_FENCING_TOKEN"]);
    let stale = text(&output.stdout).trim().to_owned();
    let daemon = |args: &[&str]| {
        let mut command = home.turnlock(args);
        command
            .env("TURNLOCK_FENCING_TOKEN", &stale)
            .output()
            .expect("starts")
    };
    assert_eq!(code(&daemon(&["run", "a", "true"])), 0);
    // Another process holds the lock, so there is something to wait for.
    let _holder = holder(&home, &["a"]);
    let output = daemon(&["run", "-w", "0.2", "a", "true"]);
    assert_eq!(code(&output), 75, "{}", text(&output.stderr));
}

#[test]
fn a_hold_ends_with_its_stdin() {
    let home = Home::new();
    let mut child = home
        .turnlock(&["hold", "--while-open", "a"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut token = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout)
        .read_line(&mut token)
        .expect("its token");
    let mut script = child.stdin.take().expect("piped");
    let holding = Running::of(child);
    assert_eq!(home.queue("a")[0]["token"], token.trim());
    assert_eq!(home.queue("a")[0]["command"], "turnlock hold");

    // A waiting hold leaves the queue when nobody wants the lock any more.
    let mut waiting = home
        .turnlock(&["hold", "--while-open", "-E", "9", "a"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    eventually("it waits", || home.queue("a").len() == 2);
    drop(waiting.stdin.take());
    let output = Running::of(waiting).wait();
    assert_eq!(code(&output), 9, "{}", text(&output.stderr));
    assert_eq!(home.queue("a").len(), 1);

    // Input on stdin is thrown away.
    script.write_all(b"anything").expect("it reads");
    drop(script);
    assert_eq!(code(&holding.wait()), 0);
    assert!(home.queue("a").is_empty());
}

#[test]
fn a_killed_script_frees_its_lock_at_once() {
    let home = Home::new();
    let script = r#"coproc LOCKED { exec "$T" hold --ttl 300 --while-open a; }
        read -r token <&"${LOCKED[0]}" || exit 75
        echo "$token" >held
        sleep 1000"#;
    let mut bash = std::process::Command::new(support::program("bash", "bash"))
        .args(["-c", script])
        .env("T", env!("CARGO_BIN_EXE_turnlock"))
        .env("TURNLOCK_HOME", home.path())
        .env_remove("TURNLOCK_BACKEND")
        .current_dir(home.path())
        .process_group(0)
        .spawn()
        .expect("bash starts");
    eventually("it holds", || {
        !support::lines(&home.file("held")).is_empty()
    });
    let pid = bash.id();
    support::signal(pid, rustix::process::Signal::KILL);
    bash.wait().expect("a child of ours");
    // The processes that the command has started, such as the sleep, hold neither the lock nor the
    // pipe.
    support::within(Duration::from_secs(30), "the lock is free", || {
        home.queue("a").is_empty()
    });
    let group = rustix::process::Pid::from_raw(pid.try_into().expect("an id")).expect("not zero");
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).expect("the sleep");
}

#[test]
fn a_hold_that_nobody_keeps_open_is_refused() {
    let home = Home::new();
    fs::write(home.file("content"), "text").expect("writable");
    for script in ["</dev/null", "<content", "<&-", ": | {}"] {
        let line = match script.strip_suffix("{}") {
            Some(before) => format!("{before} \"$T\" hold --while-open a"),
            None => format!("\"$T\" hold --while-open a {script}"),
        };
        let output = std::process::Command::new("sh")
            .args(["-c", &line])
            .env("T", env!("CARGO_BIN_EXE_turnlock"))
            .env("TURNLOCK_HOME", home.path())
            .env_remove("TURNLOCK_BACKEND")
            .current_dir(home.path())
            .output()
            .expect("sh starts");
        let said = text(&output.stderr);
        // The pipe may still be open when turnlock checks it.
        let refusal = code(&output) == 64 && said.contains("stdin is not held open");
        let late = script.ends_with("{}") && matches!(code(&output), 0 | 75);
        assert!(refusal || late, "{script}: {}: {said}", code(&output));
    }
}

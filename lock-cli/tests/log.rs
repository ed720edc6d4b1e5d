//! Tests what the command says of itself, as text and as JSON, line by line.

mod support;

use std::process::{Command, Output};

use serde_json::Value;
use support::{Home, code, eventually, holder, text};

/// Returns the lines of stderr, each of which has to be JSON with the fields of every line.
fn lines(output: &Output) -> Vec<Value> {
    let said = text(&output.stderr);
    let lines = said.lines().map(|line| {
        let read: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{said}"));
        for field in ["timestamp", "level", "target", "message", "correlationId"] {
            assert!(read[field].is_string(), "{field} in {line}");
        }
        read
    });
    lines.collect()
}

/// Returns the line of this event.
fn of_event<'a>(lines: &'a [Value], event: &str) -> &'a Value {
    let found = lines.iter().find(|line| line["event"] == event);
    found.unwrap_or_else(|| panic!("no {event} in {lines:?}"))
}

#[test]
fn nothing_is_said_unless_it_was_asked_for() {
    let home = Home::new();
    let output = home.run(&["run", "a", "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(
        (text(&output.stdout), text(&output.stderr)),
        ("out\n".into(), "err\n".into())
    );
    let unset = |command: &mut Command| {
        command
            .env("TURNLOCK_LOG", "")
            .env("TURNLOCK_LOG_FORMAT", "")
            .env("TURNLOCK_CORRELATION_ID", "")
            .output()
            .expect("turnlock starts")
    };
    let output = unset(&mut home.turnlock(&["run", "a", "true"]));
    assert_eq!((code(&output), text(&output.stderr)), (0, String::new()));
}

#[test]
fn a_run_is_told_in_json_with_one_id() {
    let home = Home::new();
    let args = ["--log-format", "json", "run", "jobs/a", "true"];
    let output = home
        .turnlock(&args)
        .env("TURNLOCK_CORRELATION_ID", "order-7")
        .env("TURNLOCK_TENANT", "blue")
        .output()
        .expect("turnlock starts");
    assert_eq!(code(&output), 0);
    let said = lines(&output);
    for line in &said {
        assert_eq!(line["correlationId"], "order-7", "{line}");
        assert_eq!(line["tenantId"], "blue", "{line}");
        assert_eq!(line["trace_id"], Value::Null, "{line}");
    }
    let acquired = of_event(&said, "acquired");
    assert_eq!(acquired["lock"], "jobs/a");
    assert_eq!(acquired["mode"], "exclusive");
    assert!(acquired["latencyMs"].is_number(), "{acquired}");
    let ended = of_event(&said, "hold_ended");
    assert_eq!(ended["token"], acquired["token"]);
    assert!(
        ended["message"]
            .as_str()
            .is_some_and(|m| m.contains("released"))
    );

    // Another run has another id, the same in all its lines.
    let ids = [(); 2].map(|()| {
        let said = lines(&home.run(&args));
        let id = said[0]["correlationId"].clone();
        assert!(said.iter().all(|line| line["correlationId"] == id));
        id
    });
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn messages_to_people_and_failures_are_json_too() {
    let home = Home::new();
    let held = holder(&home, &["a"]);
    let args = ["--log-format=json", "-v", "run", "-w", "0.5", "a", "true"];
    let output = home.run(&args);
    assert_eq!(code(&output), 75);
    let said = lines(&output);
    let blocked = of_event(&said, "blocked");
    assert_eq!(
        (&blocked["lock"], &blocked["level"]),
        (&"a".into(), &"info".into())
    );
    let given_up = of_event(&said, "not_acquired");
    assert!(
        given_up["message"]
            .as_str()
            .is_some_and(|m| m.contains("timeout"))
    );
    let last: Vec<_> = said
        .iter()
        .filter(|line| line["level"] == "error")
        .collect();
    assert_eq!(last.len(), 2, "{said:?}");
    assert_eq!(last[0]["message"], "a: not acquired within 0.5 s");
    drop(held);
}

#[test]
fn text_has_the_same_from_the_level_that_was_asked_for() {
    let home = Home::new();
    for (level, says) in [("warn", false), ("info", true), ("trace", true)] {
        let output = home.run(&["run", "--log-level", level, "a", "true"]);
        let said = text(&output.stderr);
        assert_eq!(code(&output), 0, "{said}");
        assert_eq!(said.contains("info  acquired lock=a mode="), says, "{said}");
    }
    let debug = home
        .turnlock(&["run", "a", "true"])
        .env("TURNLOCK_LOG", "debug")
        .output()
        .expect("turnlock starts");
    assert!(text(&debug.stderr).contains(" a session is open session="));
    let wrong = home.run(&["--log-level", "loud", "ls"]);
    assert_eq!(code(&wrong), 64, "{}", text(&wrong.stderr));
    let long = home.run(&["--correlation-id", &"x".repeat(129), "ls"]);
    assert_eq!(code(&long), 64, "{}", text(&long.stderr));
}

#[test]
fn what_a_name_has_in_it_reaches_no_terminal() {
    let home = Home::new();
    let name = "a\u{202e}b";
    for format in ["json", "text"] {
        let output = home.run(&[
            "--log-format",
            format,
            "--log-level=info",
            "run",
            name,
            "true",
        ]);
        let said = text(&output.stderr);
        assert_eq!(code(&output), 0, "{said}");
        assert!(
            said.contains("\\u") && !said.contains('\u{202e}'),
            "{said:?}"
        );
    }
}

#[test]
fn a_coordinator_in_the_foreground_speaks_json() {
    let home = Home::new();
    let socket = format!("unix:{}", home.file("own.sock").display());
    let data = home.file("data");
    let data = data.to_str().expect("a text");
    let serving = home.spawn(&[
        "--log-format",
        "json",
        "serve",
        "--data",
        data,
        "--listen",
        &socket,
    ]);
    eventually("it serves", || home.file("own.sock").exists());
    support::signal(serving.id(), rustix::process::Signal::TERM);
    let output = serving.wait();
    let said = lines(&output);
    assert!(
        said.iter().any(|line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.starts_with("serving ") && line["level"] == "info"
        }),
        "{said:?}"
    );
}

//! Tests `turnlock write`, `append`, `edit` and `fence check`.

mod support;

use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};

use rustix::process::Signal;
use support::{Home, alive, code, eventually, lines, signal, text};

const TURNLOCK: &str = env!("CARGO_BIN_EXE_turnlock");

/// Runs a command with this input.
fn fed(home: &Home, args: &[&str], input: &[u8]) -> Output {
    let mut child = home
        .turnlock(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("turnlock starts");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(input)
        .expect("it reads");
    child.wait_with_output().expect("a child of ours")
}

fn succeeds(output: &Output) {
    assert_eq!(code(output), 0, "{}", text(&output.stderr));
}

fn refused(output: &Output, status: i32, said: &str) {
    assert_eq!(code(output), status, "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains(said),
        "{}",
        text(&output.stderr)
    );
}

fn content(home: &Home, name: &str) -> String {
    fs::read_to_string(home.file(name)).expect("readable")
}

#[test]
fn a_file_is_written_appended_to_and_edited_under_its_lock() {
    let home = Home::new();
    succeeds(&fed(&home, &["write", "a", "file"], b"b\n"));
    succeeds(&fed(&home, &["append", "a", "file"], b"a\n"));
    assert_eq!(content(&home, "file"), "b\na\n");
    let output = home.run(&["--json", "edit", "a", "file", "--", "sort"]);
    succeeds(&output);
    assert_eq!(content(&home, "file"), "a\nb\n");
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&line["name"], &line["file"]),
        (&"a".into(), &"file".into())
    );
    assert!(line["token"].is_string(), "{line}");
    assert!(home.queue("a").is_empty(), "nothing is held afterwards");
    // The input is larger than the buffer of a pipe.
    let much = vec![b'x'; 1 << 20];
    succeeds(&fed(&home, &["write", "a", "file"], &much));
    succeeds(&home.run(&["edit", "a", "file", "--", "sh", "-c", "cat; echo end"]));
    assert_eq!(content(&home, "file").len(), (1 << 20) + 4);
}

#[test]
fn writers_wait_for_the_lock_or_do_not() {
    let home = Home::new();
    let holder = home.spawn(&["hold", "a"]);
    eventually("it holds", || home.queue("a").len() == 1);
    refused(
        &fed(&home, &["write", "-n", "a", "file"], b"x"),
        75,
        "somebody else",
    );
    refused(
        &fed(&home, &["append", "-w", "0.2", "a", "file"], b"x"),
        75,
        "not acquired",
    );
    let waiter = home.spawn(&["edit", "a", "file", "--", "echo", "edited"]);
    eventually("it waits", || home.queue("a").len() == 2);
    assert!(!home.file("file").exists());
    signal(holder.id(), Signal::TERM);
    succeeds(&waiter.wait());
    assert_eq!(content(&home, "file"), "edited\n");
}

#[test]
fn inside_run_the_holds_own_token_is_used_and_nothing_is_taken() {
    let home = Home::new();
    let script = format!(
        "echo one | {TURNLOCK} write a file && echo two | {TURNLOCK} append a file &&
         {TURNLOCK} edit a file -- sed s/one/1/ && {TURNLOCK} fence check file &&
         echo other | {TURNLOCK} --json write b other && echo $TURNLOCK_TOKEN"
    );
    let output = home.run(&["run", "a", "--", "sh", "-c", &script]);
    succeeds(&output);
    assert_eq!(content(&home, "file"), "1\ntwo\n");
    let said = text(&output.stdout);
    let (other, token) = said.split_once('\n').expect("two lines");
    let other: serde_json::Value = serde_json::from_str(other).expect("JSON");
    assert_eq!(other["name"], "b", "another lock is taken for itself");
    assert_ne!(other["token"], token.trim());
    assert!(content(&home, ".file.fence").contains(&format!("token={} ", token.trim())));

    // The raw name `a` belongs to another client's queue, so it is another lock.
    let script = format!("{TURNLOCK} write -n --raw a file </dev/null");
    let output = home.run(&["run", "a", "--", "sh", "-c", &script]);
    refused(&output, 74, "fenced by the lock");

    let script = format!("echo x | {TURNLOCK} write a file");
    let output = home.run(&["run", "-s", "a", "--", "sh", "-c", &script]);
    refused(&output, 64, "shared mode");
}

#[test]
fn a_stale_token_is_79_and_names_both() {
    let home = Home::new();
    succeeds(&fed(
        &home,
        &["write", "--token", "7", "a", "file"],
        b"seven",
    ));
    for args in [
        &["write", "--token", "6", "a", "file"][..],
        &["append", "--token", "6", "a", "file"],
        &["edit", "--token", "6", "a", "file", "--", "echo", "six"],
        &["fence", "check", "file", "--token", "6"],
    ] {
        let output = fed(&home, args, b"six");
        refused(
            &output,
            79,
            "has seen token 7 of the lock \"a\", and 6 is lower",
        );
    }
    assert_eq!(content(&home, "file"), "seven");
    succeeds(&home.run(&["fence", "check", "file", "--token", "8"]));
    let output = home.run(&["--json", "fence", "check", "file", "--token", "7"]);
    assert_eq!(code(&output), 79);
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&line["admitted"], &line["highest"]),
        (&false.into(), &"8".into())
    );
    assert!(
        home.coordinator().is_none(),
        "no lock was taken for any of this"
    );
}

#[test]
fn an_impossible_request_is_refused_with_the_reason() {
    let home = Home::new();
    refused(
        &fed(&home, &["write", "--token", "1", "a", "no/file"], b""),
        74,
        "the folder no",
    );
    refused(
        &home.run(&["fence", "check", "file"]),
        64,
        "inside `turnlock run NAME`",
    );
    refused(
        &home.run(&["fence", "check", "file", "--token", "1"]),
        64,
        "no lock is held",
    );
    refused(
        &home.run(&["fence", "check", "file", "--token", "x"]),
        64,
        "invalid",
    );
    refused(
        &home.run(&["write", "a//b", "file"]),
        64,
        "a segment is empty",
    );
    let output = home
        .turnlock(&["write", "a", "file"])
        .env("TURNLOCK_FENCING_TOKEN", "7")
        .output()
        .expect("turnlock starts");
    refused(
        &output,
        78,
        "TURNLOCK_FENCING_TOKEN: \"7\" is not a fencing token",
    );
    assert_eq!(
        code(&home.run(&["edit", "--token", "1", "a", "file"])),
        64,
        "no command"
    );
}

#[test]
fn an_edit_whose_command_fails_changes_nothing() {
    let home = Home::new();
    succeeds(&fed(&home, &["write", "a", "file"], b"old"));
    let output = home.run(&["edit", "a", "file", "--", "sh", "-c", "echo half; exit 3"]);
    refused(&output, 3, "nothing was changed");
    refused(
        &home.run(&["edit", "a", "file", "--", "no-such-command"]),
        127,
        "no-such-command",
    );
    let output = home.run(&[
        "edit",
        "a",
        "file",
        "--",
        "sh",
        "-c",
        "echo half; kill -9 $$",
    ]);
    assert_eq!(code(&output), 128 + 9);
    assert_eq!(content(&home, "file"), "old");
    let script = format!("echo inner | {TURNLOCK} write a file; echo outer");
    let output = home.run(&["edit", "a", "file", "--", "sh", "-c", &script]);
    refused(&output, 74, "was changed while it was being edited");
    assert_eq!(content(&home, "file"), "inner\n");
    assert!(home.queue("a").is_empty());
}

#[test]
fn an_edit_whose_lock_is_lost_is_76_and_changes_nothing() {
    let home = Home::new();
    succeeds(&fed(&home, &["write", "a", "file"], b"old"));
    let work = "echo $$ >started; while :; do sleep 0.05; done";
    let editor = home.spawn(&["edit", "--ttl", "2", "a", "file", "--", "sh", "-c", work]);
    eventually("its command runs", || {
        !lines(&home.file("started")).is_empty()
    });
    let command: u32 = lines(&home.file("started"))[0]
        .parse()
        .expect("a process id");
    signal(editor.id(), Signal::STOP);
    succeeds(&fed(&home, &["write", "a", "file"], b"next"));
    assert!(
        !alive(command),
        "killed at the deadline, although turnlock is stopped"
    );
    signal(editor.id(), Signal::CONT);
    refused(&editor.wait(), 76, "the lock is lost");
    assert_eq!(content(&home, "file"), "next");
}

#[test]
fn the_help_has_examples_and_the_rule() {
    let home = Home::new();
    for command in ["write", "append", "edit"] {
        let help = text(&home.run(&[command, "--help"]).stdout);
        for shown in [
            "Examples:",
            "the token of that hold is used",
            "the status is 79",
            ".FILE.fence",
        ] {
            assert!(help.contains(shown), "{command}: {help}");
        }
    }
    let help = text(&home.run(&["fence", "check", "--help"]).stdout);
    assert!(help.contains("Examples:") && help.contains("79"), "{help}");
}

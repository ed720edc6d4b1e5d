//! Tests `turnlock write`, `append`, `edit` and `fence check`.

mod support;

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use support::{Home, alive, code, eventually, lines, readable_turnlock, signal, text};

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
fn a_token_that_no_coordinator_gives_is_refused_before_anything_is_run() {
    let home = Home::new();
    let poison = "18446744073709551615";
    for args in [
        &["write", "--token", poison, "a", "file"][..],
        &["append", "--token", poison, "a", "file"],
        &["edit", "--token", poison, "a", "file", "--", "touch", "ran"],
    ] {
        let said = "higher than any that a coordinator gives";
        refused(&fed(&home, args, b"x"), 64, said);
    }
    succeeds(&fed(&home, &["write", "--token", "7", "a", "file"], b"x"));
    let check = ["fence", "check", "file", "--token", poison];
    refused(&home.run(&check), 64, "9223372036854775807 at most");
    let raise = ["token-offset", "--raise-to", poison];
    let output = home.run(&raise);
    refused(&output, 64, "the highest is 4611686018427387904");
    assert!(!home.file("ran").exists());
    succeeds(&fed(&home, &["write", "a", "file"], b"y"));
}

#[test]
fn a_mark_that_a_typing_error_put_ahead_of_the_coordinator_comes_with_the_way_out() {
    let home = Home::new();
    let ahead = "2000000000000000000";
    succeeds(&fed(&home, &["write", "--token", ahead, "a", "file"], b"x"));
    let raise = format!("turnlock token-offset --raise-to {ahead}");
    refused(&fed(&home, &["append", "a", "file"], b"y"), 79, &raise);
    refused(&home.run(&["edit", "a", "file", "--", "cat"]), 79, &raise);
    // The token of a hold may be stale for a good reason, which only its holder can know.
    let script = format!("echo y | {TURNLOCK} append a file");
    let output = home.run(&["run", "a", "--", "sh", "-c", &script]);
    refused(&output, 79, "stale token");
    assert!(!text(&output.stderr).contains("token-offset"), "{output:?}");
    succeeds(&home.run(&["token-offset", "--raise-to", ahead]));
    succeeds(&fed(&home, &["append", "a", "file"], b"y"));
    assert_eq!(content(&home, "file"), "xy");
}

#[test]
fn links_and_marks_of_strangers_are_refused_where_everybody_may_write() {
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
    const STRANGER: Option<u32> = Some(65534);
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes files of another user: run it as root"
    );
    let home = Home::new();
    let folder = home.file("everybodys");
    fs::create_dir(&folder).expect("made");
    fs::set_permissions(&folder, PermissionsExt::from_mode(0o1777)).expect("ours");
    fs::write(home.file("precious"), "old").expect("writable");
    symlink("../precious", folder.join("link")).expect("made");
    lchown(folder.join("link"), STRANGER, STRANGER).expect("root");
    fs::write(folder.join("file"), "old").expect("writable");
    fs::write(folder.join(".file.fence"), "").expect("writable");
    chown(folder.join(".file.fence"), STRANGER, STRANGER).expect("root");
    for (path, said) in [
        ("everybodys/link", "symbolic link"),
        ("everybodys/file", "belongs to user 65534"),
    ] {
        for args in [
            &["write", "--token", "7", "a", path][..],
            &["append", "--token", "7", "a", path],
            &["edit", "--token", "7", "a", path, "--", "cat"],
            &["write", "a", path],
        ] {
            refused(&fed(&home, args, b"new"), 74, said);
        }
    }
    assert_eq!(content(&home, "precious"), "old");
    assert_eq!(content(&home, "everybodys/file"), "old");
    assert_eq!(content(&home, "everybodys/.file.fence"), "");

    // That user may follow its own link, and ours in our folder.
    let theirs = home.file("theirs");
    fs::create_dir(&theirs).expect("made");
    chown(&theirs, STRANGER, STRANGER).expect("root");
    fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).expect("ours");
    for (name, owner) in [("of-theirs", STRANGER), ("of-ours", Some(0))] {
        let link = folder.join(name);
        fs::write(theirs.join(name), "").expect("writable");
        chown(theirs.join(name), STRANGER, STRANGER).expect("root");
        symlink(theirs.join(name), &link).expect("made");
        lchown(&link, owner, owner).expect("root");
        let written = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(readable_turnlock())
            .args(["write", "--token", "7", "a"])
            .arg(&link)
            .stdin(fs::File::open(home.file("precious")).expect("readable"))
            .output()
            .expect("setpriv is there (Debian: util-linux)");
        succeeds(&written);
        assert_eq!(content(&home, &format!("theirs/{name}")), "old");
    }
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

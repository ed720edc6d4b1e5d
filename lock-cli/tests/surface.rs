//! The command line as people type it: flags that exist and that do not, names that are paths, what
//! is said and what is not.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Output, Stdio};
use std::time::Duration;

use support::{Home, Running, eventually, text};

fn code(output: &Output) -> i32 {
    output.status.code().expect("turnlock ends by itself")
}

/// Somebody who holds the lock.
fn holder(home: &Home, args: &[&str]) -> Running {
    let before = home.queue(args.last().expect("a name")).len();
    let holder = home.spawn(&[&["hold"], args].concat());
    eventually("it holds", || {
        home.queue(args.last().expect("a name")).len() > before
    });
    holder
}

#[test]
fn every_flag_of_flocks_is_accepted_in_every_place() {
    let home = Home::new();
    for line in [
        "run -s a true",
        "run --shared a true",
        "run -x a true",
        "run -e a true",
        "run --exclusive a true",
        "run -s -x a true",
        "run -n a true",
        "run --nb a true",
        "run --nonblock a true",
        "run -n -n a true",
        "run -w 5 a true",
        "run -w 5s a true",
        "run -w 0.5m a true",
        "run --wait 5 a true",
        "run --timeout 500ms a true",
        "run --timeout=5 a true",
        "run -E 0 a true",
        "run -n -E 255 a true",
        "run --conflict-exit-code 3 a true",
        "run -o a true",
        "run --close a true",
        "run --verbose a true",
        "run -xn -w 3 a true",
        "run -en a true",
        "run a -c true",
        "run a --command true",
        "run -c true a",
        "run a -n true",
        "run a -n -- true",
        "run -n -- a true",
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        let output = home.run(&args);
        let said = text(&output.stderr);
        if line.contains("-n -w") || line.contains("-xn -w") {
            assert_eq!(code(&output), 64, "{line}: {said}");
            assert!(said.contains("cannot be used with"), "{line}: {said}");
        } else {
            assert_eq!(code(&output), 0, "{line}: {said}");
        }
    }
    assert!(text(&home.run(&["run", "-V"]).stdout).starts_with("turnlock"));
}

#[test]
fn what_has_no_meaning_here_is_refused_with_the_reason() {
    let home = Home::new();
    for (line, said) in [
        ("run -u a true", "a lock is given back when its command"),
        ("hold --unlock a", "a lock is given back when its command"),
        ("run -F a true", "stays beside the command"),
        ("run --no-fork a true", "stays beside the command"),
        ("run 9", "a descriptor cannot be locked"),
        ("run a", "a command is required"),
        ("run a -c true true", "cannot be used with"),
        ("run -w 5d a true", "not a number of seconds"),
        ("run -E 256 a true", "256 is not in"),
        ("hold a true", "unexpected argument 'true'"),
        ("hold -c true a", "unexpected argument '-c'"),
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        let output = home.run(&args);
        let shown = text(&output.stderr);
        assert_eq!(code(&output), 64, "{line}: {shown}");
        assert!(shown.contains(said), "{line}: {shown}");
    }
}

#[test]
fn a_flag_that_does_not_exist_is_never_taken_for_a_name() {
    let home = Home::new();
    for line in [
        "run -Z deploy -- touch ran",
        "run --nonsense deploy -- touch ran",
        "run -- -n nightly touch ran",
        "run -n -- --shared nightly touch ran",
        "run -nZ deploy touch ran",
        "run deploy -Z touch ran",
        "run --waiit 3 deploy touch ran",
        "run - touch ran",
        "hold -Z",
        "hold -- -s",
        "queue -Z",
        "queue -- -Z",
        "ls -Z",
        "write -Z file",
        "write -- -Z file",
        "append -- -Z file",
        "edit -- -Z file touch ran",
        "fence check -Z",
        "floor -Z",
        "-Z ls",
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        let output = home.run(&args);
        let said = text(&output.stderr);
        assert_eq!(code(&output), 64, "{line}: {said}");
        assert!(
            !said.contains("as a value"),
            "advice to make it a name: {line}: {said}"
        );
        assert!(!home.file("ran").exists(), "{line}");
    }
}

#[test]
fn a_name_that_is_a_path_is_the_lock_of_the_file() {
    let home = Home::new();
    let real = home.path().canonicalize().expect("there");
    let whole = real.join("x.lock");
    let whole = whole.to_str().expect("text");
    let _holder = holder(&home, &["./x.lock"]);
    let name = format!("file{whole}");
    for same in [
        "./x.lock",
        whole,
        &name,
        &format!("../{}/x.lock", real.file_name().expect("one").display()),
    ] {
        assert_eq!(home.queue(same).len(), 1, "{same}");
        assert_eq!(code(&home.run(&["run", "-n", same, "true"])), 75, "{same}");
    }
    assert_eq!(
        code(&home.run(&["run", "-n", "x.lock", "true"])),
        0,
        "a name of its own"
    );
    let folder = text(&home.run(&["ls", real.to_str().expect("text")]).stdout);
    assert!(folder.contains(&name), "{folder}");
    assert!(text(&home.run(&["ls", "."]).stdout).contains(&name));
    // As a file's lock, also for those who change it.
    let written = home.run(&["write", "-n", "./x.lock", "x.lock"]);
    assert_eq!(code(&written), 75, "{}", text(&written.stderr));

    std::os::unix::fs::symlink("x.lock", home.file("link")).expect("made");
    fs::write(home.file("x.lock"), "").expect("writable");
    assert_eq!(home.queue("./link").len(), 1, "links are followed");
    fs::create_dir(home.file("folder")).expect("made");
    for folder in ["./folder", "./folder/", "."] {
        assert_eq!(code(&home.run(&["run", folder, "true"])), 0, "{folder}");
    }
    let lost = home.run(&["run", "./nowhere/x", "true"]);
    assert_eq!(code(&lost), 74, "{}", text(&lost.stderr));
    assert!(text(&lost.stderr).contains("nowhere"));
}

#[test]
fn arguments_and_environment_are_bytes() {
    let home = Home::new();
    let odd = OsStr::from_bytes(b"\xff");
    let run = |args: &[&OsStr]| home.turnlock(&[]).args(args).output().expect("starts");
    let o = OsStr::new;

    let echoed = run(&[o("run"), o("a"), o("printf"), odd]);
    assert_eq!(echoed.stdout, b"\xff");
    let line = OsStr::from_bytes(b"printf '\xff'");
    assert_eq!(run(&[o("run"), o("a"), o("-c"), line]).stdout, b"\xff");
    let noted = run(&[o("run"), o("--note"), odd, o("a"), o("true")]);
    assert_eq!(code(&noted), 0, "{}", text(&noted.stderr));
    let file = OsStr::from_bytes(b"f\xff");
    let written = run(&[o("write"), o("--json"), o("a"), file]);
    assert_eq!(code(&written), 0, "{}", text(&written.stderr));
    assert!(home.path().join(file).exists());

    for (args, said) in [
        (&[o("run"), odd, o("true")][..], "is not UTF-8"),
        (&[o("queue"), odd], "is not UTF-8"),
        (&[o("ls"), odd], "is not UTF-8"),
        (&[o("--backend"), odd, o("ls")], "not UTF-8"),
        (&[odd], "unrecognized subcommand"),
    ] {
        let output = run(args);
        assert_eq!(code(&output), 64, "{args:?}: {}", text(&output.stderr));
        assert!(
            text(&output.stderr).contains(said),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
    let path = run(&[o("run"), OsStr::from_bytes(b"./\xff"), o("true")]);
    assert_eq!(code(&path), 74, "{}", text(&path.stderr));
    assert!(text(&path.stderr).contains("a name of its own"));

    let variable = |name: &str| {
        let mut command = home.turnlock(&["run", "a", "true"]);
        command.env(name, odd).output().expect("starts")
    };
    assert_eq!(code(&variable("TURNLOCK_BACKEND")), 78);
    for name in [
        "USER",
        "LOGNAME",
        "TURNLOCK_FENCING_TOKEN",
        "TURNLOCK_NAME",
        "LANG",
        "X",
    ] {
        let output = variable(name);
        assert_eq!(code(&output), 0, "{name}: {}", text(&output.stderr));
    }
}

#[test]
fn who_would_wait_for_itself_is_told_so() {
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
    // Somebody else holds it: there is something to wait for.
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

    // One that waits leaves the queue when nobody wants the lock any more.
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

    // What comes on stdin is thrown away.
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
    // What it has started, such as the sleep, does not hold the lock, nor its pipe.
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
        // The pipe may still be open when it is looked at.
        let refused = code(&output) == 64 && said.contains("nobody holds stdin open");
        let late = script.ends_with("{}") && matches!(code(&output), 0 | 75);
        assert!(refused || late, "{script}: {}: {said}", code(&output));
    }
}

#[test]
fn quiet_says_nothing_and_verbose_what_happens() {
    let home = Home::new();
    let said = |args: &[&str]| text(&home.run(args).stderr);
    let verbose = said(&["run", "-v", "a", "true"]);
    assert!(
        verbose.contains("a: acquired (exclusive) after 0."),
        "{verbose}"
    );
    assert!(verbose.contains("a: released"), "{verbose}");

    let _holder = holder(&home, &["a"]);
    let waited = said(&["run", "-v", "-w", "2", "a", "true"]);
    assert!(
        waited.contains("still waiting for a, held by root@")
            || waited.contains("still waiting for a, held by"),
        "{waited}"
    );
    assert_eq!(waited.matches("still").count(), 1, "{waited}");
    for args in [
        &["run", "-q", "-n", "a", "true"][..],
        &["run", "-qw", "0.1", "a", "true"],
        &["-q", "hold", "-n", "a"],
    ] {
        let output = home.run(args);
        assert_eq!(code(&output), 75, "{args:?}");
        assert!(
            !text(&output.stderr).contains("turnlock:"),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
    let error = said(&["run", "-q", "a//b", "true"]);
    assert!(
        error.contains("a segment is empty"),
        "errors are said: {error}"
    );
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
fn a_queue_tells_the_user_and_the_program_and_nothing_that_drives_a_terminal() {
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

//! Tests the command line as people type it: flags that exist and that do not, names that are
//! paths, arguments that are not text.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use support::{Home, code, eventually, text};

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
fn a_flag_without_a_meaning_is_refused_with_the_reason() {
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
        "token-offset -Z",
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
    let _holder = home.spawn(&["hold", "./x.lock"]);
    eventually("it holds", || home.queue("./x.lock").len() == 1);
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
    // The name means the lock of a file, also for commands that change the file.
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

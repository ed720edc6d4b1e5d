//! Tests `turnlock rules`, and `turnlock serve` with rules and users.

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use support::{Home, Running, Server, code, eventually, signal, text};

const PASSWORD: &str = "the password of all";

const RULES: &str = r#"
[[rule]]
subject = "user:alice"
namespace = "a"
right = "lock"

[[rule]]
subject = "user:bob"
namespace = "a"
right = "read"
"#;

/// Makes a home with a file of rules, and with two users.
fn with_rules() -> Home {
    let home = Home::new();
    fs::write(home.file("rules.toml"), RULES).expect("written");
    for user in ["alice", "bob"] {
        let output = add_user(&home, user, &format!("{PASSWORD}\n"));
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    }
    fs::write(home.file("password"), PASSWORD).expect("written");
    fs::set_permissions(home.file("password"), PermissionsExt::from_mode(0o600)).expect("ours");
    home
}

fn add_user(home: &Home, user: &str, input: &str) -> Output {
    let mut command = home.turnlock(&["rules", "add-user", "users", user]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("turnlock starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("written");
    drop(stdin);
    child.wait_with_output().expect("a child of ours")
}

/// Returns the URL at which a user takes locks in a namespace.
fn url(home: &Home, server: &Server, user: &str, namespace: &str) -> String {
    let password = home.file("password");
    let place = server.url();
    format!(
        "{place}?namespace={namespace}&user={user}&password_file={}",
        password.display()
    )
}

#[test]
fn a_check_says_which_rule_decides() {
    let home = with_rules();
    for (line, status, said) in [
        (
            "--as user:alice --do lock --namespace a x",
            0,
            "allowed by line 2: user:alice may lock",
        ),
        (
            "--as user:bob --do read --namespace a x",
            0,
            "allowed by line 7",
        ),
        (
            "--as user:bob --do lock --namespace a x",
            1,
            "denied: no rule lets user:bob lock this; line 7",
        ),
        (
            "--as user:alice --do read x",
            1,
            "denied: no rule lets user:alice do anything here",
        ),
        ("--as cn:alice --do read --namespace a x", 1, "denied"),
        (
            "--as cn:x --as user:alice --do lock --namespace a x",
            0,
            "line 2",
        ),
        ("--as user:alice --do lock --key a/x", 0, "line 2"),
        ("--as user:alice --do lock --raw a/x", 0, "line 2"),
        ("--as user:alice --do lock --raw ax", 1, "denied"),
    ] {
        let args: Vec<&str> = ["rules", "check", "rules.toml"]
            .into_iter()
            .chain(line.split(' '))
            .collect();
        let output = home.run(&args);
        let shown = text(&output.stdout);
        assert_eq!(
            code(&output),
            status,
            "{line}: {shown}{}",
            text(&output.stderr)
        );
        assert!(shown.contains(said), "{line}: {shown}");
        let output = home.run(&[&["--json"], &args[..]].concat());
        assert_eq!(code(&output), status, "{line}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(json["allowed"], status == 0, "{line}: {json}");
    }
    for (line, said) in [
        ("--as alice --do lock x", "user:NAME"),
        ("--as user:alice --do write x", "read, lock or admin"),
    ] {
        let args: Vec<&str> = ["rules", "check", "rules.toml"]
            .into_iter()
            .chain(line.split(' '))
            .collect();
        let output = home.run(&args);
        assert_eq!(code(&output), 64, "{line}");
        assert!(
            text(&output.stderr).contains(said),
            "{}",
            text(&output.stderr)
        );
    }
}

#[test]
fn a_file_that_cannot_be_trusted_is_refused_with_the_remedy() {
    let home = with_rules();
    let check = || {
        let output = home.run(&[
            "rules",
            "check",
            "rules.toml",
            "--as",
            "*",
            "--do",
            "read",
            "x",
        ]);
        (code(&output), text(&output.stderr))
    };
    fs::set_permissions(home.file("rules.toml"), PermissionsExt::from_mode(0o666)).expect("ours");
    let (status, said) = check();
    assert!(
        status == 78 && said.contains("chmod go-w"),
        "{status}: {said}"
    );
    let output = home.run(&["serve", "--listen", "127.0.0.1:0", "--rules", "rules.toml"]);
    assert_eq!(code(&output), 78, "{}", text(&output.stderr));
    fs::set_permissions(home.file("rules.toml"), PermissionsExt::from_mode(0o644)).expect("ours");
    fs::write(
        home.file("rules.toml"),
        format!("{RULES}\n[[rule]]\nsubject = 1\n"),
    )
    .expect("written");
    let (status, said) = check();
    assert!(status == 78 && said.contains("line 13"), "{status}: {said}");
    let output = home.run(&["serve", "--users", "users"]);
    assert_eq!(code(&output), 64, "users alone: {}", text(&output.stderr));
}

#[test]
fn a_password_is_read_from_stdin_and_never_shown() {
    let home = with_rules();
    for (user, input, said) in [
        ("carol", "too short\n", "at least 12"),
        ("carol", "", "there is none"),
        ("a:b", "long enough, really\n", "no name of a user"),
    ] {
        let output = add_user(&home, user, input);
        let shown = text(&output.stderr);
        assert_ne!(code(&output), 0, "{user}: {shown}");
        assert!(shown.contains(said), "{user}: {shown}");
        assert!(input.is_empty() || !shown.contains(input.trim()), "{shown}");
    }
    let file = fs::read_to_string(home.file("users")).expect("readable");
    assert!(
        !file.contains(PASSWORD) && file.lines().count() == 2,
        "{file}"
    );
    let mode = fs::metadata(home.file("users"))
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_password_that_is_typed_is_not_shown_and_is_asked_for_twice() {
    let home = Home::new();
    let outside = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&outside)
        .and_then(|()| unlockpt(&outside))
        .expect("ours");
    let name = ptsname(&outside, Vec::new()).expect("it has a name");
    let inside = File::options()
        .read(true)
        .write(true)
        .open(name.to_str().expect("text"));
    let inside = inside.expect("ours");
    let echoes = || {
        let modes = tcgetattr(&inside).expect("a terminal").local_modes;
        modes.contains(LocalModes::ECHO)
    };
    let mut outside = File::from(outside);
    let end = || Stdio::from(inside.try_clone().expect("a descriptor"));
    for (second, status) in [(PASSWORD, 0), ("another password", 64)] {
        assert!(echoes());
        let mut command: Command = home.turnlock(&["rules", "add-user", "users", "alice"]);
        let child = command
            .stdin(end())
            .stdout(end())
            .stderr(Stdio::piped())
            .spawn();
        let child = Running::of(child.expect("turnlock starts"));
        eventually("nothing is shown", || !echoes());
        outside
            .write_all(format!("{PASSWORD}\n{second}\n").as_bytes())
            .expect("typed");
        let output = child.wait();
        assert_eq!(code(&output), status, "{}", text(&output.stderr));
        assert!(echoes(), "it is as before");
    }
    drop(inside);
    let mut shown = Vec::new();
    // The other end is gone, which is an error on Linux.
    let _ = outside.read_to_end(&mut shown);
    assert!(!text(&shown).contains(PASSWORD), "{}", text(&shown));
}

#[test]
fn a_server_with_rules_lets_users_do_what_they_may() {
    let home = with_rules();
    let server = Server::start_with(&home, &["--rules", "rules.toml", "--users", "users"]);
    let run = |user: &str, namespace: &str, args: &[&str]| {
        let url = url(&home, &server, user, namespace);
        home.run(&[&["--backend", &url], args].concat())
    };
    let output = run("alice", "a", &["run", "x", "echo", "done"]);
    assert_eq!(
        (code(&output), text(&output.stdout)),
        (0, "done\n".to_owned()),
        "{}",
        text(&output.stderr)
    );
    let output = run("bob", "a", &["ls"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    for (user, namespace) in [("bob", "a"), ("alice", "b")] {
        let output = run(user, namespace, &["run", "x", "echo", "done"]);
        assert_eq!(
            (code(&output), text(&output.stdout)),
            (77, String::new()),
            "{}",
            text(&output.stderr)
        );
    }
    let output = home.run(&["--backend", &server.url(), "run", "x", "true"]);
    assert_eq!(code(&output), 77, "{}", text(&output.stderr));

    let rule = "\n[[rule]]\nsubject = \"user:alice\"\nnamespace = \"b\"\nright = \"lock\"\n";
    fs::write(home.file("rules.toml"), format!("{RULES}{rule}")).expect("written");
    signal(server.id(), Signal::HUP);
    eventually("the new rule counts", || {
        code(&run("alice", "b", &["run", "x", "true"])) == 0
    });
    assert!(server.stop().status.success());
}

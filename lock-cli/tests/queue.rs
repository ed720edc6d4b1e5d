//! What is told of holders and waiters, to people and to programs, and how operators take a lock away.

mod support;

use std::process::Output;

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
        waited.contains(": waiting for a (we are next), held by"),
        "{waited}"
    );
    assert_eq!(waited.matches("waiting").count(), 1, "{waited}");
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

#[test]
fn who_is_evicted_learns_it_at_once_and_who_evicts_learns_whom() {
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

    // There is nobody left, and that is what was asked for.
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

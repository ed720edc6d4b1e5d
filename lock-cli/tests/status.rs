//! Tests the exit statuses and the messages.

mod support;

use std::time::{Duration, Instant};

use support::{Home, code, eventually, text};

#[test]
fn the_commands_own_status_passes_through() {
    let home = Home::new();
    assert_eq!(code(&home.run(&["run", "a", "--", "true"])), 0);
    assert_eq!(
        code(&home.run(&["run", "a", "--", "sh", "-c", "exit 7"])),
        7
    );
    assert_eq!(
        code(&home.run(&["run", "a", "-c", "kill -TERM $$"])),
        128 + 15
    );
    assert_eq!(code(&home.run(&["run", "a", "--", "/nowhere/at-all"])), 127);
    assert_eq!(code(&home.run(&["run", "a", "--", "/"])), 126);
    let output = home.run(&["run", "a", "--", "no-such-command"]);
    assert_eq!(code(&output), 127);
    assert!(
        text(&output.stderr).contains("no-such-command"),
        "{}",
        text(&output.stderr)
    );
    assert!(home.queue("a").is_empty(), "nothing is left behind");
}

#[test]
fn a_held_lock_is_75_at_once_or_after_the_time_given() {
    let home = Home::new();
    let holder = home.spawn(&["hold", "a", "--note", "nightly"]);
    eventually("the holder holds", || home.queue("a").len() == 1);

    let started = Instant::now();
    let output = home.run(&["run", "-n", "a", "--", "true"]);
    assert_eq!(code(&output), 75, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("somebody else has the lock"));

    let limited = Instant::now();
    assert!(
        limited - started < Duration::from_secs(5),
        "-n does not wait"
    );
    assert_eq!(
        code(&home.run(&["run", "-w", "0.5", "a", "--", "true"])),
        75
    );
    assert!(limited.elapsed() >= Duration::from_millis(500));
    assert!(limited.elapsed() < Duration::from_secs(10));
    assert_eq!(
        code(&home.run(&["run", "-n", "-E", "3", "a", "--", "true"])),
        3
    );

    let queue = home.queue("a");
    assert_eq!(queue.len(), 1, "those who gave up left: {queue:?}");
    assert_eq!(queue[0]["state"], "holds");
    assert_eq!(queue[0]["note"], "nightly");
    assert_eq!(queue[0]["pid"], holder.id());
    assert!(queue[0]["token"].is_string());
    let shown = text(&home.run(&["queue", "a"]).stdout);
    assert!(
        shown.contains("holds") && shown.contains("nightly"),
        "{shown}"
    );
    let listed = text(&home.run(&["ls"]).stdout);
    assert!(
        listed.contains('a') && listed.contains("exclusive"),
        "{listed}"
    );

    support::signal(holder.id(), rustix::process::Signal::TERM);
    assert_eq!(code(&holder.wait()), 0);
    assert_eq!(code(&home.run(&["run", "-n", "a", "--", "true"])), 0);
}

#[test]
fn readers_share_and_a_writer_does_not() {
    let home = Home::new();
    let reader = home.spawn(&["hold", "-s", "a"]);
    eventually("a reader holds", || home.queue("a").len() == 1);
    assert_eq!(code(&home.run(&["run", "-n", "-s", "a", "--", "true"])), 0);
    assert_eq!(code(&home.run(&["run", "-n", "a", "--", "true"])), 75);
    drop(reader);
}

#[test]
fn bad_input_is_64_and_names_the_rule() {
    let home = Home::new();
    for (args, said) in [
        (
            &["run", "a//b", "--", "true"][..],
            "a segment is empty (at byte 2)",
        ),
        (
            &["run", "a/../x", "--", "true"],
            "a segment is '.' or '..' (at byte 2)",
        ),
        (&["run", "", "--", "true"], "it is empty"),
        (&["run", "a"], "required"),
        (
            &["run", "-w", "soon", "a", "--", "true"],
            "not a number of seconds",
        ),
        (
            &["run", "--ttl", "0.1", "a", "--", "true"],
            "a time to live of 100ms is out of bounds",
        ),
        (
            &["run", "--ttl", "4", "--grace", "3", "a", "--", "true"],
            "does not fit into a ttl of 4 s",
        ),
        (&["frobnicate"], "unrecognized subcommand"),
    ] {
        let output = home.run(args);
        assert_eq!(code(&output), 64, "{args:?}: {}", text(&output.stderr));
        assert!(
            text(&output.stderr).contains(said),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn a_dead_backend_is_69_and_names_the_address() {
    let home = Home::new();
    // This port was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a port")
        .port();
    let url = format!("etcd://127.0.0.1:{port}");
    for args in [
        &["--backend", &url, "run", "-n", "a", "--", "true"][..],
        &["--backend", &url, "ls"],
    ] {
        let output = home.run(args);
        assert_eq!(code(&output), 69, "{}", text(&output.stderr));
        assert!(
            text(&output.stderr).contains(&format!("127.0.0.1:{port}")),
            "{}",
            text(&output.stderr)
        );
    }
}

#[test]
fn a_wrong_configuration_is_78() {
    let home = Home::new();
    for (url, said) in [
        ("redis://localhost", "\"redis\" is not known"),
        ("etcd://", "has no host"),
        ("etcd+unix://relative", "is not absolute"),
        ("embedded:memory", "lives inside one process"),
        ("etcd://localhost?colour=red", "\"colour\" is not known"),
    ] {
        let output = home.run(&["--backend", url, "ls"]);
        assert_eq!(code(&output), 78, "{url}: {}", text(&output.stderr));
        assert!(
            text(&output.stderr).contains(said),
            "{url}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn help_shows_examples_and_the_statuses() {
    let home = Home::new();
    let output = home.run(&["--help"]);
    assert_eq!(code(&output), 0);
    let help = text(&output.stdout);
    for shown in ["turnlock run ledger", "Exit status:", "76 ", "128+N"] {
        assert!(help.contains(shown), "{help}");
    }
}

#[test]
fn the_innermost_holds_variables_win() {
    let home = Home::new();
    let inner = format!(
        "{} run inner -c 'echo $TURNLOCK_NAME $TURNLOCK_MODE'",
        env!("CARGO_BIN_EXE_turnlock")
    );
    let output = home.run(&[
        "run",
        "-s",
        "outer",
        "-c",
        &format!("{inner}; echo $TURNLOCK_NAME $TURNLOCK_MODE"),
    ]);
    assert_eq!(
        text(&output.stdout),
        "inner exclusive\nouter shared\n",
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn the_coordinator_stops_on_request_and_when_idle() {
    let home = Home::new();
    assert_eq!(code(&home.run(&["run", "a", "--", "true"])), 0);
    let pid = home.coordinator().expect("it runs");
    assert_eq!(code(&home.run(&["stop"])), 0);
    assert!(!support::alive(pid));
    assert_eq!(
        code(&home.run(&["stop"])),
        0,
        "stopping what does not run is no failure"
    );

    let home_dir = home.path().to_str().expect("text").to_owned();
    let server = home.spawn(&["serve", "--idle", "0.3", "--data", &home_dir]);
    assert_eq!(code(&server.wait()), 0, "ends by itself");
}

#[test]
fn a_second_coordinator_on_a_folder_is_refused_with_the_owner() {
    let home = Home::new();
    assert_eq!(code(&home.run(&["run", "a", "--", "true"])), 0);
    let output = home.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(code(&output), 78);
    let said = text(&output.stderr);
    assert!(
        said.contains(&format!("process {}", home.coordinator().expect("it runs"))),
        "{said}"
    );
}

#[test]
fn the_home_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let inner = home.file("state");
    let run = |dir: &std::path::Path| {
        home.turnlock(&["run", "a", "--", "true"])
            .env("TURNLOCK_HOME", dir)
            .output()
            .expect("starts")
    };
    let output = run(&inner);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let mode = |file: &std::path::Path| {
        std::fs::metadata(file)
            .expect("exists")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(&inner), 0o700);
    assert_eq!(mode(&inner.join("turnlock.sock")), 0o600);
    let stopped = home
        .turnlock(&["stop"])
        .env("TURNLOCK_HOME", &inner)
        .output()
        .expect("starts");
    assert_eq!(code(&stopped), 0);

    std::fs::set_permissions(&inner, PermissionsExt::from_mode(0o755)).expect("ours");
    let output = run(&inner);
    assert_eq!(code(&output), 78, "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("open to other users"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_coordinator_that_starts_itself_keeps_nothing_of_its_callers_open() {
    let home = Home::new();
    let script = format!(
        "exec 7>held; {} run a -- true",
        env!("CARGO_BIN_EXE_turnlock")
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .env("TURNLOCK_HOME", home.path())
        .current_dir(home.path())
        .output()
        .expect("sh starts");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let pid = home.coordinator().expect("it runs");
    let held = home.file("held");
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("our process");
    for descriptor in open {
        let target = std::fs::read_link(descriptor.expect("readable").path());
        assert_ne!(target.ok(), Some(held.clone()));
    }
}

#[test]
fn to_wait_for_no_time_is_to_try() {
    let home = Home::new();
    assert_eq!(code(&home.run(&["run", "-w", "0", "a", "--", "true"])), 0);
    let holder = home.spawn(&["hold", "a"]);
    eventually("it holds", || home.queue("a").len() == 1);
    assert_eq!(code(&home.run(&["run", "-w", "0", "a", "--", "true"])), 75);
    drop(holder);
}

#[test]
fn a_home_that_depends_on_the_working_folder_is_refused() {
    let home = Home::new();
    let output = home
        .turnlock(&["ls"])
        .env("TURNLOCK_HOME", "relative")
        .output()
        .expect("turnlock starts");
    assert_eq!(code(&output), 78, "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("is not absolute"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_new_command_outlives_a_coordinator_that_is_on_its_way_out() {
    let home = Home::new();
    let holder = home.spawn(&["hold", "other"]);
    eventually("it holds", || home.queue("other").len() == 1);
    support::signal(
        home.coordinator().expect("it runs"),
        rustix::process::Signal::TERM,
    );
    let output = home.run(&["run", "a", "--", "true"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    drop(holder);
}

#[test]
fn status_measures_a_coordinator_and_counts_its_locks() {
    let home = Home::new();
    let _holder = support::holder(&home, &["a\u{202e}b"]);
    let _other = support::holder(&home, &["c"]);
    let _waiter = home.spawn(&["run", "c", "true"]);
    eventually("it waits", || home.queue("c").len() == 2);
    let output = home.run(&["status", "--json"]);
    assert_eq!(code(&output), 0);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(
        said["round_trip_ms"].as_f64().is_some_and(|ms| ms > 0.0),
        "{said}"
    );
    assert_eq!(said["clock_difference_ms"], 0, "{said}");
    assert_eq!(said["sessions"], 3, "{said}");
    let limit = said["sessions_limit"].as_u64();
    assert!(limit.is_some_and(|limit| limit > 3), "{said}");
    let store = said["store_bytes"]
        .as_u64()
        .zip(said["store_limit_bytes"].as_u64());
    assert!(
        store.is_some_and(|(used, limit)| 0 < used && used < limit),
        "{said}"
    );
    for resource in ["connections", "watches", "pending_requests"] {
        let limit = said[format!("{resource}_limit")].as_u64();
        let used = said[resource].as_u64();
        assert!(
            used.zip(limit).is_some_and(|(used, limit)| used < limit),
            "{resource}: {said}"
        );
    }
    assert!(said["connections"].as_u64() >= Some(3), "{said}");
    assert!(
        said["journal_bytes"].as_u64() <= said["journal_limit_bytes"].as_u64(),
        "{said}"
    );
    assert!(said["disk_free_bytes"].as_u64() > Some(0), "{said}");
    let commits = &said["commits"];
    assert!(commits["count"].as_u64() >= Some(3), "{said}");
    assert!(
        commits["slowest_ms"].as_f64().is_some_and(|ms| ms > 0.0),
        "{said}"
    );
    assert_eq!(said["refused"], serde_json::json!({}), "{said}");
    let locks = &said["locks"];
    assert_eq!(locks["in_use"], 2, "{said}");
    assert_eq!(
        (&locks["contended"], &locks["waiting"]),
        (&1.into(), &1.into()),
        "{said}"
    );
    assert_eq!(locks["longest_hold"]["name"], "a\u{202e}b", "{said}");
    assert_eq!(locks["longest_wait"]["name"], "c", "{said}");
    for args in [&["status"][..], &["status", "--json"]] {
        let shown = text(&home.run(args).stdout);
        assert!(!shown.contains('\u{202e}'), "{shown:?}");
    }
    let shown = text(&home.run(&["status"]).stdout);
    for word in [
        "round trip",
        "sessions",
        "% full",
        "longest wait",
        "connections",
        "requests pending",
        "journal",
        "half within",
        "the slowest of the last ten minutes",
    ] {
        assert!(shown.contains(word), "{shown}");
    }
}

//! Tests that a coordinator in the background inherits nothing from the command that started it,
//! and that it is found and stopped.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use support::{Home, alive, eventually, program, readable_turnlock, signal, text};

#[test]
fn folders_made_under_umask_177_can_be_used_by_everything_of_the_users() {
    let home = Home::new();
    let script = r#"umask 177; exec "$0" run a -- true"#;
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(readable_turnlock())
        .env("HOME", home.path())
        .env_remove("TURNLOCK_HOME")
        .env_remove("XDG_STATE_HOME")
        .env_remove("TURNLOCK_BACKEND")
        .output()
        .expect("sh starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    for made in [".local", ".local/state", ".local/state/turnlock"] {
        let mode = fs::metadata(home.file(made)).expect("made").mode() & 0o777;
        assert_eq!(mode, 0o700, "{made}");
    }
    let stopped = home
        .turnlock(&["stop"])
        .env("TURNLOCK_HOME", home.file(".local/state/turnlock"))
        .output()
        .expect("turnlock starts");
    assert!(stopped.status.success(), "{}", text(&stopped.stderr));
}

#[test]
fn a_coordinator_inherits_nothing_from_its_starter() {
    let home = Home::new();
    let script = r#"trap '' TERM HUP INT USR1; umask 0; ulimit -Sn 200; ulimit -Sf 100000
        exec nice -n 19 "$0" run a -- true"#;
    // The processes that this thread starts inherit the blocked signals.
    let blocked = nix::sys::signal::SigSet::all();
    let before = blocked
        .thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)
        .expect("blocked");
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(readable_turnlock())
        .env("TURNLOCK_HOME", home.path())
        .env("DB_PASSWORD", "canary")
        .env("TURNLOCK_ETCD_PASSWORD", "canary")
        .env("LC_ALL", "C.UTF-8")
        .env_remove("TURNLOCK_BACKEND")
        .output();
    before.thread_set_mask().expect("as before");
    let output = output.expect("sh starts");
    assert!(output.status.success(), "{}", text(&output.stderr));

    let pid = home.coordinator().expect("it runs");
    let read = |file: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).expect("our process");
        text(&bytes)
    };
    let environ = read("environ");
    assert!(!environ.contains("canary"), "{environ}");
    assert!(environ.contains("LC_ALL=C.UTF-8"), "{environ}");
    let status = read("status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.expect(name).trim().to_owned()
    };
    assert_eq!(field("SigBlk:"), "0000000000000000");
    // The standard library ignores SIGPIPE. Only the first 31 signals are compared, because the C
    // library reserves some of the rest.
    let ignored = u64::from_str_radix(&field("SigIgn:"), 16).expect("a mask");
    assert_eq!(ignored & 0x7fff_ffff, 1 << 12, "{ignored:x}");
    assert_eq!(field("Umask:"), "0077");
    for limit in ["Max open files", "Max file size"] {
        let limits = read("limits");
        let line = limits.lines().find(|line| line.starts_with(limit));
        let numbers: Vec<&str> = line.expect(limit)[limit.len()..]
            .split_whitespace()
            .collect();
        assert_eq!(numbers[0], numbers[1], "{limit}");
    }
    if rustix::process::geteuid().is_root() {
        // The nice value is the 19th field.
        let stat = read("stat");
        let (_, after_the_name) = stat.rsplit_once(") ").expect("a name");
        assert_eq!(after_the_name.split(' ').nth(16), Some("0"), "{stat}");
    }
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).expect("our process");
    assert_eq!(cwd, Path::new("/"));
    let stopped = home.run(&["stop"]);
    assert!(stopped.status.success(), "{}", text(&stopped.stderr));
    assert!(!alive(pid));
}

#[test]
fn a_limit_that_cannot_be_raised_is_in_the_log() {
    let home = Home::new();
    let script = r#"ulimit -n 100; ulimit -t 1000; exec "$0" run a -- true"#;
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(readable_turnlock())
        .env("TURNLOCK_HOME", home.path())
        .env_remove("TURNLOCK_BACKEND")
        .output()
        .expect("sh starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let log = || fs::read_to_string(home.file("coordinator.log")).expect("a log");
    eventually("it is said", || {
        log().contains("after 1000 s of processor time")
    });
    assert!(log().contains("at most 100 descriptors"), "{}", log());
}

#[test]
fn a_limit_that_lets_nothing_be_written_is_a_mistake_and_no_outage() {
    let home = Home::new();
    let output = Command::new("sh")
        .args(["-c", r#"ulimit -f 0; exec "$0" run a -- true"#])
        .arg(readable_turnlock())
        .env("TURNLOCK_HOME", home.path())
        .env_remove("TURNLOCK_BACKEND")
        .output()
        .expect("sh starts");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("File too large"), "{said}");
}

#[test]
fn the_log_is_kept_over_a_start_and_has_times() {
    let home = Home::new();
    for _ in 0..2 {
        assert!(home.run(&["run", "a", "--", "true"]).status.success());
        assert!(home.run(&["stop"]).status.success());
    }
    let log = fs::read_to_string(home.file("coordinator.log")).expect("a log");
    let starts: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("serving"))
        .collect();
    assert_eq!(starts.len(), 2, "{log}");
    for line in starts {
        // The time looks like 2026-01-31T12:00:00.000000Z.
        let (time, _) = line.split_once(' ').expect("a time");
        assert!(time.len() == 27 && time.ends_with('Z'), "{line}");
        assert_eq!(&time[10..11], "T");
    }
    let mode = fs::metadata(home.file("coordinator.log"))
        .expect("there")
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_read_only_command_starts_no_coordinator_and_makes_no_files() {
    let home = Home::new();
    let state = home.file("state");
    for command in [&["ls"][..], &["queue", "a"], &["status"], &["stop"]] {
        let output = home
            .turnlock(command)
            .env("TURNLOCK_HOME", &state)
            .output()
            .expect("turnlock starts");
        let expected = if command == ["status"] { 69 } else { 0 };
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{}",
            text(&output.stderr)
        );
        assert!(!state.exists(), "{command:?} made the folder");
    }
}

#[test]
fn status_says_which_coordinator_and_why() {
    let home = Home::new();
    assert!(home.run(&["run", "a", "--", "true"]).status.success());
    let output = home.run(&["status", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["kind"], "own");
    assert_eq!(said["decided_by"], "TURNLOCK_HOME");
    assert_eq!(said["place"], home.path().to_str().expect("text"));
    assert_eq!(said["pid"], home.coordinator().expect("it runs"));
    assert_eq!(
        said["version"],
        concat!("turnlock ", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(said["answers"], true);

    let url = format!("etcd+unix://{}", home.file("turnlock.sock").display());
    let output = home.run(&["--backend", &url, "status"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(
        shown.contains("--backend") && shown.contains(&url),
        "{shown}"
    );
    assert!(home.run(&["stop"]).status.success());
    let output = home.run(&["--backend", &url, "status"]);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
}

#[test]
fn a_coordinator_in_another_process_namespace_is_not_called_none() {
    assert!(rustix::process::geteuid().is_root(), "run this as root");
    let home = Home::new();
    assert!(home.run(&["run", "a", "--", "true"]).status.success());
    let pid = home.coordinator().expect("it runs");
    let inside = |command: &str| {
        let output = Command::new(program("unshare", "util-linux"))
            .args(["--pid", "--fork", "--mount-proc"])
            .arg(readable_turnlock())
            .arg(command)
            .env("TURNLOCK_HOME", home.path())
            .env_remove("TURNLOCK_BACKEND")
            .output();
        output.expect("unshare starts")
    };
    let output = inside("stop");
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("in another process namespace"), "{said}");
    assert!(alive(pid));
    assert_eq!(inside("status").status.code(), Some(0));
}

#[test]
fn stop_without_the_socket_never_says_that_none_runs_while_one_does() {
    let home = Home::new();
    assert!(home.run(&["run", "a", "--", "true"]).status.success());
    let pid = home.coordinator().expect("it runs");
    fs::remove_file(home.file("turnlock.sock")).expect("there");
    let output = home.run(&["stop"]);
    let said = text(&output.stderr);
    match output.status.code() {
        Some(0) => assert!(!alive(pid), "{said}"),
        status => {
            assert_eq!(status, Some(69), "{said}");
            assert!(said.contains(&format!("process {pid}")), "{said}");
            signal(pid, Signal::TERM);
            eventually("it has ended", || !alive(pid));
        }
    }
}

#[test]
fn a_socket_of_another_user_is_refused() {
    assert!(rustix::process::geteuid().is_root(), "run this as root");
    let home = Home::new();
    let theirs = home.file("theirs");
    fs::create_dir(&theirs).expect("made");
    fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).expect("ours");
    fs::set_permissions(&theirs, PermissionsExt::from_mode(0o700)).expect("ours");
    std::os::unix::fs::chown(&theirs, Some(65534), Some(65534)).expect("root");
    let server = Command::new(program("setpriv", "util-linux"))
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(readable_turnlock())
        .args(["serve", "--data"])
        .arg(&theirs)
        .stdin(Stdio::null())
        .spawn();
    let server = support::Running::of(server.expect("setpriv starts"));
    let socket = theirs.join("turnlock.sock");
    eventually("it listens", || {
        std::os::unix::net::UnixStream::connect(&socket).is_ok()
    });
    let url = format!("etcd+unix://{}", socket.display());
    let output = home.run(&["--backend", &url, "run", "a", "--", "true"]);
    assert_eq!(output.status.code(), Some(78), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("is served by user 65534"), "{said}");
    let url = format!("{url}?server_uid=65534");
    let output = home.run(&["--backend", &url, "run", "a", "--", "true"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    drop(server);
}

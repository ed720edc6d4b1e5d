//! Tests commands that run short of descriptors or of time to live: they end with a status and a
//! message, never with a panic, and work again when the shortage is over.

mod support;

use std::process::Output;

use support::{Home, text};
use testkit::fixtures::zk::{Ensemble, Settings};

/// Runs the command with this limit of descriptors.
fn with_descriptors(home: &Home, count: u32, args: &[&str]) -> Output {
    let turnlock = home.turnlock(args);
    let mut shell = std::process::Command::new("sh");
    shell
        .arg("-c")
        .arg(format!("ulimit -n {count}; exec \"$@\""))
        .arg("sh")
        .arg(turnlock.get_program())
        .args(turnlock.get_args())
        .env("TURNLOCK_HOME", home.path())
        .env_remove("TURNLOCK_BACKEND")
        .current_dir(home.path());
    shell.output().expect("a shell")
}

#[test]
fn without_descriptors_every_command_says_so() {
    let home = Home::new();
    assert!(home.run(&["run", "a", "--", "true"]).status.success());
    let commands: [&[&str]; 6] = [
        &["run", "a", "--", "true"],
        &["run", "-n", "a", "--", "true"],
        &["append", "a", "file"],
        &["edit", "a", "file", "--", "cat"],
        &["queue", "a"],
        &["ls"],
    ];
    for args in commands {
        // The C library cannot be loaded with fewer than 4.
        for count in 4..=24 {
            let output = with_descriptors(&home, count, args);
            let said = text(&output.stderr);
            let status = output.status.code().expect("not ended by a signal");
            assert!(
                status == 0 || status == 78 && said.contains("ulimit -n"),
                "{args:?} with {count}: {status}: {said}"
            );
            assert!(!said.contains("panicked"), "{args:?} with {count}: {said}");
        }
    }
    assert!(home.run(&["run", "a", "--", "true"]).status.success());
}

/// Root is exempt from this limit.
#[test]
fn without_threads_every_command_says_so() {
    let home = Home::new();
    let chown = std::os::unix::fs::chown(home.path(), Some(65534), Some(65534));
    chown.expect("this test needs root");
    let commands: [&[&str]; 4] = [
        &["run", "a", "--", "true"],
        &["hold", "-n", "a"],
        &["queue", "a"],
        &["ls"],
    ];
    for args in commands {
        // If no coordinator were named, `queue` and `ls` would not need to connect.
        let mut turnlock = home.turnlock(&["--backend", "etcd://127.0.0.1:9"]);
        turnlock.args(args);
        let output = std::process::Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .args(["prlimit", "--nproc=1", "--"])
            .arg(turnlock.get_program())
            .args(turnlock.get_args())
            .env("TURNLOCK_HOME", home.path())
            .env_remove("TURNLOCK_BACKEND")
            .current_dir(home.path())
            .output()
            .expect("setpriv starts");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{args:?}: {said}");
        assert!(said.contains("of threads"), "{args:?}: {said}");
    }
}

#[test]
fn the_timeout_that_zookeeper_grants_counts() {
    // Servers have this limit unless they are configured otherwise: twenty ticks.
    let ensemble = Ensemble::start(Settings {
        config: vec!["maxSessionTimeout=40000".to_owned()],
        ..Settings::default()
    });
    let home = Home::new();
    let run = |grace: &[&str]| {
        let mut command = home.turnlock(&["--backend", &ensemble.url(), "run", "--ttl", "300"]);
        command.args(grace).args(["x", "--", "sleep", "1"]);
        command.output().expect("turnlock starts")
    };
    let output = run(&[]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(
        said.matches("of the 300 s asked for (--ttl)").count(),
        1,
        "{said}"
    );
    let output = run(&["--grace", "100"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("a grace of 100 s does not fit"), "{said}");
    let queue = home
        .turnlock(&["--backend", &ensemble.url(), "queue", "--json", "x"])
        .output();
    assert_eq!(
        text(&queue.expect("turnlock starts").stdout).trim(),
        "",
        "left the queue"
    );
}

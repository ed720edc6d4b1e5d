//! Tests the limits that `turnlock serve` sets.

mod support;

use std::fs;
use std::process::Command;

use support::{Home, Running, Server, code, eventually, program, text};

/// The page that says how leases of strangers are found and revoked.
const RUNBOOK: &str = "../docs/runbooks/TurnlockServerSaturated.md";

/// Starts a command that holds a lock which is free, and waits until it does.
fn hold(home: &Home, url: &str, name: &str) -> Running {
    let holder = home.spawn(&["hold", "--backend", url, name]);
    eventually("it holds", || home.queue_at(url, name).len() == 1);
    holder
}

#[test]
fn a_contender_behind_too_many_is_told_the_place_that_there_is_not() {
    let home = Home::new();
    let server = Server::start_with(&home, &["--max-waiters", "1"]);
    let url = server.url();
    let _holder = hold(&home, &url, "a");
    let _waiter = home.spawn(&["hold", "--backend", &url, "a"]);
    eventually("it waits", || home.queue_at(&url, "a").len() == 2);
    let refused = home.run(&["run", "--backend", &url, "a", "--", "true"]);
    let said = text(&refused.stderr);
    assert_eq!(code(&refused), 69, "{said}");
    assert!(said.contains("no place 3"), "{said}");
    let other = home.run(&["run", "--backend", &url, "b", "--", "true"]);
    assert_eq!(code(&other), 0, "{}", text(&other.stderr));
}

#[test]
fn a_limit_is_kept_and_shown() {
    let home = Home::new();
    let limits = ["--limit", "leases=2", "--limit", "store_bytes=1MiB"];
    let server = Server::start_with(&home, &limits);
    let url = server.url();
    let holders = ["a", "b"].map(|name| hold(&home, &url, name));
    let refused = home.run(&["run", "--backend", &url, "c", "--", "true"]);
    let said = text(&refused.stderr);
    assert_eq!(code(&refused), 69, "{said}");
    assert!(said.contains("2 leases"), "{said}");
    let status = home.run(&["status", "--json", "--backend", &url]);
    let said: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(said["store_limit_bytes"], 1 << 20, "{said}");
    let metrics = text(&home.run(&["metrics"]).stdout);
    for limit in [
        "turnlock_server_limit{resource=\"leases\"} 2.0\n",
        "turnlock_server_limit{resource=\"content_bytes\"} 1048576.0\n",
        "turnlock_server_refused_total{reason=\"leases\"} ",
    ] {
        assert!(metrics.contains(limit), "{limit}: {metrics}");
    }
    drop(holders);
}

#[test]
fn a_limit_that_does_not_exist_is_refused_with_those_that_do() {
    let home = Home::new();
    let refused = home.run(&["serve", "--limit", "lease=2"]);
    let said = text(&refused.stderr);
    assert_eq!(code(&refused), 64, "{said}");
    assert!(said.contains("leases_of_subject"), "{said}");
}

/// The attacker has gone, and its leases would stay for centuries.
#[test]
fn leases_that_nobody_will_end_are_revoked_by_the_script_of_the_runbook() {
    let home = Home::new();
    let server = Server::start_with(&home, &["--limit", "leases=6"]);
    let url = server.url();
    let _holder = hold(&home, &url, "kept");
    let etcdctl = program("etcdctl", "etcd-client");
    for _ in 0..5 {
        let granted = Command::new(&etcdctl)
            .args(["--endpoints", server.address()])
            .args(["lease", "grant", "9000000000"])
            .env("ETCDCTL_API", "3")
            .output()
            .expect("it runs");
        assert!(granted.status.success(), "{}", text(&granted.stderr));
    }
    let run = || home.run(&["run", "--backend", &url, "other", "--", "true"]);
    assert_eq!(code(&run()), 69, "there are too many leases");

    let page = fs::read_to_string(RUNBOOK).expect("the page");
    let (_, script) = page.split_once("```sh\n").expect("a script");
    let (script, _) = script.split_once("```").expect("its end");
    let script = script.replace("127.0.0.1:2379", server.address());
    let folder = tempfile::tempdir().expect("a folder");
    let done = Command::new("sh")
        .args(["-euc", &script])
        .current_dir(folder.path())
        .output()
        .expect("it runs");
    let said = text(&done.stdout);
    assert!(done.status.success(), "{said}{}", text(&done.stderr));
    assert_eq!(
        said.matches("granted with TTL(9000000000s)").count(),
        5,
        "{said}"
    );
    assert_eq!(said.matches(" revoked").count(), 5, "{said}");
    let after = run();
    assert_eq!(code(&after), 0, "{}", text(&after.stderr));
    assert_eq!(
        home.queue_at(&url, "kept").len(),
        1,
        "the holder's lease is no such lease"
    );
}

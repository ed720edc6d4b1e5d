//! Tests the limits that `turnlock serve` sets.

mod support;

use support::{Home, Server, code, eventually, text};

#[test]
fn a_contender_behind_too_many_is_told_the_place_that_there_is_not() {
    let home = Home::new();
    let server = Server::start_with(&home, &["--max-waiters", "1"]);
    let url = server.url();
    let _holder = home.spawn(&["hold", "--backend", &url, "a"]);
    eventually("it holds", || home.queue_at(&url, "a").len() == 1);
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
    let holders = ["a", "b"].map(|name| {
        let holder = home.spawn(&["hold", "--backend", &url, name]);
        eventually("it holds", || home.queue_at(&url, name).len() == 1);
        holder
    });
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

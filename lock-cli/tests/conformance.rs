//! Tests that coordinators that others use pass `turnlock conformance`, and that it leaves no key
//! behind.

mod support;

use std::process::Command;

use support::{Home, Server, program, text};
use testkit::fixtures::etcd::Node;
use testkit::fixtures::zk::{Ensemble, Settings};

/// Returns all stored keys, as etcd's own command line shows them.
fn keys(address: &str) -> String {
    let etcdctl = program("etcdctl", "etcd-client");
    let output = Command::new(etcdctl)
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", address, "get", "", "--prefix", "--keys-only"])
        .output()
        .expect("etcdctl starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs the suite on this coordinator and returns how many cases passed.
fn passes(home: &Home, url: &str) -> usize {
    let output = home.run(&["--backend", url, "conformance"]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    let mut lines = out.lines().rev();
    let sum = lines.next().expect("it ends with a sum");
    let counts: Vec<usize> = sum
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    let [passed, failed, skipped] = counts[..] else {
        panic!("not a sum: {sum}")
    };
    assert_eq!(
        sum,
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    );
    assert_eq!(failed, 0, "{out}");
    assert_eq!(passed + skipped, conformance::cases().len());
    assert_eq!(
        passed,
        lines.filter(|line| line.starts_with("passed ")).count()
    );
    passed
}

#[tokio::test]
async fn etcd_passes_and_keeps_the_keys_that_it_had() {
    let home = Home::new();
    let etcd = Node::start().await;
    let mut client = etcd.client().await;
    for key in ["turnlock/mine/write/1", "other"] {
        client.put(key, "x", None).await.expect("put");
    }
    let before = keys(&etcd.address());
    let url = format!("etcd://{}", etcd.address());
    assert!(passes(&home, &url) > 30);
    assert_eq!(keys(&etcd.address()), before);
    let leases = client.leases().await.expect("an answer");
    assert_eq!(leases.leases().len(), 0);
}

#[test]
fn the_embedded_coordinator_passes_and_keeps_nothing() {
    let home = Home::new();
    let server = Server::start(&home);
    assert!(passes(&home, &server.url()) > 30);
    assert_eq!(keys(server.address()), "");
}

#[test]
fn zookeeper_passes_and_keeps_the_nodes_that_it_had() {
    let home = Home::new();
    let zookeeper = Ensemble::start(Settings {
        // The long interval keeps the servers from removing containers meanwhile.
        properties: vec!["znode.container.checkIntervalMs=3600000".to_owned()],
        ..Settings::default()
    });
    let nodes = || zookeeper.count(0, "zk_znode_count");
    let held = home.run(&["--backend", &zookeeper.url(), "run", "a", "--", "true"]);
    assert_eq!(held.status.code(), Some(0), "{}", text(&held.stderr));
    let before = nodes();
    assert!(passes(&home, &zookeeper.url()) > 30);
    assert_eq!(nodes(), before);
    let left = zookeeper.sessions();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn ones_own_coordinator_is_started_and_some_cases_are_chosen() {
    let home = Home::new();
    let output = home.run(&["conformance", "--filter", "tokens::", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines: Vec<serde_json::Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let (sum, cases) = lines.split_last().expect("it ends with a sum");
    let listed = home.run(&["conformance", "--filter", "tokens::", "--list"]);
    let names = cases
        .iter()
        .map(|case| case["case"].as_str().expect("a name"));
    assert_eq!(
        text(&listed.stdout).lines().collect::<Vec<_>>(),
        names.collect::<Vec<_>>()
    );
    for (key, count) in [("passed", 3), ("failed", 0), ("skipped", 1)] {
        assert_eq!(sum[key], count);
        let outcomes = cases.iter().filter(|case| case["outcome"] == key);
        assert_eq!(outcomes.count(), count);
    }
    let skipped = cases.iter().find(|case| case["outcome"] == "skipped");
    let reason = skipped.expect("one")["reason"].as_str().expect("a reason");
    assert!(reason.contains("no server is stopped"), "{reason}");
}

#[test]
fn a_program_that_cannot_run_is_reported() {
    let home = Home::new();
    for (arguments, status, said) in [
        (
            &["conformance", "--filter", "no-such-case"][..],
            64,
            "\"no-such-case\"",
        ),
        (
            &["--backend", "embedded:memory", "conformance"],
            78,
            "one process",
        ),
        (
            &["--backend", "etcd://127.0.0.1:1", "conformance"],
            69,
            "127.0.0.1:1",
        ),
    ] {
        let output = home.run(arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        let err = text(&output.stderr);
        assert!(err.contains(said) && output.stdout.is_empty(), "{err}");
    }
}

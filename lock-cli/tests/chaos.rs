//! `turnlock chaos`: what it takes, what it prints, and that nothing of it is left.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rustix::process::Signal;
use support::{Home, alive, eventually, signal, text};

#[test]
fn a_run_reports_in_text_and_in_json() {
    let home = Home::new();
    let output = home.run(&["chaos", "--json", "--seconds", "8", "--seed", "3"]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    for line in [
        "5 of 8 s: ",
        "faults ",
        "longest gap",
        "0 violations, 0 of them ours",
    ] {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["backend"], "embedded");
    assert_eq!(report["seed"], 3);
    assert!(report["acquires"]["granted"].as_u64() > Some(0), "{report}");
    assert!(report["writes"]["accepted"].as_u64() > Some(0), "{report}");
    assert_eq!(report["writes"]["lost_with_fence"], 0);
    assert_eq!(report["violations"], serde_json::json!([]));
}

#[test]
fn what_it_cannot_do_is_said_with_the_remedy() {
    let home = Home::new();
    let none = home.file("none");
    for (arguments, status, remedy) in [
        (
            &["--backend", "etcd://h", "chaos"][..],
            64,
            "--backend embedded or etcd or zk",
        ),
        (
            &["--backend", "etcd", "chaos", "--nodes", "2"],
            64,
            "--nodes 1 or 3",
        ),
        (
            &["--backend", "embedded", "chaos", "--nodes", "3"],
            64,
            "--nodes 1",
        ),
        (
            &["--backend", "etcd", "chaos"],
            78,
            "apt-get install etcd-server",
        ),
        (
            &["--backend", "zk", "chaos"],
            78,
            "apt-get install zookeeper",
        ),
    ] {
        let output = home.turnlock(arguments).env("PATH", &none).output();
        let output = output.expect("turnlock starts");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.contains(remedy), "no {remedy:?} in {said}");
    }
}

#[test]
fn a_signal_ends_it_and_all_that_it_started() {
    let home = Home::new();
    let run = home.spawn(&["chaos", "--seconds", "600"]);
    eventually("it has started a coordinator and six contenders", || {
        children(run.id()).len() >= 7
    });
    let started = children(run.id());
    signal(run.id(), Signal::TERM);
    let output = run.wait();
    assert_eq!(
        output.status.signal(),
        Some(Signal::TERM.as_raw()),
        "{}",
        text(&output.stderr)
    );
    for pid in started {
        support::within(Duration::from_secs(10), "nothing is left", || !alive(pid));
    }
}

/// The processes that a process has started, on whichever of its threads.
fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| {
        let list = thread.path().join("children");
        std::fs::read_to_string(list).ok()
    });
    let parse = |list: String| {
        let pids = list.split_whitespace().map(str::parse);
        pids.collect::<Result<Vec<u32>, _>>().expect("process ids")
    };
    lists.flat_map(parse).collect()
}

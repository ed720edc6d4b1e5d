//! Tests what `turnlock why` says of a lock that is not free: chains, deadlocks on every backend,
//! and what strangers claim.

mod shells;
mod strangers;
#[path = "../support/mod.rs"]
mod support;

use serde_json::Value;
use shells::Shells;
use support::{Home, code, holder, signal, text};
use testkit::fixtures::etcd::Node;
use testkit::fixtures::zk::{Ensemble, Settings};

/// Returns the processes of a cycle, in its order.
fn pids(cycle: &Value) -> Vec<u64> {
    let steps = cycle["steps"].as_array().expect("steps");
    let pids = steps.iter().map(|step| step["entry"]["pid"].as_u64());
    pids.map(|pid| pid.expect("told")).collect()
}

fn names_the_deadlock(shells: &Shells<'_>) {
    let (running, processes) = shells.deadlock();
    for name in ["a", "b"] {
        let (status, answer) = shells.why(&[name]);
        assert_eq!(status, 1, "{answer}");
        assert_eq!(answer["deadlock"], true, "{answer}");
        let cycles = answer["cycles"].as_array().expect("cycles");
        assert_eq!(cycles.len(), 1, "{answer}");
        assert_eq!(cycles[0]["verdict"], "deadlock");
        let mut shown = pids(&cycles[0]);
        let begin = shown.iter().position(|pid| *pid == processes[0]);
        shown.rotate_left(begin.expect("the first holder"));
        assert_eq!(shown, processes, "{answer}");
    }
    let said = shells.why_text(&["a"]);
    assert!(said.contains("DEADLOCK"), "{said}");
    let owner = shells.queue("a")[0]["owner"]
        .as_str()
        .expect("told")
        .to_owned();
    for pid in processes {
        let pid_shown = format!("pid {pid} ");
        let line = said.lines().find(|line| line.contains(&pid_shown));
        assert!(
            line.is_some_and(|line| line.contains(&owner)),
            "{pid}: {said}"
        );
    }
    // The remedy that is named ends it.
    let (_, answer) = shells.why(&["--longest"]);
    let remedy = answer["remedies"][0]["command"].as_str().expect("a remedy");
    let words: Vec<&str> = remedy.split(' ').collect();
    assert_eq!(words[..2], ["turnlock", "evict"], "{answer}");
    let evicted = shells.run(&words[1..]);
    assert_eq!(code(&evicted), 0, "{}", text(&evicted.stderr));
    for shell in running {
        let status = shell.wait().status.code();
        assert!(matches!(status, Some(0 | 75)), "{status:?}");
    }
    let (status, answer) = shells.why(&["a"]);
    assert_eq!((status, &answer["deadlock"]), (0, &Value::Bool(false)));
}

#[test]
fn a_deadlock_of_two_shells_is_named_on_the_users_own_coordinator() {
    let home = Home::new();
    names_the_deadlock(&Shells::own(&home));
}

#[test]
fn a_deadlock_of_two_shells_is_named_on_etcd() {
    let home = Home::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let etcd = runtime.block_on(Node::start());
    let url = Some(format!("etcd://{}", etcd.address()));
    names_the_deadlock(&Shells { home: &home, url });
}

#[test]
fn a_deadlock_of_two_shells_is_named_on_zookeeper() {
    let home = Home::new();
    let ensemble = Ensemble::start(Settings::default());
    let url = Some(ensemble.url());
    names_the_deadlock(&Shells { home: &home, url });
}

#[test]
fn a_free_lock_is_said_to_be_free_and_starts_no_coordinator() {
    let home = Home::new();
    let said = home.run(&["why", "a"]);
    assert_eq!(code(&said), 0);
    assert_eq!(text(&said.stdout), "nobody holds or waits for a\n");
    assert_eq!(
        text(&home.run(&["why", "--longest"]).stdout),
        "nobody waits for a lock\n"
    );
    assert_eq!(home.coordinator(), None);
    for args in [
        &["why"][..],
        &["why", "--longest", "a"],
        &["why", "--longest", "--raw"],
    ] {
        assert_eq!(code(&home.run(args)), 64, "{args:?}");
    }
}

#[test]
fn a_chain_is_followed_to_its_end_and_remedies_are_for_that_end() {
    let home = Home::new();
    let shells = Shells::own(&home);
    let end = holder(&home, &["c"]);
    let nested = |lock: &str| format!("exec \"$TURNLOCK\" run {lock} -- true");
    let _second = shells.shell(&["b"], &nested("c"));
    shells.wait_queue("c", 2);
    let _first = shells.shell(&["a"], &nested("b"));
    shells.wait_queue("b", 2);
    let _waiter = home.spawn(&["run", "a", "true"]);
    shells.wait_queue("a", 2);

    let (status, answer) = shells.why(&["a"]);
    assert_eq!(status, 0, "{answer}");
    let chain = answer["chain"].as_array().expect("a chain");
    let holds: Vec<&Value> = chain.iter().map(|link| &link["holder"]["lock"]).collect();
    assert_eq!(holds, ["a", "b", "c"], "{answer}");
    assert_eq!(chain[0]["waits_for"][0]["by"], "proven");
    assert_eq!(chain[2]["holder"]["pid"], end.id());
    assert_eq!(chain[2]["waits_for"].as_array().map(Vec::len), Some(0));
    let remedies = answer["remedies"].to_string();
    assert!(
        remedies.contains(&format!("process {} on", end.id())),
        "{remedies}"
    );
    let token = shells.queue("c")[0]["token"]
        .as_str()
        .expect("told")
        .to_owned();
    assert!(
        remedies.contains(&format!("evict --token {token} c")),
        "{remedies}"
    );
    let said = shells.why_text(&["a"]);
    assert!(
        said.contains("an end of the chain") && !said.contains("DEADLOCK"),
        "{said}"
    );

    let (_, longest) = shells.why(&["--longest"]);
    assert_eq!(longest["name"], "c");
    assert_eq!(longest["longest"]["hold"]["pid"], end.id());
    assert_eq!(longest["longest"]["wait"]["lock"], "c");
    drop(end);
}

#[test]
fn one_of_several_shared_holders_makes_a_deadlock() {
    let home = Home::new();
    let shells = Shells::own(&home);
    let _bystander = holder(&home, &["-s", "a"]);
    let line = |lock: &str| {
        format!("while [ ! -e go ]; do sleep 0.02; done; exec \"$TURNLOCK\" run {lock} -- true")
    };
    let reader = shells.shell(&["-s", "a"], &line("b"));
    let writer = shells.shell(&["b"], &line("a"));
    shells.wait_queue("a", 2);
    shells.wait_queue("b", 1);
    std::fs::write(home.file("go"), "").expect("writable");
    shells.wait_queue("a", 3);
    shells.wait_queue("b", 2);
    let (status, answer) = shells.why(&["a"]);
    assert_eq!(status, 1, "{answer}");
    let shown = pids(&answer["cycles"][0]);
    assert_eq!(shown.len(), 4, "{answer}");
    for pid in [reader.id(), writer.id()] {
        assert!(shown.contains(&u64::from(pid)), "{answer}");
    }
    assert_eq!(
        answer["waiters"][0]["waits_for"].as_array().map(Vec::len),
        Some(2)
    );
}

#[test]
fn a_holder_that_ends_leaves_nothing_to_explain() {
    let home = Home::new();
    let holding = holder(&home, &["a"]);
    let (_, answer) = Shells::own(&home).why(&["a"]);
    assert_eq!(answer["holders"][0]["pid"], holding.id());
    assert_eq!(answer["complete"], true);
    signal(holding.id(), rustix::process::Signal::TERM);
    assert_eq!(code(&holding.wait()), 0);
    let (_, answer) = Shells::own(&home).why(&["a"]);
    assert_eq!(answer["holders"].as_array().map(Vec::len), Some(0));
}

//! Tests what is said of claims and texts of strangers, and of programs that use the library.

use std::process::{Command, Stdio};

use turnlock::nesting::{Nesting, OuterHold};
use turnlock::{LockName, Locks, Options, SessionId};

use crate::shells::Shells;
use crate::support::{Home, Server, code, program, text};
use serde_json::Value;

/// Opens a client that says this of the hold around it.
fn library(url: &str, outer: Option<OuterHold>) -> Locks {
    let options = Options::default().with_owner("eve").with_nesting(move |_| {
        let nesting = Nesting::default();
        match outer.clone() {
            Some(outer) => nesting.with_outer(outer),
            None => nesting,
        }
    });
    turnlock::connect_with(url, options).expect("a URL")
}

/// Returns the claim to work under a hold, which is an entry of this lock's queue.
fn claim_under(lock: &str, hold: &Value) -> OuterHold {
    let session = hold["session"].as_str().expect("told");
    let session = i64::from_str_radix(session, 16).expect("a number");
    let token = hold["token"].as_str().expect("told");
    let lock = LockName::new(lock).expect("valid");
    OuterHold::new(lock, token.parse().expect("a token"), SessionId(session))
}

/// Puts an entry, or what looks like one, as a foreign client.
fn put(server: &Server, key: &str, value: &str) {
    let status = Command::new(program("etcdctl", "etcd-client"))
        .args(["--endpoints", server.address(), "put", "--", key, value])
        .env("ETCDCTL_API", "3")
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("etcdctl starts").success());
}

#[test]
fn a_claim_of_a_stranger_makes_no_deadlock() {
    let home = Home::new();
    let server = Server::start(&home);
    let url = Some(server.url());
    let shells = Shells { home: &home, url };
    let _ann = shells.shell(&["a"], "exec sleep 1000");
    let a = shells.wait_queue("a", 1).remove(0);
    let _bob = shells.shell(&["b"], "exec \"$TURNLOCK\" run a -- true");
    shells.wait_queue("a", 2);
    // Eve says that she works under Ann's hold, and waits for Bob, who waits for Ann.
    let claim = claim_under("a", &a);
    for claim in [claim.clone(), claim.with_proof([7; 64])] {
        let eve = library(&server.url(), Some(claim));
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let waiting = {
            let eve = eve.clone();
            runtime.spawn(async move { eve.mutex("b").expect("valid").acquire().await })
        };
        shells.wait_queue("b", 2);
        let (status, answer) = shells.why(&["a"]);
        assert_eq!(
            (status, &answer["deadlock"]),
            (0, &Value::Bool(false)),
            "{answer}"
        );
        assert_eq!(answer["cycles"][0]["verdict"], "claimed", "{answer}");
        let said = shells.why_text(&["a"]);
        assert!(
            said.contains("claim without a proof") && !said.contains("DEADLOCK"),
            "{said}"
        );
        assert!(said.contains("eve@"), "it is shown: {said}");
        waiting.abort();
        runtime.block_on(eve.close()).expect("closed");
        shells.wait_queue("b", 1);
    }
}

#[test]
fn a_flood_of_claims_does_not_fill_the_screen() {
    let home = Home::new();
    let server = Server::start(&home);
    let url = Some(server.url());
    let shells = Shells { home: &home, url };
    let _ann = shells.shell(&["a"], "exec sleep 1000");
    let a = shells.wait_queue("a", 1).remove(0);
    let _bob = shells.shell(&["b"], "exec sleep 1000");
    shells.wait_queue("b", 1);
    let eve = library(&server.url(), Some(claim_under("a", &a)));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let eve = eve.clone();
            runtime.spawn(async move { eve.mutex("b").expect("valid").acquire().await })
        })
        .collect();
    shells.wait_queue("b", 101);
    let said = shells.why_text(&["a"]);
    assert!(said.contains("waits for 80 more"), "{said}");
    assert!(said.lines().count() < 40, "{said}");
    for waiting in waiting {
        waiting.abort();
    }
    runtime.block_on(eve.close()).expect("closed");
}

#[test]
fn sessions_that_hold_and_wait_are_named_as_what_is_known_of_them() {
    let home = Home::new();
    let server = Server::start(&home);
    let url = Some(server.url());
    let shells = Shells { home: &home, url };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let [first, second] = [(); 2].map(|()| library(&server.url(), None));
    runtime.block_on(async {
        let mutex = |locks: &Locks, name: &str| locks.mutex(name).expect("valid");
        let a = mutex(&first, "a").acquire().await.expect("free");
        let b = mutex(&second, "b").acquire().await.expect("free");
        let (other_b, other_a) = (mutex(&first, "b"), mutex(&second, "a"));
        let waits = tokio::spawn(async move { (other_b.acquire().await, a) });
        let also = tokio::spawn(async move { (other_a.acquire().await, b) });
        shells.wait_queue("a", 2);
        shells.wait_queue("b", 2);
        let (status, answer) = shells.why(&["a"]);
        assert_eq!(
            (status, &answer["deadlock"]),
            (0, &Value::Bool(false)),
            "{answer}"
        );
        assert_eq!(answer["cycles"][0]["verdict"], "possible", "{answer}");
        assert_eq!(
            answer["cycles"][0]["steps"].as_array().map(Vec::len),
            Some(4)
        );
        waits.abort();
        also.abort();
    });
}

#[test]
fn an_entry_of_another_client_is_escaped() {
    let home = Home::new();
    let server = Server::start(&home);
    let url = Some(server.url());
    let shells = Shells { home: &home, url };
    let owner = r#"{"owner":"\u001b[2Jeve\u202e","host":"\u009bh","pid":7,"note":"\u001b]0;x\u0007",
        "command":"\u001b[31m","since_unix_ms":1,"nesting":{"outer":{"lock":"a\u202eb","token":"1",
        "session":"1"}},"traceparent":"\u001b[1m"}"#;
    put(&server, "jobs/1", owner);
    put(&server, "jobs/2", "\u{1b}[2J");
    for args in [
        &["why", "--raw", "jobs"][..],
        &["why", "--json", "--raw", "jobs"],
    ] {
        let output = shells.run(args);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let shown = text(&output.stdout);
        assert!(shown.contains("eve"), "{shown}");
        let controls = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!shown.contains(controls), "{shown:?}");
    }
}

#[test]
fn the_trace_of_the_holder_is_shown() {
    let home = Home::new();
    let server = Server::start(&home);
    let url = Some(server.url());
    let shells = Shells { home: &home, url };
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let value = format!(
        r#"{{"owner":"ann","pid":4,"host":"h","traceparent":"00-{trace}-00f067aa0ba902b7-01"}}"#
    );
    put(&server, "jobs/1", &value);
    assert!(shells.why_text(&["--raw", "jobs"]).contains(trace));
    assert_eq!(
        shells.why(&["--raw", "jobs"]).1["holders"][0]["trace_id"],
        trace
    );
}

//! Tests what `turnlock why` says of a lock that is not free: chains, deadlocks on every backend,
//! and what strangers claim.

mod support;

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Home, Running, Server, code, eventually, holder, program, signal, text};
use testkit::fixtures::etcd::Node;
use testkit::fixtures::zk::{Ensemble, Settings};
use turnlock::nesting::{Nesting, OuterHold};
use turnlock::{LockName, Locks, Options, SessionId};

/// The limit for one answer, which takes some milliseconds on an idle machine.
const ANSWER: Duration = Duration::from_secs(20);

/// The users of one coordinator, each with a shell.
struct Shells<'a> {
    home: &'a Home,
    url: Option<String>,
}

impl Shells<'_> {
    fn own(home: &Home) -> Shells<'_> {
        Shells { home, url: None }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.home.turnlock(args);
        // Nested commands find the coordinator there, too.
        if let Some(url) = &self.url {
            command.env("TURNLOCK_BACKEND", url);
        }
        command.env("TURNLOCK", env!("CARGO_BIN_EXE_turnlock"));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("turnlock starts")
    }

    /// Runs a shell line under a lock.
    fn shell(&self, args: &[&str], line: &str) -> Running {
        let mut command = self.command(&["run"]);
        command.args(args).args(["--", "sh", "-c", line]);
        Running::of(command.stdin(Stdio::null()).spawn().expect("starts"))
    }

    fn queue(&self, name: &str) -> Vec<Value> {
        let output = self.run(&["queue", "--json", name]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let lines = text(&output.stdout);
        lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// Waits until a queue has this many entries.
    fn wait_queue(&self, name: &str, entries: usize) -> Vec<Value> {
        eventually("they queue", || self.queue(name).len() == entries);
        self.queue(name)
    }

    /// Asks, and returns the status with the answer.
    fn why(&self, args: &[&str]) -> (i32, Value) {
        let started = Instant::now();
        let output = self.run(&[&["why", "--json"], args].concat());
        let took = started.elapsed();
        assert!(took < ANSWER, "it took {took:?}");
        eprintln!("{:?}: answered after {took:?}", self.url);
        let answer = serde_json::from_slice(&output.stdout);
        (
            code(&output),
            answer.unwrap_or_else(|_| panic!("{}", text(&output.stderr))),
        )
    }

    fn why_text(&self, args: &[&str]) -> String {
        text(&self.run(&[&["why"], args].concat()).stdout)
    }

    /// Makes a deadlock of two shells. Returns them with the processes: the two that hold, and the
    /// two that wait within.
    fn deadlock(&self) -> ([Running; 2], [u64; 4]) {
        let other = |mine: &str, theirs: &str, lock: &str| {
            format!(
                "touch {mine}; while [ ! -e {theirs} ]; do sleep 0.02; done; \
                 exec \"$TURNLOCK\" run {lock} -- true"
            )
        };
        let first = self.shell(&["a"], &other("in-a", "in-b", "b"));
        let second = self.shell(&["b"], &other("in-b", "in-a", "a"));
        let (a, b) = (self.wait_queue("a", 2), self.wait_queue("b", 2));
        let pid = |entry: &Value| entry["pid"].as_u64().expect("told");
        assert_eq!(pid(&a[0]), u64::from(first.id()));
        assert_eq!(pid(&b[0]), u64::from(second.id()));
        (
            [first, second],
            [pid(&a[0]), pid(&b[1]), pid(&b[0]), pid(&a[1])],
        )
    }
}

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
    let session = a["session"].as_str().expect("told");
    let session = i64::from_str_radix(session, 16).expect("a number");
    let token = a["token"].as_str().expect("told").parse().expect("a token");
    let lock = LockName::new("a").expect("valid");
    let claim = OuterHold::new(lock, token, SessionId(session));
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
    let etcdctl = program("etcdctl", "etcd-client");
    let put = |key: &str, value: &str| {
        let status = Command::new(&etcdctl)
            .args(["--endpoints", server.address(), "put", "--", key, value])
            .env("ETCDCTL_API", "3")
            .stdout(Stdio::null())
            .status();
        assert!(status.expect("etcdctl starts").success());
    };
    let owner = r#"{"owner":"\u001b[2Jeve\u202e","host":"\u009bh","pid":7,"note":"\u001b]0;x\u0007",
        "command":"\u001b[31m","since_unix_ms":1,"nesting":{"outer":{"lock":"a\u202eb","token":"1",
        "session":"1"}},"traceparent":"\u001b[1m"}"#;
    put("jobs/1", owner);
    put("jobs/2", "\u{1b}[2J");
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
    let etcdctl = program("etcdctl", "etcd-client");
    let value = format!(
        r#"{{"owner":"ann","pid":4,"host":"h","traceparent":"00-{trace}-00f067aa0ba902b7-01"}}"#
    );
    let status = Command::new(etcdctl)
        .args([
            "--endpoints",
            server.address(),
            "put",
            "--",
            "jobs/1",
            &value,
        ])
        .env("ETCDCTL_API", "3")
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("etcdctl starts").success());
    assert!(shells.why_text(&["--raw", "jobs"]).contains(trace));
    assert_eq!(
        shells.why(&["--raw", "jobs"]).1["holders"][0]["trace_id"],
        trace
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

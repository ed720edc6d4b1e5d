//! Tests the program `chaos`: its options, its output, its exit status, and that it leaves nothing
//! behind.

use std::fs::{self, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_run_reports_in_text_and_in_json() {
    let output = run(&["--json", "--seconds", "8", "--seed", "3"]);
    let printed = text(&output.stderr);
    assert!(output.status.success(), "{printed}");
    for line in [
        "5 of 8 s: ",
        "faults ",
        "longest gap",
        "0 violations, 0 of them ours",
    ] {
        assert!(printed.contains(line), "no {line:?} in {printed}");
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
fn an_impossible_run_is_refused_with_the_remedy() {
    for (arguments, status, remedy) in [
        (
            &["--backend", "etcd://h"][..],
            64,
            "--backend embedded or etcd or zk",
        ),
        (&["--backend", "etcd", "--nodes", "2"], 64, "--nodes 1 or 3"),
        (&["--backend", "embedded", "--nodes", "3"], 64, "--nodes 1"),
        (
            &["--backend", "etcd"][..],
            78,
            "apt-get install etcd-server",
        ),
        (&["--backend", "zk"], 78, "apt-get install zookeeper"),
    ] {
        let output = chaos(arguments).env("PATH", "/nowhere").output();
        let output = output.expect("chaos starts");
        let printed = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{printed}");
        assert!(printed.contains(remedy), "no {remedy:?} in {printed}");
    }
}

#[test]
fn a_signal_ends_the_program_and_its_children() {
    let mut run = chaos(&["--seconds", "600"])
        .stdout(Stdio::null())
        .spawn()
        .expect("chaos starts");
    let pid = run.id();
    within(
        Duration::from_secs(60),
        "the program has started a coordinator and six contenders",
        || find_children(pid).len() >= 7,
    );
    let started = find_children(pid);
    let id = Pid::from_raw(pid.cast_signed()).expect("not zero");
    kill_process(id, Signal::TERM).expect("a child of this test");
    let status = run.wait().expect("a child of this test");
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()), "{status}");
    for pid in started {
        within(Duration::from_secs(10), "no child is left", || {
            !is_alive(pid)
        });
    }
}

#[test]
fn the_report_needs_a_stdout_and_no_stderr() {
    let arguments = &["--seconds", "1", "--seed", "1"];
    let output = chaos(arguments).stdout(open_full()).output();
    let output = output.expect("chaos starts");
    let printed = text(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{printed}");
    let expected = "cannot write to stdout: No space left on device";
    assert!(printed.contains(expected), "{printed}");
    let output = chaos(arguments).stderr(open_full()).output();
    let output = output.expect("chaos starts");
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("seed 1"));
}

fn chaos(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    chaos(arguments).output().expect("chaos starts")
}

/// Opens a file on a full disk.
fn open_full() -> Stdio {
    let full = OpenOptions::new().write(true).open("/dev/full");
    full.expect("Linux has it").into()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until a condition holds. Fails if the condition does not hold within the limit.
fn within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns whether a process runs. A zombie does not.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.starts_with('Z'));
    state == Some(false)
}

/// Returns the processes that any thread of a process has started.
fn find_children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| {
        let list = thread.path().join("children");
        fs::read_to_string(list).ok()
    });
    let parse = |list: String| {
        let pids = list.split_whitespace().map(str::parse);
        pids.collect::<Result<Vec<u32>, _>>().expect("process ids")
    };
    lists.flat_map(parse).collect()
}

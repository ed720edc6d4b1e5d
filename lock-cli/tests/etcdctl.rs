//! `turnlock serve` and etcd's own command line, in one queue.

mod support;

use std::fs;
use std::process::{Command, Stdio};

use support::{Home, Server, program, text};

const TURNS: usize = 100;
const INCREMENT: &str = r#"n=$(cat counter); sleep 0.002; echo $((n+1)) > counter"#;

#[test]
fn etcdctl_lock_and_turnlock_run_exclude_each_other() {
    let etcdctl = program("etcdctl", "etcd-client");
    let home = Home::new();
    let server = Server::start(&home);
    fs::write(home.file("counter"), "0\n").expect("writable");
    fs::write(home.file("increment"), INCREMENT).expect("writable");
    let (url, address) = (server.url(), server.address());
    let ours = [
        env!("CARGO_BIN_EXE_turnlock"),
        "--backend",
        &url,
        "run",
        "--raw",
        "x",
        "--",
    ]
    .join(" ");
    let theirs = format!("{} --endpoints={address} lock x", etcdctl.display());
    let worker = |lock: &str| {
        let script = format!(
            "i=0; while [ $i -lt {TURNS} ]; do {lock} sh increment || exit 1; i=$((i+1)); done"
        );
        Command::new("sh")
            .args(["-c", &script])
            .env("ETCDCTL_API", "3")
            .current_dir(home.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh starts")
    };
    for worker in [
        worker(&ours),
        worker(&theirs),
        worker(&ours),
        worker(&theirs),
    ] {
        let output = worker.wait_with_output().expect("a child of ours");
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let counted = fs::read_to_string(home.file("counter")).expect("readable");
    assert_eq!(counted.trim(), (4 * TURNS).to_string());
    assert!(server.stop().status.success());
}

//! Tests `turnlock run` and etcd's own command line in one queue.

mod support;

use std::process::Command;

use support::turns::Turns;
use support::{Home, Server, program};
use testkit::fixtures::etcd::Node;

const TURNS: usize = 100;

/// Runs this number of processes of each program.
fn take_turns(address: &str, processes: usize) {
    let etcdctl = program("etcdctl", "etcd-client");
    let mut turns = Turns::new(TURNS);
    for _ in 0..processes {
        let script = format!(
            "i=0; while [ $i -lt {TURNS} ]; do \"$ETCDCTL\" --endpoints={address} lock x sh \
             increment || exit 1; i=$((i+1)); done"
        );
        let mut theirs = Command::new("sh");
        theirs
            .args(["-c", &script])
            .env("ETCDCTL", &etcdctl)
            .env("ETCDCTL_API", "3");
        turns.add_other_writer(theirs);
        turns.add_writer(&format!("etcd://{address}"), "x");
    }
    turns.finish();
}

#[test]
fn etcdctl_lock_and_turnlock_run_exclude_each_other_on_turnlock_serve() {
    let home = Home::new();
    let server = Server::start(&home);
    take_turns(server.address(), 2);
    assert!(server.stop().status.success());
}

#[test]
fn etcdctl_lock_and_turnlock_run_exclude_each_other_on_etcd() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let etcd = runtime.block_on(Node::start());
    take_turns(&etcd.address(), 4);
}

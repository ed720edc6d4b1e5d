//! Tests the move of a fleet from one coordinator to the next: the tokens still rise at the file
//! that it writes.

mod support;

use std::fs;
use std::process::Output;

use support::{Home, eventually, text};
use testkit::fixtures::etcd::Node;
use testkit::fixtures::zk::{Ensemble, Settings};

/// The lock, and the file that it guards.
const NAME: &str = "ledger";

/// The options before the command, which choose the coordinator.
type Coordinator = Vec<String>;

fn turnlock(home: &Home, coordinator: &Coordinator, args: &[&str]) -> Output {
    let mut command = home.turnlock(&[]);
    command.args(coordinator).args(args);
    command.output().expect("turnlock starts")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

/// Appends the token of a hold to the file.
fn write(home: &Home, coordinator: &Coordinator) -> Output {
    let script =
        format!("echo $TURNLOCK_TOKEN | \"$TURNLOCK\" append {NAME} file && echo $TURNLOCK_TOKEN");
    let mut command = home.turnlock(&[]);
    command
        .args(coordinator)
        .args(["run", NAME, "-c", &script])
        .env("SHELL", "/bin/sh")
        .env("TURNLOCK", env!("CARGO_BIN_EXE_turnlock"));
    command.output().expect("turnlock starts")
}

/// Returns the tokens that the file has accepted.
fn taken(home: &Home) -> Vec<u64> {
    let lines = support::lines(&home.file("file"));
    let tokens = lines.iter().map(|line| line.parse().expect("a token"));
    tokens.collect()
}

/// Moves to a coordinator whose own numbers are lower, and goes on with it.
fn move_to(home: &Home, from: &Coordinator, to: &Coordinator) {
    let before = fs::read(home.file("file")).expect("readable");
    let late = write(home, to);
    assert_eq!(late.status.code(), Some(79), "without the offset: {late:?}");
    assert_eq!(fs::read(home.file("file")).expect("readable"), before);

    let offset = said(&turnlock(home, from, &["token-offset"]));
    let highest = *taken(home).last().expect("the file has tokens");
    assert!(offset.parse::<u64>().expect("a number") > highest);
    let raise = ["token-offset", "--raise-to", &offset];
    assert_eq!(said(&turnlock(home, to, &raise)), offset);
    for _ in 0..3 {
        said(&write(home, to));
    }
    let again = said(&turnlock(
        home,
        to,
        &["--json", "token-offset", "--raise-to", "1"],
    ));
    assert_eq!(
        again,
        format!("{{\"token_offset\":\"{offset}\"}}"),
        "it never falls"
    );
}

#[test]
fn tokens_rise_from_the_embedded_coordinator_to_etcd_to_zookeeper() {
    let home = Home::new();
    let embedded = vec![];
    // The number is greater than that of the tokens that etcd will have given out.
    for _ in 0..20 {
        said(&write(&home, &embedded));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let etcd = runtime.block_on(Node::start());
    let etcd = vec![format!("--backend=etcd://{}", etcd.address())];
    move_to(&home, &embedded, &etcd);

    let ensemble = Ensemble::start(Settings::default());
    let zookeeper = vec![format!("--backend={}", ensemble.url())];
    move_to(&home, &etcd, &zookeeper);

    let taken = taken(&home);
    assert_eq!(taken.len(), 26);
    assert!(taken.windows(2).all(|pair| pair[0] < pair[1]), "{taken:?}");
}

#[test]
fn an_offset_is_not_raised_under_a_lock_in_use() {
    let home = Home::new();
    let holder = home.spawn(&["hold", NAME]);
    eventually("it holds", || home.queue(NAME).len() == 1);
    let refusal = home.run(&["token-offset", "--raise-to", "1000"]);
    assert_eq!(refusal.status.code(), Some(75));
    assert!(text(&refusal.stderr).contains("in use"), "{refusal:?}");
    let printed = home.run(&["token-offset"]);
    assert!(text(&printed.stderr).contains("in use"), "{printed:?}");
    support::signal(holder.id(), rustix::process::Signal::TERM);
    holder.wait();
    assert_eq!(
        said(&home.run(&["token-offset", "--raise-to", "1000"])),
        "1000"
    );
    let too_high = home.run(&["token-offset", "--raise-to", "18446744073709551615"]);
    assert_eq!(too_high.status.code(), Some(64));
    assert!(text(&too_high.stderr).contains("4611686018427387904"));
}

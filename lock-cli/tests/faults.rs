//! Tests the promises that hold while processes are killed and paused.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{Home, PATIENCE, alive, eventually, lines, signal, text, within};

/// A command that notes its process id and token, and then waits for the file `go`.
const WORK: &str = r#"
    echo "$$ $TURNLOCK_TOKEN" >> started
    while [ ! -e go ]; do sleep 0.05; done
    echo $TURNLOCK_TOKEN >> done"#;

/// Returns the process id and the token of the command that started last.
fn last_started(home: &Home) -> Option<(u32, u64)> {
    let lines = lines(&home.file("started"));
    let (pid, token) = lines.last()?.split_once(' ')?;
    Some((pid.parse().ok()?, token.parse().ok()?))
}

fn started(home: &Home, count: usize) -> (u32, u64) {
    eventually("the command has started", || {
        lines(&home.file("started")).len() >= count && last_started(home).is_some()
    });
    last_started(home).expect("it has started")
}

#[test]
fn a_killed_holder_takes_its_command_along_and_the_next_holds_within_the_ttl() {
    let home = Home::new();
    let holder = home.spawn(&["run", "--ttl", "3", "a", "--", "sh", "-c", WORK]);
    let (command, token) = started(&home, 1);
    let next = home.spawn(&["run", "--ttl", "3", "a", "--", "sh", "-c", WORK]);
    eventually("the next one waits", || home.queue("a").len() == 2);

    signal(holder.id(), Signal::KILL);
    let killed = Instant::now();
    within(Duration::from_secs(1), "the command is gone", || {
        !alive(command)
    });
    let (_, later) = started(&home, 2);
    // The coordinator counts from the last renewal, which came before the kill. One second more is
    // for a busy machine.
    assert!(
        killed.elapsed() < Duration::from_secs(4),
        "took {:?}",
        killed.elapsed()
    );
    assert!(later > token);
    std::fs::write(home.file("go"), "").expect("writable");
    assert!(next.wait().status.success());
    drop(holder);
}

#[test]
fn a_killed_coordinator_comes_back_and_nobody_loses_a_thing() {
    let rounds = std::env::var("TURNLOCK_KILL_ROUNDS").map_or(2, |n| n.parse().expect("a number"));
    let home = Home::new();
    let mut highest = 0;
    for round in 0..rounds {
        let _ = std::fs::remove_file(home.file("started"));
        let _ = std::fs::remove_file(home.file("done"));
        let _ = std::fs::remove_file(home.file("go"));
        let holder = home.spawn(&["run", "a", "--", "sh", "-c", WORK]);
        let (_, token) = started(&home, 1);
        let waiters: Vec<_> = (0..10)
            .map(|i| {
                let waiter = home.spawn(&["run", "a", "--", "sh", "-c", WORK]);
                eventually("it waits", || home.queue("a").len() == 2 + i);
                waiter
            })
            .collect();
        let before = home.queue("a");

        let coordinator = home.coordinator().expect("it runs");
        signal(coordinator, Signal::KILL);
        eventually("it is dead", || !alive(coordinator));
        // Only the processes that need the coordinator start it again.
        eventually("it is back by itself", || {
            home.coordinator().is_some_and(|pid| pid != coordinator)
        });
        assert_eq!(
            home.queue("a"),
            before,
            "round {round}: the same queue with the same tokens"
        );

        std::fs::write(home.file("go"), "").expect("writable");
        for one in std::iter::once(holder).chain(waiters) {
            let output = one.wait();
            assert!(
                output.status.success(),
                "round {round}: {}",
                text(&output.stderr)
            );
        }
        let done: Vec<u64> = lines(&home.file("done"))
            .iter()
            .map(|l| l.parse().expect("a token"))
            .collect();
        let queued: Vec<u64> = before
            .iter()
            .map(|e| e["token"].as_str().expect("text").parse().expect("a token"))
            .collect();
        assert_eq!(
            done, queued,
            "round {round}: everybody's turn came, in order, with the token it queued with"
        );
        assert_eq!(done[0], token);
        assert!(
            done.windows(2).all(|pair| pair[0] < pair[1]) && done[0] > highest,
            "tokens rise"
        );
        highest = *done.last().expect("eleven");
    }
}

#[test]
fn a_holder_that_was_paused_past_its_ttl_learns_that_it_lost() {
    let home = Home::new();
    let ttl = Duration::from_secs(2);
    let holder = home.spawn(&["run", "--ttl", "2", "a", "--", "sh", "-c", WORK]);
    let (command, token) = started(&home, 1);
    signal(holder.id(), Signal::STOP);
    let paused = Instant::now();

    let other = home.run(&["run", "a", "--", "sh", "-c", "echo $TURNLOCK_TOKEN"]);
    assert!(other.status.success(), "{}", text(&other.stderr));
    let later: u64 = text(&other.stdout).trim().parse().expect("a token");
    assert!(later > token);
    assert!(
        !alive(command),
        "stopped before another could hold, although turnlock was paused"
    );
    within(PATIENCE, "twice the time to live has passed", || {
        paused.elapsed() >= 2 * ttl
    });
    signal(holder.id(), Signal::CONT);
    let output = holder.wait();
    assert_eq!(output.status.code(), Some(76), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("the lock is lost"),
        "{}",
        text(&output.stderr)
    );
    assert!(!alive(command), "its command is stopped");
    assert!(lines(&home.file("done")).is_empty());
}

#[test]
fn a_coordinator_that_stands_still_costs_the_command_its_life_before_the_deadline() {
    let home = Home::new();
    let ttl = Duration::from_secs(4);
    let deaf = r#"trap 'echo asked' TERM; echo "$$ 1" >> started; while :; do sleep 0.05; done"#;
    let holder = home.spawn(&[
        "run", "--ttl", "4", "--grace", "1", "a", "--", "sh", "-c", deaf,
    ]);
    let (command, _) = started(&home, 1);
    let coordinator = home.coordinator().expect("it runs");
    signal(coordinator, Signal::STOP);
    let stopped = Instant::now();
    eventually("the command is gone", || !alive(command));
    assert!(
        stopped.elapsed() < ttl,
        "gone after {:?}",
        stopped.elapsed()
    );
    signal(coordinator, Signal::CONT);
    let output = holder.wait();
    assert_eq!(output.status.code(), Some(76), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "asked\n", "first TERM, then KILL");
}

#[test]
fn a_signal_reaches_the_command_and_its_status_comes_back() {
    let home = Home::new();
    let script =
        r#"trap 'echo got; exit 9' TERM; echo "$$ 1" >> started; while :; do sleep 0.05; done"#;
    let running = home.spawn(&["run", "a", "--", "sh", "-c", script]);
    started(&home, 1);
    signal(running.id(), Signal::TERM);
    let output = running.wait();
    assert_eq!(output.status.code(), Some(9));
    assert_eq!(text(&output.stdout), "got\n");
    assert!(home.queue("a").is_empty());
}

#[test]
fn a_waiter_that_is_interrupted_leaves_the_queue_at_once() {
    let home = Home::new();
    let holder = home.spawn(&["hold", "a"]);
    eventually("it holds", || home.queue("a").len() == 1);
    let waiter = home.spawn(&["run", "a", "--", "true"]);
    eventually("it waits", || home.queue("a").len() == 2);
    signal(waiter.id(), Signal::INT);
    // The status is the same as if the signal had not been caught, so that a script around the
    // command ends, too.
    assert_eq!(waiter.wait().status.signal(), Some(Signal::INT.as_raw()));
    assert_eq!(home.queue("a").len(), 1);
    drop(holder);
}

#[test]
fn a_lock_taken_away_stops_the_command() {
    let etcdctl = support::program("etcdctl", "etcd-client");
    let home = Home::new();
    let server = support::Server::start(&home);
    let holder = home.spawn(&[
        "--backend",
        &server.url(),
        "run",
        "a",
        "--",
        "sh",
        "-c",
        WORK,
    ]);
    let (command, _) = started(&home, 1);
    // An administrator would delete the entry like this.
    let deleted = std::process::Command::new(etcdctl)
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={}", server.address()))
        .args(["del", "--prefix", "turnlock/a/"])
        .output()
        .expect("etcdctl starts");
    assert!(deleted.status.success(), "{}", text(&deleted.stderr));
    let output = holder.wait();
    assert_eq!(output.status.code(), Some(76), "{}", text(&output.stderr));
    assert!(!alive(command));
}

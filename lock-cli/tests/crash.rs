//! Tests what remains when a holder dies together with its coordinator: nothing that keeps the next
//! client waiting. A holder that lives keeps its lock.

mod support;

use std::process::Output;
use std::time::Duration;

use rustix::process::Signal;
use support::{Home, Running, Server, alive, eventually, lines, signal, stopped, text, within};

/// A command that notes its process id and waits until the test lets it end.
const WORK: &str =
    r#"echo $$ >> started; while [ ! -e go ]; do sleep 0.05; done; echo "$TURNLOCK_TOKEN" >> done"#;

/// Starts a command under the lock `a`, and waits until it holds the lock. Its time to live is
/// longer than a test takes.
fn hold(home: &Home, url: Option<&str>) -> (Running, u32) {
    let ttl = ["run", "--ttl", "120", "a", "--", "sh", "-c", WORK];
    let backend = url.map(|url| ["--backend", url]);
    let args: Vec<&str> = backend.iter().flatten().copied().chain(ttl).collect();
    let holder = home.spawn(&args);
    let pid = || lines(&home.file("started")).last()?.parse().ok();
    eventually("it holds the lock", || pid().is_some());
    (holder, pid().expect("noted"))
}

fn try_once(home: &Home) -> Output {
    home.run(&["run", "-n", "--ttl", "120", "a", "--", "echo", "mine"])
}

fn kill(pid: u32) {
    signal(pid, Signal::KILL);
    eventually("it is dead", || !alive(pid));
}

fn kill_coordinator(home: &Home) {
    kill(home.coordinator().expect("it runs"));
}

#[test]
fn the_first_to_come_after_a_crash_of_all_is_not_refused() {
    let home = Home::new();
    let (holder, command) = hold(&home, None);
    // The coordinator dies first, so that nobody can inform it that the holder is gone.
    kill_coordinator(&home);
    kill(holder.id());
    let next = try_once(&home);
    assert_eq!(next.status.code(), Some(0), "{}", text(&next.stderr));
    assert_eq!(text(&next.stdout), "mine\n");
    assert!(
        !alive(command),
        "it was ended before the lock was given away"
    );
}

#[test]
fn nobody_is_let_in_beside_a_holder_that_lives() {
    let home = Home::new();
    let (holder, command) = hold(&home, None);
    let token = home.queue("a")[0]["token"].clone();
    for _ in 0..3 {
        kill_coordinator(&home);
        let other = try_once(&home);
        assert_eq!(other.status.code(), Some(75), "{}", text(&other.stderr));
    }
    assert!(alive(command));
    assert_eq!(home.queue("a")[0]["token"], token, "the same hold");
    std::fs::write(home.file("go"), "").expect("writable");
    let output = holder.wait();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(lines(&home.file("done")), [token.as_str().expect("text")]);
}

#[test]
fn a_holder_that_stands_still_is_not_dead() {
    let home = Home::new();
    let (holder, command) = hold(&home, None);
    signal(holder.id(), Signal::STOP);
    eventually("it stands still", || stopped(holder.id()));
    kill_coordinator(&home);
    let other = try_once(&home);
    assert_eq!(other.status.code(), Some(75), "{}", text(&other.stderr));
    assert!(alive(command));
    signal(holder.id(), Signal::CONT);
    std::fs::write(home.file("go"), "").expect("writable");
    let output = holder.wait();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_holder_that_may_be_on_another_machine_has_its_full_time() {
    let home = Home::new();
    let server = Server::start(&home);
    let (holder, _) = hold(&home, Some(&server.url()));
    kill(server.id());
    kill(holder.id());
    // The coordinator serves the same folder, now on its own socket: a client that came by TCP
    // could be on any machine.
    let other = try_once(&home);
    assert_eq!(other.status.code(), Some(75), "{}", text(&other.stderr));
}

#[test]
fn a_pause_of_the_coordinator_is_no_evidence() {
    let home = Home::new();
    let ttl = Duration::from_secs(8);
    let args = ["run", "--ttl", "8", "a", "--", "sh", "-c", WORK];
    let holder = home.spawn(&args);
    eventually("it holds the lock", || {
        !lines(&home.file("started")).is_empty()
    });
    let coordinator = home.coordinator().expect("it runs");
    signal(coordinator, Signal::STOP);
    // The pause is longer than the time that the coordinator wrote ahead. The holder's renewals
    // wait.
    let paused = std::time::Instant::now();
    within(ttl, "half the time to live has passed", || {
        paused.elapsed() > ttl / 2
    });
    signal(coordinator, Signal::CONT);
    assert_eq!(home.queue("a").len(), 1, "it answers again");
    kill_coordinator(&home);
    // Wait until the time to live since the start of the pause is over.
    within(2 * ttl, "its time without a renewal would be over", || {
        paused.elapsed() > ttl + Duration::from_secs(1)
    });
    let other = try_once(&home);
    assert_eq!(other.status.code(), Some(75), "{}", text(&other.stderr));
    std::fs::write(home.file("go"), "").expect("writable");
    let output = holder.wait();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

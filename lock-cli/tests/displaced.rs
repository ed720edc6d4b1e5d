//! Tests what commands do when the folder or the socket of their coordinator disappears: no two
//! commands hold one lock, and no command waits for ever.

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;
use support::{Home, Running, alive, eventually, lines, signal, text, wait_for, within};

/// A script that notes its process id and token, and then waits for the file `go`.
const WORK: &str = r#"echo "$$ $TURNLOCK_TOKEN" >> "$0"; while [ ! -e go ]; do sleep 0.05; done"#;

/// A coordinator's folder that may disappear. It lies below the folder in which the commands work.
struct Place(Home);

impl Place {
    fn new() -> Self {
        Place(Home::new())
    }

    fn folder(&self) -> PathBuf {
        self.0.file("state/turnlock")
    }

    fn turnlock(&self, args: &[&str]) -> Command {
        let mut command = self.0.turnlock(args);
        command.env("TURNLOCK_HOME", self.folder());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.turnlock(args).output().expect("turnlock starts")
    }

    /// Starts a command under the lock `a`, which notes its start in this file.
    fn spawn(&self, notes: &str) -> Running {
        let mut command = self.turnlock(&["run", "a", "--", "sh", "-c", WORK, notes]);
        command.stderr(std::process::Stdio::piped());
        Running::of(command.spawn().expect("turnlock starts"))
    }

    /// Returns the process and the token of the command that noted its start in this file.
    fn started(&self, notes: &str) -> (u32, u64) {
        wait_for("the command has started", || {
            let lines = lines(&self.0.file(notes));
            let (pid, token) = lines.first()?.split_once(' ')?;
            Some((pid.parse().ok()?, token.parse().ok()?))
        })
    }

    /// Returns the process id that the coordinator has noted in its folder.
    fn coordinator(&self) -> u32 {
        wait_for("a coordinator has the folder", || {
            lines(&self.folder().join("LOCK")).first()?.parse().ok()
        })
    }

    /// Waits until the queue of the lock `a` has this many entries.
    fn wait_for_queue(&self, count: usize) {
        eventually("the queue has the entries", || {
            let queue = self.run(&["queue", "--json", "a"]);
            text(&queue.stdout).lines().count() == count
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.run(&["stop"]);
    }
}

/// A way in which a coordinator's folder disappears.
type Way = (&'static str, fn(&Place));

#[test]
fn a_holder_whose_coordinators_folder_disappears_loses_before_another_holds() {
    let ways: [Way; 3] = [
        ("removed", |place| {
            fs::remove_dir_all(place.folder()).expect("removed");
        }),
        ("renamed", |place| {
            fs::rename(place.folder(), place.0.file("away")).expect("renamed");
        }),
        ("its parent renamed", |place| {
            fs::rename(place.0.file("state"), place.0.file("away")).expect("renamed");
        }),
    ];
    for (way, go) in ways {
        let place = Place::new();
        let holder = place.spawn("first");
        let (command, token) = place.started("first");
        let coordinator = place.coordinator();

        go(&place);
        // The next holder looks at the state of the first command.
        let look = format!(
            "cut -d' ' -f3 /proc/{command}/stat 2>/dev/null >state; echo $TURNLOCK_TOKEN >token"
        );
        let next = place.run(&["run", "-n", "a", "--", "sh", "-c", &look]);
        assert!(next.status.success(), "{way}: {}", text(&next.stderr));
        let state = lines(&place.0.file("state"));
        assert!(
            state.iter().all(|state| state == "Z"),
            "{way}: two held at once"
        );
        let later: u64 = lines(&place.0.file("token"))[0].parse().expect("a token");
        assert!(later > token, "{way}: {later} after {token}");

        let ended = holder.wait();
        assert_eq!(ended.status.code(), Some(76), "{way}");
        let said = text(&ended.stderr);
        // A hold that is younger than its watch may learn of its loss from the next coordinator.
        let reasons = [
            "the coordinator's store was moved, removed or replaced",
            "the coordinator ended the session",
        ];
        assert!(
            reasons.iter().any(|reason| said.contains(reason)),
            "{way}: {said}"
        );
        eventually("the first coordinator has ended", || !alive(coordinator));
    }
}

#[test]
fn a_holder_loses_within_a_second_although_no_other_command_comes() {
    let place = Place::new();
    let mut holder = place.spawn("first");
    let (command, _) = place.started("first");
    let coordinator = place.coordinator();
    fs::remove_dir_all(place.folder()).expect("removed");
    let limit = Duration::from_secs(1);
    within(limit, "the command is gone", || !alive(command));
    eventually("its supervisor has ended", || holder.ended());
    eventually("no process serves the removed folder", || {
        !alive(coordinator)
    });
}

#[test]
fn a_waiter_enqueues_again_where_the_folder_was() {
    let place = Place::new();
    let holder = place.spawn("first");
    let (_, token) = place.started("first");
    let waiter = place.spawn("second");
    place.wait_for_queue(2);
    fs::remove_dir_all(place.folder()).expect("removed");
    let (_, later) = place.started("second");
    assert!(later > token);
    fs::write(place.0.file("go"), "").expect("writable");
    assert_eq!(holder.wait().status.code(), Some(76));
    let ended = waiter.wait();
    assert!(ended.status.success(), "{}", text(&ended.stderr));
}

#[test]
fn a_socket_that_is_removed_costs_nobody_a_lock() {
    let place = Place::new();
    let holder = place.spawn("first");
    let (command, _) = place.started("first");
    let coordinator = place.coordinator();
    fs::remove_file(place.folder().join("turnlock.sock")).expect("removed");
    let other = place.run(&["run", "b", "--", "true"]);
    assert!(other.status.success(), "{}", text(&other.stderr));
    assert_ne!(place.coordinator(), coordinator, "another one serves");
    let refusal = place.run(&["run", "-n", "a", "--", "true"]);
    assert_eq!(refusal.status.code(), Some(75), "it is held");
    assert!(alive(command));
    fs::write(place.0.file("go"), "").expect("writable");
    let ended = holder.wait();
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert!(place.folder().join("turnlock.sock").exists(), "left alone");
}

#[test]
fn a_stopped_coordinator_is_named_to_the_next_command() {
    let place = Place::new();
    assert!(place.run(&["run", "a", "--", "true"]).status.success());
    let coordinator = place.coordinator();
    signal(coordinator, Signal::STOP);
    fs::remove_dir_all(place.folder()).expect("removed");
    let refusal = place.run(&["run", "a", "--", "true"]);
    assert!(!refusal.status.success());
    let said = text(&refusal.stderr);
    assert!(said.contains(&format!("process {coordinator} ")), "{said}");
    signal(coordinator, Signal::CONT);
    let next = place.run(&["run", "a", "--", "true"]);
    assert!(next.status.success(), "{}", text(&next.stderr));
    eventually("the first one has ended", || !alive(coordinator));
}

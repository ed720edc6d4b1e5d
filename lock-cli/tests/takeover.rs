//! Tests that a command of a new program takes the user's own coordinator over from the old one,
//! under those who hold locks and wait for them. `tools/previous` builds the previous release.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use support::release::Release::{self, Previous, This};
use support::{Home, Running, alive, code, eventually, signal, text, wait_for};

/// A program in a place where a package manager replaces it.
struct Installed {
    home: Home,
    program: PathBuf,
}

impl Installed {
    fn new(release: Release) -> Self {
        let home = Home::new();
        let program = home.file("turnlock");
        let installed = Installed { home, program };
        installed.upgrade(release);
        installed
    }

    /// Replaces the program as package managers do it: the old one goes on where it runs.
    fn upgrade(&self, release: Release) {
        let new = self.home.file("turnlock.new");
        fs::copy(release.program(), &new).expect("copied");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("ours");
        fs::rename(&new, &self.program).expect("in one folder");
    }

    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.home.path())
            .env("TURNLOCK_HOME", self.home.path())
            .env_remove("TURNLOCK_BACKEND")
            .stdin(Stdio::null());
        command
    }

    fn spawn(&self, args: &[&str]) -> Running {
        let child = self
            .command(&self.program, args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Running::of(child.expect("it starts"))
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.command(&self.program, args).output();
        let output = output.expect("it starts");
        assert_eq!(code(&output), 0, "{args:?}: {}", text(&output.stderr));
        text(&output.stderr)
    }

    fn coordinator(&self) -> u32 {
        self.home.coordinator().expect("it runs")
    }

    /// Returns the program that the coordinator runs, as the kernel shows it.
    fn coordinators_program(&self) -> PathBuf {
        let link = format!("/proc/{}/exe", self.coordinator());
        fs::read_link(link).expect("our process")
    }
}

#[test]
fn the_first_command_after_an_upgrade_takes_the_coordinator_over_under_holders_and_waiters() {
    let installed = Installed::new(Previous);
    let home = &installed.home;
    let holder = installed.spawn(&["hold", "a"]);
    eventually("it holds", || home.queue("a").len() == 1);
    let waiter = installed.spawn(&["run", "a", "--", "sh", "-c", "echo $TURNLOCK_TOKEN"]);
    eventually("it waits", || home.queue("a").len() == 2);
    let (old, before) = (installed.coordinator(), home.queue("a"));
    // A program of the same version, in another place.
    assert!(home.run(&["run", "b", "--", "true"]).status.success());
    assert_eq!(installed.coordinator(), old, "its program is still there");

    installed.upgrade(This);
    // Whoever only looks changes nothing.
    installed.run(&["queue", "a"]);
    assert_eq!(installed.coordinator(), old);
    let said = installed.run(&["-v", "run", "b", "--", "true"]);
    assert!(
        said.contains(&format!("takes over from process {old}")),
        "{said}"
    );
    assert!(!alive(old));
    assert_eq!(installed.coordinators_program(), installed.program);
    let new = installed.coordinator();
    assert_eq!(
        home.queue("a"),
        before,
        "the same entries, with the same tokens"
    );

    // The old clients go on with the new coordinator.
    signal(holder.id(), Signal::TERM);
    let output = holder.wait();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let output = waiter.wait();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout).trim(),
        before[1]["token"].as_str().expect("text")
    );
    installed.run(&["run", "b", "--", "true"]);
    assert_eq!(installed.coordinator(), new, "once is enough");
}

#[test]
fn many_commands_after_an_upgrade_take_over_once() {
    let installed = Installed::new(Previous);
    installed.run(&["run", "a", "--", "true"]);
    let old = installed.coordinator();
    installed.upgrade(This);
    let commands: Vec<_> = (0..8)
        .map(|_| installed.spawn(&["-v", "run", "a", "--", "true"]))
        .collect();
    let said: String = commands
        .into_iter()
        .map(|command| {
            let output = command.wait();
            assert_eq!(code(&output), 0, "{}", text(&output.stderr));
            text(&output.stderr)
        })
        .collect();
    assert_eq!(said.matches("takes over").count(), 1, "{said}");
    assert!(!alive(old));
}

#[test]
fn a_coordinator_that_somebody_else_runs_is_left_alone() {
    let installed = Installed::new(Previous);
    let server = installed.spawn(&["serve"]);
    wait_for("it serves", || installed.home.coordinator());
    installed.upgrade(This);
    installed.run(&["run", "a", "--", "true"]);
    assert_eq!(installed.coordinator(), server.id());
}

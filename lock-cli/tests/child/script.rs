//! Tests whole scripts at a terminal with the real command, and the same scripts with flock where
//! it has the same feature.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{cases, eventually, pid, state};
use crate::terminal::{CTRL_C, Screen};

cases![
    ctrl_c_and_quit_end_the_script_as_they_do_around_flock,
    they_end_the_script_while_it_waits,
    a_command_that_deals_with_ctrl_c_does_not_end_the_script,
    a_dumb_terminal_gets_no_cursor_codes,
    the_lock_of_a_killed_holder_is_free_when_its_command_is_dead,
];

const QUIT: char = '\x1c';

/// The keys that people press, and the shells that end on them: bash ignores QUIT.
const ENDS: [(char, &str); 3] = [(CTRL_C, "bash"), (CTRL_C, "sh"), (QUIT, "sh")];

/// The folder of a coordinator for one test.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let mut folder = tempfile::Builder::new();
        Home(
            folder
                .permissions(Permissions::from_mode(0o700))
                .tempdir()
                .unwrap(),
        )
    }

    fn turnlock(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnlock"));
        command
            .args(arguments)
            .env("TURNLOCK_HOME", self.0.path())
            .env_remove("TURNLOCK_BACKEND");
        command
    }

    /// Runs a script on a terminal of its own. `$T` is `turnlock`.
    fn script(&self, text: &str) -> Screen {
        self.script_of("bash", text)
    }

    fn script_of(&self, shell: &str, text: &str) -> Screen {
        let (program, home) = (env!("CARGO_BIN_EXE_turnlock"), self.0.path().display());
        let settings = format!(
            "T={program}; export TURNLOCK_HOME={home}; unset TURNLOCK_BACKEND; cd {home}; ulimit \
             -c 0; "
        );
        Screen::start(&[shell, "-c", &(settings + text)])
    }

    /// Returns the number of entries in this queue.
    fn queue(&self, name: &str) -> usize {
        let output = self.turnlock(&["queue", "--json", name]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().count()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.turnlock(&["stop"]).output();
    }
}

fn ctrl_c_and_quit_end_the_script_as_they_do_around_flock() {
    let home = Home::new();
    for tool in ["flock file", "$T run a --"] {
        for (key, shell) in ENDS {
            let mut screen = home.script_of(
                shell,
                &format!(
                    "for i in 1 2; do {tool} sh -c 'echo ready; exec sleep 1000'; done; echo next"
                ),
            );
            screen.expect("ready");
            screen.press(key);
            let rest = screen.rest();
            assert!(
                !rest.contains("ready") && !rest.contains("next"),
                "{tool}: {rest:?}"
            );
        }
    }
}

fn they_end_the_script_while_it_waits() {
    let home = Home::new();
    for (key, shell) in ENDS {
        let mut holder = home.script("exec $T hold a");
        eventually("it is held", || (home.queue("a") == 1).then_some(()));
        let mut screen =
            home.script_of(shell, "for i in 1 2; do $T run a -- true; done; echo next");
        eventually("it waits", || (home.queue("a") == 2).then_some(()));
        screen.press(key);
        let rest = screen.rest();
        assert!(!rest.contains("next"), "{rest:?}");
        assert_eq!(home.queue("a"), 1, "nothing of it stays in the queue");
        holder.press(CTRL_C);
        holder.rest();
        assert_eq!(home.queue("a"), 0);
    }
}

fn a_command_that_deals_with_ctrl_c_does_not_end_the_script() {
    let home = Home::new();
    let mut screen =
        home.script("$T run a -- sh -c 'trap \"exit 0\" INT; echo ready; read x'; echo next=$?");
    screen.expect("ready");
    screen.press(CTRL_C);
    screen.expect("next=0");
}

fn a_dumb_terminal_gets_no_cursor_codes() {
    let home = Home::new();
    let _holder = home.script("exec $T hold a");
    eventually("it is held", || (home.queue("a") == 1).then_some(()));
    let mut screen = home.script("export TERM=dumb; $T run -w 2 a -- true; echo status=$?");
    let shown = screen.expect("status=75");
    assert!(!shown.contains('\x1b'), "{shown:?}");
}

/// The lock is free long before its session would have ended.
fn the_lock_of_a_killed_holder_is_free_when_its_command_is_dead() {
    let home = Home::new();
    let mut screen = home.script(
        "$T run --ttl 600 a -- sh -c 'setsid sleep 1000 & echo pids=$$/$!; exec sleep 1000' & \
         echo holder=$!; wait; sleep 1000",
    );
    screen.expect("holder=");
    let holder = screen.expect("\n");
    screen.expect("pids=");
    let pids = screen.expect("\n");
    kill_process(pid(holder.trim()), Signal::KILL).unwrap();
    let next = home
        .turnlock(&["run", "-w", "60", "a", "--", "true"])
        .status();
    assert!(next.unwrap().success());
    for process in pids.trim().split('/') {
        assert_eq!(state(process), None, "it is dead before the lock is free");
    }
}

//! Tests the command at a terminal: a pseudo-terminal, mostly with an interactive shell on it, at
//! which the test types.

use std::env;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::tcgetpgrp;

use crate::harness::{PATIENCE, cases, eventually, parent, pid, state};
use crate::supervisor::SESSION;

cases![
    ctrl_c_reaches_the_command_once,
    ctrl_c_shows_in_the_status,
    ctrl_z_stops_the_job_and_fg_continues_it,
    bg_continues_the_command_and_fg_brings_it_back,
    a_job_in_the_background_gets_the_terminal_when_it_asks,
    a_line_of_a_script_stops_with_the_script,
    in_a_pipeline_the_terminal_goes_to_the_process_that_asks,
    a_pager_behind_the_command_keeps_the_terminal,
    ctrl_z_in_a_pipeline_stops_the_command,
    ctrl_z_does_nothing_where_no_shell_would_continue_us,
    the_terminal_comes_back_without_a_shell,
    a_command_that_lost_its_lock_while_stopped_is_not_continued,
    ctrl_z_works_before_there_is_a_command,
    background_output_does_not_stop_the_supervisor,
    the_terminal_survives_the_death_of_the_supervisor,
    a_closed_terminal_ends_the_command_and_hidden_processes,
];

pub const CTRL_C: char = '\x03';
const CTRL_D: char = '\x04';
const CTRL_Z: char = '\x1a';

/// A terminal with a program on it.
pub struct Screen {
    process: Child,
    keyboard: File,
    output: Receiver<Vec<u8>>,
    /// The output that the test has not read yet.
    shown: String,
}

impl Screen {
    /// Runs a command as the first process of a terminal. `$SUPERVISE` starts a supervisor.
    pub fn start(command: &[&str]) -> Self {
        let keyboard =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let this = env::current_exe().unwrap();
        let process = Command::new(&this)
            .arg(SESSION)
            .arg(std::ffi::OsString::from_vec(name.into_bytes()))
            .args(command)
            .env("SUPERVISE", format!("{} supervise", this.display()))
            .env("PS1", "<$?>")
            .env_remove("HISTFILE")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let keyboard = File::from(keyboard);
        let (tell, output) = mpsc::channel();
        let mut screen = keyboard.try_clone().unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(bytes @ 1..) = screen.read(&mut buffer) {
                if tell.send(buffer[..bytes].to_vec()).is_err() {
                    return;
                }
            }
        });
        Screen {
            process,
            keyboard,
            output,
            shown: String::new(),
        }
    }

    /// Starts an interactive shell on a terminal that does not echo its input.
    fn shell() -> Self {
        let mut screen = Screen::start(&["bash", "--norc", "--noprofile", "--noediting", "-i"]);
        screen.enter("stty -echo; echo shell=$((1 + 1))");
        screen.expect("shell=2");
        screen
    }

    pub fn press(&mut self, key: char) {
        write!(self.keyboard, "{key}").unwrap();
    }

    pub fn enter(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").unwrap();
    }

    /// Returns whether this text is shown within the limit.
    fn shows(&mut self, text: &str, limit: Duration) -> bool {
        let begun = Instant::now();
        while !self.shown.contains(text) {
            let left = limit.saturating_sub(begun.elapsed());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => return false,
            }
        }
        true
    }

    /// Waits until this text is shown, and returns the output before it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            if let Some(at) = self.shown.find(text) {
                let rest = self.shown.split_off(at + text.len());
                return std::mem::replace(&mut self.shown, rest);
            }
            let left = PATIENCE.saturating_sub(begun.elapsed());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("waited in vain for {text:?}, saw {:?}", self.shown),
            }
        }
    }

    /// Returns the output until no process has the terminal open any more.
    #[cfg(feature = "embedded")]
    #[track_caller]
    pub fn rest(&mut self) -> String {
        loop {
            match self.output.recv_timeout(PATIENCE) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return std::mem::take(&mut self.shown);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    panic!("the terminal is still in use, after {:?}", self.shown)
                }
            }
        }
    }

    /// Waits until the shell says that the job has stopped. Returns the job's first process.
    #[track_caller]
    fn expect_stop(&mut self) -> String {
        self.expect("Stopped");
        self.expect_status(148);
        // A terminal may echo its input after a stop, so the command line must not contain the text
        // of its result.
        const LIST: &str = "jobs -p | sed s/^/jo''b=/";
        // A shell that has just taken the terminal back may throw its input away.
        let begun = Instant::now();
        self.enter(LIST);
        while !self.shows("job=", Duration::from_secs(2)) {
            assert!(begun.elapsed() < PATIENCE, "saw {:?}", self.shown);
            self.enter(LIST);
        }
        self.expect_number("job=")
    }

    /// Makes the shell continue the job in the foreground.
    #[track_caller]
    fn bring_back(&mut self, job: &str) {
        self.enter("fg");
        self.expect("SUPERVISE");
        eventually("the job is in the foreground and continued", || {
            let foreground = tcgetpgrp(&self.keyboard).ok()?.to_string();
            (foreground == job && state(job) != Some('T')).then_some(())
        });
    }

    /// Waits until the shell prompts for the next line, after a command with this status. At Ctrl-C
    /// a shell throws away the input before the prompt.
    #[track_caller]
    fn expect_status(&mut self, status: u8) {
        self.expect(&format!("<{status}>"));
    }

    /// Waits until the shell shows the number, and returns it.
    #[track_caller]
    fn expect_number(&mut self, before: &str) -> String {
        self.expect(before);
        self.expect("\n").trim().to_owned()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The command is in the foreground with the supervisor, which does not pass on a signal that
/// reaches the command by itself.
fn ctrl_c_reaches_the_command_once() {
    let mut screen = Screen::shell();
    let command = r#"trap "echo caught" INT; echo pid=$$; until [ "$x" = quit ]; do read x; done"#;
    screen.enter(&format!("$SUPERVISE -- sh -c '{command}'; echo status=$?"));
    screen.expect_number("pid=");
    screen.press(CTRL_C);
    screen.expect("caught");
    screen.enter("quit");
    let between = screen.expect("status=0");
    assert!(!between.contains("caught"), "{between:?}");
}

fn ctrl_c_shows_in_the_status() {
    let mut screen = Screen::shell();
    screen.enter("$SUPERVISE -- sh -c 'echo ready; exec cat'");
    screen.expect("ready");
    screen.press(CTRL_C);
    screen.expect_status(130);
}

fn ctrl_z_stops_the_job_and_fg_continues_it() {
    let mut screen = Screen::shell();
    screen.enter("$SUPERVISE -- cat");
    // Several rounds show that every step leaves the terminal as it was.
    for round in 0..3 {
        screen.enter(&format!("before{round}"));
        screen.expect(&format!("before{round}"));
        screen.press(CTRL_Z);
        let job = screen.expect_stop();
        assert_eq!(state(&job), Some('T'), "the supervisor is stopped too");
        screen.bring_back(&job);
    }
    screen.enter("after");
    screen.expect("after");
    screen.press(CTRL_D);
    screen.enter("echo status=$?");
    screen.expect("status=0");
}

/// In the background the command runs on. Back in the foreground, it receives Ctrl-C again.
fn bg_continues_the_command_and_fg_brings_it_back() {
    let mut screen = Screen::shell();
    screen.enter("$SUPERVISE -- sh -c 'echo pid=$$; exec sleep 1000'");
    let command = screen.expect_number("pid=");
    screen.press(CTRL_Z);
    let job = screen.expect_stop();
    assert_eq!(state(&command), Some('T'), "the command is stopped too");
    screen.enter("bg");
    screen.expect("SUPERVISE");
    screen.expect_status(0);
    for process in [&job, &command] {
        eventually("all of it is continued", || {
            (state(process) == Some('S')).then_some(())
        });
    }
    screen.enter("echo shell=$((2 + 2))");
    screen.expect("shell=4");
    screen.bring_back(&job);
    screen.press(CTRL_C);
    screen.expect_status(130);
    assert_eq!(state(&command), None);
}

fn a_job_in_the_background_gets_the_terminal_when_it_asks() {
    let mut screen = Screen::shell();
    screen.enter("$SUPERVISE -- cat &");
    screen.enter("until jobs -s | grep -q SUPERVISE; do sleep 0.01; done; jobs -p | sed s/^/job=/");
    let job = screen.expect_number("job=");
    screen.bring_back(&job);
    screen.enter("text");
    screen.expect("text");
    screen.press(CTRL_C);
    screen.expect_status(130);
}

/// The shell waits for the whole script.
fn a_line_of_a_script_stops_with_the_script() {
    let mut screen = Screen::shell();
    screen.enter("sh -c '$SUPERVISE -- cat; echo script=$?'");
    screen.enter("before");
    screen.expect("before");
    screen.press(CTRL_Z);
    let job = screen.expect_stop();
    screen.enter("echo shell=$((2 + 2))");
    screen.expect("shell=4");
    screen.bring_back(&job);
    screen.enter("after");
    screen.expect("after");
    screen.press(CTRL_D);
    screen.expect("script=0");
}

fn in_a_pipeline_the_terminal_goes_to_the_process_that_asks() {
    let mut screen = Screen::shell();
    screen.enter(r#"echo | $SUPERVISE -- sh -c 'echo ready; read x </dev/tty; echo got=$x' | cat"#);
    screen.expect("ready");
    screen.enter("text");
    screen.expect("got=text");
    screen.enter("echo shell=$((2 + 2))");
    screen.expect("shell=4");
}

/// The line has the form of `turnlock run x -- make | less`: the pager reads the keyboard, and is
/// in the group of the supervisor, like the command.
fn a_pager_behind_the_command_keeps_the_terminal() {
    let mut screen = Screen::shell();
    let command =
        "trap \"kill \\$!; echo caught >/dev/tty; exit\" INT; sleep 1000 & echo ready; wait";
    let pager = "read a; echo $a; read b </dev/tty; echo got=$b";
    screen.enter(&format!(
        "$SUPERVISE -- sh -c '{command}' | sh -c '{pager}'"
    ));
    screen.expect("ready");
    screen.enter("text");
    screen.expect("got=text");
    screen.press(CTRL_C);
    screen.expect("caught");
}

fn ctrl_z_in_a_pipeline_stops_the_command() {
    let mut screen = Screen::shell();
    screen.enter("$SUPERVISE -- sh -c 'echo pid=$$; exec sleep 1000' | cat");
    let command = screen.expect_number("pid=");
    screen.press(CTRL_Z);
    let job = screen.expect_stop();
    assert_eq!(state(&command), Some('T'));
    screen.bring_back(&job);
    eventually("the command is continued", || {
        (state(&command) == Some('S')).then_some(())
    });
    screen.press(CTRL_C);
    eventually("the command is gone", || {
        state(&command).is_none().then_some(())
    });
    screen.enter("echo shell=$((2 + 2))");
    screen.expect("shell=4");
}

/// A stopped supervisor would stay stopped for ever, as with `ssh -t host turnlock run ...`.
fn ctrl_z_does_nothing_where_no_shell_would_continue_us() {
    let this = env::current_exe().unwrap();
    let mut screen = Screen::start(&[
        this.to_str().unwrap(),
        "supervise",
        "--",
        "sh",
        "-c",
        "stty -echo; echo ready; exec cat",
    ]);
    screen.expect("ready");
    screen.press(CTRL_Z);
    screen.enter("text");
    screen.expect("text");
}

/// A script in the group of the supervisor waits for the supervisor, and reads from the terminal
/// afterwards.
fn the_terminal_comes_back_without_a_shell() {
    let mut screen = Screen::start(&[
        "sh",
        "-c",
        "stty -echo; $SUPERVISE -- true; $SUPERVISE -- /none; echo ready; read x; echo got=$x",
    ]);
    screen.expect("ready");
    screen.enter("text");
    screen.expect("got=text");
}

fn a_command_that_lost_its_lock_while_stopped_is_not_continued() {
    let mut screen = Screen::shell();
    screen.enter(
        "$SUPERVISE --deadline 2000 -- sh -c 'echo pid=$$; read x; echo continued=$((1 + 1))'",
    );
    let command = screen.expect_number("pid=");
    screen.press(CTRL_Z);
    let job = screen.expect_stop();
    eventually("the command is gone", || {
        state(&command).is_none().then_some(())
    });
    assert_eq!(
        state(&job),
        Some('T'),
        "which the supervisor has slept through"
    );
    // The command ends as soon as it is continued.
    screen.enter("fg");
    screen.expect_status(137);
}

/// The supervisor handles the signals already while it waits for the lock.
fn ctrl_z_works_before_there_is_a_command() {
    let dir = tempfile::tempdir().unwrap();
    let lock = dir.path().join("lock");
    let mut screen = Screen::shell();
    screen.enter(&format!("$SUPERVISE --await {} -- true", lock.display()));
    screen.expect("waiting");
    screen.press(CTRL_Z);
    let job = screen.expect_stop();
    screen.bring_back(&job);
    screen.press(CTRL_C);
    screen.expect_status(130);
}

/// The supervisor reports that the lock is lost while the command has a terminal that forbids
/// output from the background.
fn background_output_does_not_stop_the_supervisor() {
    let dir = tempfile::tempdir().unwrap();
    let when = dir.path().join("when");
    let mut screen = Screen::shell();
    screen.enter(&format!(
        "stty tostop; $SUPERVISE --when {} --say lost -- sh -c 'echo ready; exec cat'",
        when.display()
    ));
    screen.expect("ready");
    std::fs::write(&when, "").unwrap();
    screen.expect("lost");
    screen.expect("stopped Killed(9)");
}

fn the_terminal_survives_the_death_of_the_supervisor() {
    let mut screen = Screen::shell();
    screen.enter("$SUPERVISE -- sh -c 'echo pids=$$/$PPID; exec cat'; echo status=$?");
    let pids = screen.expect_number("pids=");
    let (command, watchdog) = pids.split_once('/').unwrap();
    rustix::process::kill_process(pid(&parent(watchdog)), Signal::KILL).unwrap();
    screen.expect("status=137");
    eventually("the command is gone", || {
        state(command).is_none().then_some(())
    });
}

fn a_closed_terminal_ends_the_command_and_hidden_processes() {
    let mut screen = Screen::start(&[
        "sh",
        "-c",
        "$SUPERVISE -- sh -c 'setsid sleep 1000 & echo pids=$$/$!; exec cat'; echo next",
    ]);
    let pids = screen.expect_number("pids=");
    drop(screen);
    for process in pids.split('/') {
        eventually("all are gone", || state(process).is_none().then_some(()));
    }
}

//! Starts supervisors and observes what they and their commands do.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::supervisor::SUPERVISE;

/// A case: its name and its function, which fails by panicking.
pub type Case = (&'static str, fn());

/// Lists cases by the names of their functions.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        pub const CASES: &[crate::harness::Case] =
            &[$((concat!(module_path!(), "::", stringify!($case)), $case)),*];
    };
}
pub(crate) use cases;

/// The limit for an expected event. It happens much sooner; the rest is for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A supervisor of a command, in a process and a session of its own.
pub struct Supervised {
    pub process: Child,
    lines: Receiver<String>,
}

/// Returns the command line of a supervisor without a terminal.
pub fn supervise(options: &[&str], command: &[&str]) -> Command {
    let mut line = Command::new(env::current_exe().unwrap());
    line.args([SUPERVISE, "--detach"])
        .args(options)
        .arg("--")
        .args(command);
    line.stdin(Stdio::null());
    line
}

impl Supervised {
    /// Starts the supervisor. Its output is read here, and so is the output of the command and of
    /// all that the command leaves behind.
    pub fn start(mut line: Command) -> Self {
        let mut process = line.stdout(Stdio::piped()).spawn().unwrap();
        let lines = lines(process.stdout.take().unwrap());
        Supervised { process, lines }
    }

    /// Starts a supervisor of a shell script. Its input stays open and empty, so that `read` waits
    /// for a signal. (A script that waits for `sleep` would not do: a signal that arrives between
    /// the fork and the exec of a shell can be lost on the sleep.)
    pub fn script(options: &[&str], script: &str) -> Self {
        let mut line = supervise(options, &["sh", "-c", script]);
        line.stdin(Stdio::piped());
        Supervised::start(line)
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Returns the next line of output.
    #[track_caller]
    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line of output")
    }

    /// Returns the rest of the output, up to its end. Then no process has the output open any more,
    /// and all processes that inherited it have ended.
    #[track_caller]
    pub fn rest(&self) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        let mut rest = Vec::new();
        loop {
            match self
                .lines
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => return rest,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("somebody still has the output open, after {rest:?}")
                }
            }
        }
    }

    /// Waits for the supervisor's own end.
    #[track_caller]
    pub fn status(&mut self) -> ExitStatus {
        eventually("the supervisor ends", || self.process.try_wait().unwrap())
    }

    /// Returns the exit status of the supervisor, as a shell shows it.
    #[track_caller]
    pub fn code(&mut self) -> i32 {
        shown(self.status())
    }

    /// Returns the watchdog process of this supervisor.
    #[track_caller]
    pub fn watchdog(&self) -> Pid {
        let parent = self.process.id().to_string();
        let watchdog = eventually("there is a watchdog", || {
            processes().find(|process| {
                let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
                name.trim() == "lock-watchdog"
                    && field(process, 1).is_some_and(|field| field == parent)
            })
        });
        pid(&watchdog)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // The case may have failed half-way.
        if let Ok(None) = self.process.try_wait() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// Reads the lines of an output on a thread of its own.
fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Runs a command line to its end. Returns its status, output and errors.
#[track_caller]
pub fn outcome(mut line: Command, input: &str) -> (i32, String, String) {
    let mut process = line
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The write fails if the command does not read its input.
    let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
    let output = process.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().expect("not ended by a signal"),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Returns the exit status as a shell shows it.
pub fn shown(status: ExitStatus) -> i32 {
    let by_signal = || 128 + status.signal().expect("one or the other");
    status.code().unwrap_or_else(by_signal)
}

/// Polls until there is a result, and returns it.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Parses a process id.
pub fn pid(process: &str) -> Pid {
    Pid::from_raw(process.parse().unwrap()).unwrap()
}

fn processes() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns a field of /proc/PID/stat, counted from the one after the name.
fn field(process: impl AsRef<OsStr>, index: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_ref().display())).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(index).map(str::to_owned)
}

/// Returns the parent of a process.
#[track_caller]
pub fn parent(process: &str) -> String {
    field(process, 1).expect("it is there")
}

/// Returns the children of a process, including those that have ended and were not reaped.
pub fn children(process: &str) -> Vec<String> {
    processes()
        .filter(|child| field(child, 1).as_deref() == Some(process))
        .collect()
}

/// Returns the state of a process (R, S, T, ...), or `None` if it has ended.
pub fn state(process: &str) -> Option<char> {
    field(process, 0)?
        .chars()
        .next()
        .filter(|state| !matches!(state, 'Z' | 'X'))
}

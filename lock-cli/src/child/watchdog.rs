//! Runs the watchdog process. It starts the command, and is the parent of all that the command
//! leaves behind. It ends all of it when the supervisor is gone, when the supervisor orders that,
//! and when a deadline passes that the supervisor has not moved on: the supervisor may be stopped
//! while the command runs.
//!
//! It notices the supervisor's end by a socket whose other end only the supervisor has: the kernel
//! closes it, whatever ended the supervisor.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal as Posix};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};
use rustix::net::{self, SendFlags};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use turnlock::clock::{BootInstant, Clock};

use super::ended::Ended;
use super::family;
use super::helper::{LAST_WILL, this_program};
use super::proc::{self, DEADLY, SignalMask};
use super::signals::{self, Sender};
use super::wire::{self, MESSAGE, Order, Report, Start};

/// The time limit for killed processes to end. They end at once, unless they hang in the kernel or
/// belong to another user.
const KILLED_LIMIT: Duration = Duration::from_secs(10);
/// The longest timer. Timers stop while the machine is suspended, but the deadline does not move.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);

/// Runs the watchdog process.
pub(super) fn main() -> ExitCode {
    // A TERM, for instance to all processes of a service, must not end the watchdog while the
    // command runs.
    let before = signals::block_all();
    // It has a name of its own, so that `killall` does not end it with the commands that it guards.
    let _ = rustix::thread::set_name(c"lock-watchdog");
    match guard(before) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn guard(mask: SigSet) -> io::Result<()> {
    let line = UnixStream::from(fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    family::adopt_orphans()?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let children = SignalFd::with_flags(&SigSet::from(Posix::SIGCHLD), flags)?;
    // The supervisor closes the line if there is nothing to start after all.
    let Some(streams) = wire::receive_streams(&line)? else {
        return Ok(());
    };
    let start = Start::receive(&line)?;
    // The command inherits the mask that this process was started with. Signals are not expected
    // meanwhile.
    mask.thread_set_mask()?;
    let executed = execute(&start, streams);
    signals::block_all();
    let command = match executed {
        Ok(command) => command,
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(Errno::INVAL.raw_os_error());
            (&line).write_all(&Report::Failed(errno).encode())?;
            return Ok(());
        }
    };
    // If the supervisor is gone already, the next read notices that.
    let _ = (&line).write_all(&Report::Started.encode());
    let mut watch = Watch {
        line,
        children,
        clock: Clock::system(),
        command,
        ended: None,
        childless: false,
        sent: ReportsSent::default(),
        deadline: start.deadline,
        kill_at: None,
        by_terminal: SignalMask::default(),
        by_others: SignalMask::default(),
        start,
    };
    watch.serve_supervisor();
    if watch.guards_something() {
        // If a process cannot be ended, this clears the last will.
        let _ = watch.kill();
    }
    carry_out(&watch.start.last_will)
}

/// Starts the command, with its own streams and in the supervisor's group. This process does not
/// keep the streams open, so that a reader of the output does not wait for it.
fn execute(start: &Start, [stdin, stdout, stderr]: [std::os::fd::OwnedFd; 3]) -> io::Result<Pid> {
    let (program, arguments) = start.command.split_first().ok_or(Errno::INVAL)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(start.env.iter().map(|(name, value)| (name, value)))
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr);
    if start.group != proc::UNSEEN {
        command.process_group(start.group);
    }
    Ok(Pid::from_child(&command.spawn()?))
}

/// Executes this program in the role that carries out the last will, after the supervisor has died.
fn carry_out(last_will: &[u8]) -> io::Result<()> {
    if last_will.is_empty() {
        return Ok(());
    }
    let mut text = std::fs::File::from(memfd_create("last will", MemfdFlags::CLOEXEC)?);
    text.write_all(last_will)?;
    seek(&text, SeekFrom::Start(0))?;
    Err(Command::new(this_program()?)
        .arg(OsStr::new(LAST_WILL))
        .stdin(text)
        .exec())
}

/// The reports that were sent to the supervisor.
#[derive(Default)]
struct ReportsSent {
    ended: bool,
    all: bool,
}

struct Watch {
    line: UnixStream,
    children: SignalFd,
    clock: Clock,
    start: Start,
    command: Pid,
    ended: Option<Ended>,
    /// Whether the last look found no child of this process.
    childless: bool,
    sent: ReportsSent,
    deadline: Option<BootInstant>,
    /// The instant at which everything that is left is killed.
    kill_at: Option<BootInstant>,
    by_terminal: SignalMask,
    by_others: SignalMask,
}

impl Watch {
    fn serve_supervisor(&mut self) {
        loop {
            self.reap();
            self.report();
            let now = self.clock.now();
            let next = match self.guards_something() {
                true => self.deadline.into_iter().chain(self.kill_at).min(),
                false => None,
            };
            if next.is_some_and(|at| at <= now) {
                if let Err(survivor) = self.kill() {
                    self.send(Report::Survivor(survivor));
                }
                continue;
            }
            let timeout = next.map(|at| {
                let nap = at.saturating_since(now).min(LONGEST_SLEEP);
                Timespec {
                    tv_sec: 0,
                    tv_nsec: nap.subsec_nanos().into(),
                }
            });
            let mut ready = [
                PollFd::new(&self.line, PollFlags::IN),
                PollFd::new(&self.children, PollFlags::IN),
            ];
            if retry_on_intr(|| poll(&mut ready, timeout.as_ref())).is_err() {
                return;
            }
            let [line, children] = ready.map(|fd| !fd.revents().is_empty());
            if children {
                // The signals are drained: they only say that some children have ended.
                while let Ok(Some(_)) = self.children.read_signal() {}
            }
            if line {
                let mut message = [0; MESSAGE];
                if (&self.line).read_exact(&mut message).is_err() {
                    return;
                }
                if let Some(order) = Order::decode(message) {
                    self.obey(order);
                }
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Deadline(at) => self.deadline = Some(at),
            Order::Signal(signal, sender) => {
                if let Some(signal) = Signal::from_named_raw(signal) {
                    self.pass_on_signal(signal, sender);
                }
            }
            Order::End(Some(grace)) => self.end_politely(grace),
            Order::End(None) => self.kill_at = Some(self.clock.now()),
        }
    }

    /// Returns whether something may run that must not outlive the lock. Processes that the command
    /// left running when it ended by itself do not count.
    fn guards_something(&self) -> bool {
        let left = self.start.whole || self.kill_at.is_some();
        !self.sent.all && (self.ended.is_none() || left)
    }

    fn reap(&mut self) {
        self.childless = loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((process, status))) => {
                    if process == self.command {
                        self.ended = Some(Ended::from_wait(status));
                    }
                }
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
    }

    /// Sends the reports that the supervisor has not got yet.
    fn report(&mut self) {
        let Some(ended) = self.ended else { return };
        if !self.sent.ended {
            self.sent.ended = true;
            let through_us = self.is_ended_by_signal_to_us(ended);
            self.send(Report::Ended { ended, through_us });
            if through_us && !self.childless {
                self.end_politely(self.start.grace);
            }
        }
        let all = self.childless || self.guards_something() && family::is_extinct();
        if all && !self.sent.all {
            self.sent.all = true;
            self.kill_at = None;
            self.send(Report::AllEnded);
        }
    }

    /// Returns whether the command ended because the supervisor was to end. Then what it left ends,
    /// too.
    ///
    /// A HUP may only have made the command read its configuration again, and the command may have
    /// handled a signal of the terminal, long before it ends for another reason.
    fn is_ended_by_signal_to_us(&self, ended: Ended) -> bool {
        let to_end = [Signal::TERM, Signal::INT, Signal::QUIT];
        self.by_others.contains_any(&to_end)
            || self.by_others.contains_end(ended)
            || self.by_terminal.contains_end(ended)
    }

    /// Passes on a signal that was sent to the supervisor.
    fn pass_on_signal(&mut self, signal: Signal, sender: Sender) {
        let deadly = DEADLY.contains(&signal);
        match sender {
            Sender::Kernel => self.by_terminal.insert(signal.as_raw()),
            // A process under the lock has signalled its own group, which includes the supervisor.
            Sender::Process(process) if family::contains(process) => return,
            Sender::Process(_) => self.by_others.insert(signal.as_raw()),
        }
        if self.ended.is_some() {
            if deadly && self.start.whole {
                self.end_politely(self.start.grace);
            }
            return;
        }
        let group = proc::group_of(Some(self.command));
        match sender {
            // The signal has reached the command with its group, unless the command has left the
            // group.
            Sender::Kernel if group == self.start.group => {}
            Sender::Kernel => {
                let _ = kill_process(self.command, signal);
            }
            Sender::Process(_) => family::signal(signal, |member| {
                deadly || signal == Signal::CONT || member.stat.group == group
            }),
        }
    }

    /// Sends TERM to everything that the command started, and kills what is left after this time.
    fn end_politely(&mut self, grace: Duration) {
        family::terminate();
        let at = self.clock.now() + grace;
        self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Kills everything that the command started.
    ///
    /// # Errors
    /// The process that cannot be ended.
    fn kill(&mut self) -> Result<(), i32> {
        let command = self.command;
        let mut ended = self.ended;
        let killed = family::end(KILLED_LIMIT, || {
            while let Ok(Some((process, status))) = wait(WaitOptions::NOHANG) {
                if process == command {
                    ended = Some(Ended::from_wait(status));
                }
            }
        });
        self.ended = ended;
        self.childless = killed.is_ok();
        (self.deadline, self.kill_at) = (None, None);
        self.report();
        // Nothing more can be done.
        self.sent.all = true;
        if killed.is_err() {
            // The processes that still run keep the lock for as long as the session lasts.
            self.start.last_will.clear();
        }
        killed
    }

    /// Sends a report, without waiting for a supervisor that is stopped.
    fn send(&self, report: Report) {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _ = net::send(&self.line, &report.encode(), flags);
    }
}

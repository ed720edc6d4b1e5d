//! Starts and supervises the command that runs under the lock, and stops it together with
//! everything that it started.
//!
//! The command runs in the process group of this process, as it would under flock: the terminal's
//! keys, background reads and pipelines work as usual. Its parent is the *watchdog*: this program
//! again, with a hidden first argument. The watchdog is also the parent of every descendant that
//! loses its own, so nothing that the command starts gets out of sight, in whatever group or
//! session it is. The watchdog ends all of it when this process is gone, for whatever reason, and
//! when the deadline passes while this process is stopped. The watchdog starts before the command,
//! so the command never runs unwatched. If the watchdog is killed, this process is the parent of
//! all that it leaves, and ends it.
//!
//! Processes that the command leaves running when it ends by itself are left alone, as under flock,
//! unless the plan says otherwise.

mod ended;
mod error;
mod family;
mod handle;
mod helper;
mod proc;
mod signals;
mod watchdog;
mod wire;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::time::Duration;

use lock_core::background;
use rustix::process::{Signal as Raw, kill_current_process_group};
use turnlock::clock::{BootInstant, Clock};

pub use self::ended::Ended;
pub use self::error::{Error, SpawnError};
pub use self::handle::{Deadline, Watchdog};
pub use self::helper::{LAST_WILL, helper_main, this_program};
#[cfg(feature = "bench")]
pub use self::signals::block_signals_to_catch;
#[cfg(feature = "otel")]
pub use self::signals::with_signals_blocked;
pub use self::signals::{Signal, Signals, unblock_all, without_tty_stop};

use self::handle::Handle;
use self::proc::SignalMask;
use self::signals::{Arrival, Sender};
use self::wire::{Order, Report, Start};

/// The longest timer. Timers stop while the machine is suspended, but the time before a KILL goes
/// on.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);
/// The time limit for the watchdog to end the command, beyond the time that the command was given.
const WATCHDOG_LIMIT: Duration = Duration::from_secs(12);
/// The time for which this process tries to end the command when the watchdog is gone.
const KILLED_LIMIT: Duration = Duration::from_secs(10);

/// The command to start, and how it is to end.
#[derive(Debug, Default)]
pub struct Plan {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Variables that are set over the inherited environment.
    pub env: Vec<(OsString, OsString)>,
    /// The time for the processes that the command leaves to clean up, when a signal to this
    /// process has ended the command.
    pub grace: Duration,
    /// Whether everything that the command starts counts as the command.
    pub whole: bool,
    /// The instant at which the command is killed with all that it started, unless
    /// [`Child::deadline`] moves it on. It holds from the first instant of the command, whatever
    /// happens to this process.
    pub deadline: Option<BootInstant>,
    /// The standard input of this program, with [`LAST_WILL`] as its first argument, when this
    /// process has died and the command with it. Nothing is executed if it is empty.
    pub last_will: Vec<u8>,
}

/// A running command. If it is dropped before the command has ended, the command is killed with all
/// that it started.
///
/// Signals to this process are passed on while [`Child::wait`] or [`Child::stop`] is polled, if a
/// process sent them to this process alone, as far as that can be seen. Signals of the terminal
/// have reached the command already. Signals of the command or its descendants are not passed on.
#[derive(Debug)]
pub struct Child {
    handle: Handle,
    signals: Signals,
    received: SignalMask,
    by_terminal: SignalMask,
    grace: Duration,
    /// Whether everything that the command starts counts as the command.
    whole: bool,
    ended: Option<Ended>,
    all_ended: bool,
    survivor: Option<i32>,
    unwatched: bool,
}

impl Child {
    /// Starts the command with the stdin, stdout and stderr of this process.
    ///
    /// `signals` is installed earlier, so that no signal is missed. Signals that have arrived since
    /// are passed on to the command.
    ///
    /// # Errors
    /// [`SpawnError`], if the command could not be executed. Nothing is left running then.
    ///
    /// # Cancel safety
    /// If it is dropped before it is done, what it has started is killed.
    pub async fn spawn(
        watchdog: Watchdog,
        plan: Plan,
        signals: Signals,
    ) -> Result<Self, SpawnError> {
        let program = plan.command.first().cloned().unwrap_or_default();
        let start = Start {
            command: plan.command,
            env: plan.env,
            group: proc::group_of(None),
            grace: plan.grace,
            whole: plan.whole,
            deadline: plan.deadline,
            last_will: plan.last_will,
        };
        let mut child = Child {
            handle: watchdog.guard(&start).await?,
            signals,
            received: SignalMask::default(),
            by_terminal: SignalMask::default(),
            grace: plan.grace,
            whole: plan.whole,
            ended: None,
            all_ended: false,
            survivor: None,
            unwatched: false,
        };
        match child.handle.report().await {
            Some(Report::Failed(errno)) => {
                let source = io::Error::from_raw_os_error(errno);
                Err(to_spawn_error(&program, source))
            }
            Some(_) => Ok(child),
            // The watchdog may have started the command before it was killed.
            None => {
                child.take_over().await;
                Ok(child)
            }
        }
    }

    /// Returns the handle that moves the deadline of the command. At the deadline the command is
    /// killed with all that it started, even if this process is stopped.
    pub fn deadline(&self) -> Deadline {
        self.handle.deadline()
    }

    /// Waits until the command has ended. If everything that it started counts, or a signal to this
    /// process has ended the command, it waits for all of that. Every later call returns the same.
    ///
    /// # Errors
    /// A process that has to end runs as another user and cannot be killed.
    ///
    /// # Cancel safety
    /// It may be dropped and called again; no event is lost.
    pub async fn wait(&mut self) -> Result<Ended, Error> {
        loop {
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            tokio::select! {
                biased;
                report = self.handle.report() => self.handle_report(report).await,
                arrival = self.signals.recv() => self.handle_signal(arrival),
            }
        }
    }

    /// Ends the command and all that it started, and returns once all of it has ended. With
    /// `term_first` the processes get TERM (and CONT, in case they are stopped), and KILL after
    /// `kill_after`. Without it they get KILL at once. The time counts through suspend.
    ///
    /// # Errors
    /// A process runs as another user and cannot be killed. It runs on then.
    ///
    /// # Cancel safety
    /// If it is dropped, the processes are ended all the same. Call it again to wait for that.
    pub async fn stop(&mut self, term_first: bool, kill_after: Duration) -> Result<Ended, Error> {
        self.whole = true;
        if let Some(outcome) = self.outcome() {
            return outcome;
        }
        self.handle
            .order(Order::End(term_first.then_some(kill_after)));
        let clock = Clock::system();
        let give_up = clock.now() + kill_after + WATCHDOG_LIMIT;
        loop {
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            if clock.now() >= give_up {
                // The watchdog is stopped.
                self.take_over().await;
                continue;
            }
            tokio::select! {
                biased;
                report = self.handle.report() => self.handle_report(report).await,
                arrival = self.signals.recv() => self.handle_signal(arrival),
                () = tokio::time::sleep(LONGEST_SLEEP) => {}
            }
        }
    }

    /// Ends the watchdog while `closing` closes the session, after the lock was released. Processes
    /// that the command left running run on.
    pub async fn leave(mut self, closing: impl Future<Output = ()>) {
        // It takes the kernel a moment to end a process.
        self.handle.kill();
        closing.await;
        self.handle.dismiss();
    }

    /// Returns the signal that has ended the command, if it was sent to this process as well. Then
    /// it was meant for both.
    pub fn shared_end(&self) -> Option<Signal> {
        match self.ended {
            Some(Ended::Killed(signal)) if self.received.contains(signal.into()) => {
                Signal::of(signal.into())
            }
            _ => None,
        }
    }

    /// Returns whether the watchdog was killed, and the command was ended for that reason: it never
    /// runs unwatched.
    pub fn was_unwatched(&self) -> bool {
        self.unwatched
    }

    fn outcome(&self) -> Option<Result<Ended, Error>> {
        if let Some(process) = self.survivor {
            let what = format!("end the process {process}");
            return Some(Err(Error::new(what, rustix::io::Errno::PERM.into())));
        }
        self.ended.filter(|_| self.all_ended || !self.whole).map(Ok)
    }

    async fn handle_report(&mut self, report: Option<Report>) {
        match report {
            Some(Report::Ended { ended, through_us }) => {
                self.ended = Some(ended);
                self.whole |= through_us;
                // If the signal was sent to this process as well, it has arrived by now. It may
                // also be meant for the processes that the command has left.
                while let Some(arrival) = self.signals.try_recv() {
                    self.handle_signal(arrival);
                }
                if !self.whole && self.by_terminal.contains_end(ended) {
                    // The watchdog has not received that signal yet.
                    self.whole = true;
                    self.handle.order(Order::End(Some(self.grace)));
                }
            }
            Some(Report::AllEnded) => self.all_ended = true,
            Some(Report::Survivor(process)) => self.survivor = Some(process),
            Some(Report::Started | Report::Failed(_)) => {}
            None => self.take_over().await,
        }
    }

    /// Ends everything that the watchdog guarded, because the watchdog is gone or does not act.
    async fn take_over(&mut self) {
        self.handle.dismiss();
        self.unwatched = true;
        let end = || family::end(KILLED_LIMIT, family::reap_children);
        // Without a free thread it blocks this one: nothing is more urgent.
        let killed = background::block(end).await.unwrap_or_else(|_| end());
        self.survivor = killed.err();
        self.all_ended = true;
        self.ended
            .get_or_insert(Ended::Killed(Raw::KILL.as_raw() as u8));
    }

    fn note(&mut self, Arrival { signal, sender }: Arrival) {
        self.received.insert(signal.as_raw());
        if sender == Sender::Kernel {
            self.by_terminal.insert(signal.as_raw());
        }
    }

    fn handle_signal(&mut self, Arrival { signal, sender }: Arrival) {
        self.note(Arrival { signal, sender });
        if signal == Raw::TSTP && sender == Sender::Kernel {
            if proc::has_job_control() {
                signals::suspend();
            } else {
                // Without a shell with job control, no process could continue this one.
                let _ = kill_current_process_group(Raw::CONT);
            }
            return;
        }
        self.handle.order(Order::Signal(signal.as_raw(), sender));
    }
}

fn to_spawn_error(program: &OsStr, source: io::Error) -> SpawnError {
    match source.kind() {
        io::ErrorKind::NotFound => {}
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => {
            return Error::new("start a process for the command", source).into();
        }
        _ => return SpawnError::NotExecutable(program.to_owned(), source),
    }
    let path = Path::new(program);
    if path.components().count() > 1 && path.exists() {
        let source = io::Error::other("the interpreter that it names was not found");
        return SpawnError::NotExecutable(program.to_owned(), source);
    }
    SpawnError::NotFound(program.to_owned())
}

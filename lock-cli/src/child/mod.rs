//! The command that runs under the lock: started, supervised, and stopped together with everything
//! it started.
//!
//! It runs in our own process group, as it would under flock: the terminal's keys, background reads
//! and pipelines find it where they look. Between us and it is the *watchdog*, this program again
//! under a hidden first argument: its parent, and the parent of all that loses its own. So nothing
//! that the command starts gets out of sight, in whatever group or session it hides. The watchdog
//! ends all of it when we are gone, however we went, and when its deadline passes while we are
//! stopped. It is there before the command is, so there is no instant at which that runs unwatched;
//! should the watchdog be killed, we are the parent of all that it leaves, and end it.
//!
//! What the command leaves running when it ends by itself is left alone, as flock leaves it, unless
//! asked otherwise.

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
pub use self::signals::block_caught;
pub use self::signals::{Signal, Signals, unblock_all, without_tty_stop};

use self::handle::Handle;
use self::proc::SignalMask;
use self::signals::{Arrival, Sender};
use self::wire::{Order, Report, Start};

/// Timers stand still while the machine sleeps, the time left before a KILL does not.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);
/// A watchdog that has not ended the command by then, after the time given to it, never will.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long we try ourselves when there is no watchdog any more.
const KILLED_LIMIT: Duration = Duration::from_secs(10);

/// What to start, and what is to become of it.
#[derive(Debug, Default)]
pub struct Plan {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Set over the environment that we inherited.
    pub env: Vec<(OsString, OsString)>,
    /// How long what the command leaves has to clean up when a signal to us has ended the command.
    pub grace: Duration,
    /// All that the command starts counts as the command.
    pub whole: bool,
    /// It is killed then, with all that it started, unless [`Child::deadline`] moves that on: from
    /// its first instant, whatever becomes of us.
    pub deadline: Option<BootInstant>,
    /// Given to this program as its standard input, with [`LAST_WILL`] as its first argument, when
    /// we have died and the command with us. Nothing is done if it is empty.
    pub last_will: Vec<u8>,
}

/// A command that runs. Dropped before it has ended, it is killed with all that it started.
///
/// Signals that come in for this process are passed on while [`Child::wait`] or [`Child::stop`] is
/// polled: those that a process sent to us alone, as far as that can be told. What the terminal
/// sends has reached the command already, and what the command or its kin send is their own affair.
#[derive(Debug)]
pub struct Child {
    handle: Handle,
    signals: Signals,
    received: SignalMask,
    by_terminal: SignalMask,
    grace: Duration,
    /// All that it starts counts.
    whole: bool,
    ended: Option<Ended>,
    all_ended: bool,
    survivor: Option<i32>,
    unwatched: bool,
}

impl Child {
    /// Starts the command with our stdin, stdout and stderr.
    ///
    /// `signals` is made before, so that none finds us unprepared: what has come in since is passed
    /// on to the command.
    ///
    /// # Errors
    /// If the command could not be executed; nothing is left running then.
    ///
    /// # Cancel safety
    /// Dropped before it is done, it kills what it has started.
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
                Err(not_executed(&program, source))
            }
            Some(_) => Ok(child),
            // It may have started the command before it was killed.
            None => {
                child.take_over().await;
                Ok(child)
            }
        }
    }

    /// To tell until when the command may run: it is killed then with all that it started, also if
    /// this process is stopped.
    pub fn deadline(&self) -> Deadline {
        self.handle.deadline()
    }

    /// Waits for the command to end; for all that it started, if that counts or a signal to us has
    /// ended the command. Once it has, every further call answers the same.
    ///
    /// # Errors
    /// If something cannot be ended that should be, because it runs as another user.
    ///
    /// # Cancel safety
    /// May be dropped and called again at will; no event is lost.
    pub async fn wait(&mut self) -> Result<Ended, Error> {
        loop {
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            tokio::select! {
                biased;
                report = self.handle.report() => self.reported(report).await,
                arrival = self.signals.recv() => self.signalled(arrival),
            }
        }
    }

    /// Ends the command and all that it started: with `term_first` they get TERM (and CONT, in case
    /// they are stopped) and up to `kill_after` to end; then, or else at once, KILL. The time counts
    /// through suspend.
    ///
    /// Answers once all of it has ended.
    ///
    /// # Errors
    /// If something cannot be killed because it runs as another user. It runs on then.
    ///
    /// # Cancel safety
    /// Dropped, it stops waiting, and the end goes on; call it again to wait for it.
    pub async fn stop(&mut self, term_first: bool, kill_after: Duration) -> Result<Ended, Error> {
        self.whole = true;
        if let Some(outcome) = self.outcome() {
            return outcome;
        }
        self.handle
            .order(Order::End(term_first.then_some(kill_after)));
        let clock = Clock::system();
        let give_up = clock.now() + kill_after + PATIENCE;
        loop {
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            if clock.now() >= give_up {
                // Somebody has stopped the watchdog.
                self.take_over().await;
                continue;
            }
            tokio::select! {
                biased;
                report = self.handle.report() => self.reported(report).await,
                arrival = self.signals.recv() => self.signalled(arrival),
                () = tokio::time::sleep(LONGEST_SLEEP) => {}
            }
        }
    }

    /// Ends the watchdog, when the lock has been given back, while the session is closed. What the
    /// command left running runs on.
    pub async fn leave(mut self, closing: impl Future<Output = ()>) {
        // It takes the kernel a moment to end a process.
        self.handle.kill();
        closing.await;
        self.handle.dismiss();
    }

    /// The signal that has ended the command and came in for us as well: then it was meant for us,
    /// too.
    pub fn shared_end(&self) -> Option<Signal> {
        match self.ended {
            Some(Ended::Killed(signal)) if self.received.contains(signal.into()) => {
                Signal::of(signal.into())
            }
            _ => None,
        }
    }

    /// Whether the watchdog was killed, and the command was ended for that: it never runs unwatched.
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

    async fn reported(&mut self, report: Option<Report>) {
        match report {
            Some(Report::Ended { ended, through_us }) => {
                self.ended = Some(ended);
                self.whole |= through_us;
                // What has ended it has come in for us by now, if it did.
                while let Some(arrival) = self.signals.pending() {
                    self.note(arrival);
                }
                if !self.whole && self.by_terminal.contains_end(ended) {
                    // The watchdog did not know that yet.
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

    /// The watchdog is gone, or does nothing: all that it guarded is ours to end.
    async fn take_over(&mut self) {
        self.handle.dismiss();
        self.unwatched = true;
        let end = || family::end(KILLED_LIMIT, family::reap_children);
        // Without a thread to be had, nothing is more urgent.
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

    fn signalled(&mut self, Arrival { signal, sender }: Arrival) {
        self.note(Arrival { signal, sender });
        if signal == Raw::TSTP && sender == Sender::Kernel {
            if proc::parent_controls_jobs() {
                signals::suspend();
            } else {
                // Nobody could bring us back.
                let _ = kill_current_process_group(Raw::CONT);
            }
            return;
        }
        self.handle.order(Order::Signal(signal.as_raw(), sender));
    }
}

fn not_executed(program: &OsStr, source: io::Error) -> SpawnError {
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

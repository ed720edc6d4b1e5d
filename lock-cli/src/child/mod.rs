//! The command that runs under the lock: started, supervised, and stopped together with everything
//! it started.
//!
//! The command leads a process group of its own, so that it can be signalled and killed as a whole.
//! Two helper processes, both this program under a hidden first argument, see to it that it never
//! outlives us:
//!
//! - The *launcher* becomes the command. It is in the new group from its first instruction, asks
//!   the kernel to kill it when we die, and executes the command only when told to.
//! - The *watchdog* kills the group when we are gone, however we went, and when its deadline passes
//!   while we are stopped. It has acknowledged the group before the launcher is told to go on, so
//!   there is no instant at which the command runs unwatched.
//!
//! A process that leaves the group (`setsid`) or takes another user's identity is out of reach.
//! Processes of the group that outlive the command itself are left alone, as flock leaves them,
//! unless the lock is lost.

mod error;
mod group;
mod helper;
mod keeper;
mod launcher;
mod proc;
mod signals;
mod terminal;
mod watchdog;

use std::ffi::OsString;
use std::time::Duration;

use rustix::process::Signal as Raw;
use tokio::sync::mpsc;
use turnlock::clock::Clock;

pub use self::error::{Error, SpawnError};
pub use self::group::Ended;
pub use self::helper::{helper_main, this_program};
pub use self::signals::Signals;
pub use self::watchdog::Deadline;

use self::group::Group;
use self::keeper::{Event, Plan, Started};
use self::terminal::Terminal;

/// How often a group whose leader has ended is looked at: nothing tells when its other processes
/// end.
const GROUP_POLL: Duration = Duration::from_millis(20);
/// Timers stand still while the machine sleeps, the time left before a KILL does not.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);
/// How long killed processes are waited for after the command itself has ended. They end at once,
/// except for those that hang in the kernel or belong to another user.
const KILLED_LIMIT: Duration = Duration::from_secs(1);

/// A command that runs in a process group of its own. Dropped before it has ended, it is killed
/// with its whole group.
///
/// Signals that come in for this process are passed on, and Ctrl-Z and `fg` are followed, while
/// [`Child::wait`] or [`Child::stop`] is polled.
#[derive(Debug)]
pub struct Child {
    group: Group,
    events: mpsc::Receiver<Event>,
    signals: Signals,
    terminal: Option<Terminal>,
    /// The command has had the terminal or has asked for it: it gets it when our job is brought to
    /// the foreground.
    wants_terminal: bool,
    progress: Progress,
}

/// Where the command itself, the leader of its group, stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Running,
    Stopped,
    /// Ended but not reaped: its process id, and so the group's, cannot be given to another.
    Zombie,
    Reaped(Ended),
}

impl Child {
    /// Starts `command` (the program and its arguments) with our stdin, stdout and stderr, and with
    /// `env` set over the environment that we inherited.
    ///
    /// `signals` is made before, so that none finds us unprepared: what has come in since is passed
    /// on to the command. If our standard input and output are a terminal and we are in its
    /// foreground, the command is in the foreground from its start; otherwise it gets the terminal
    /// when it asks for it.
    ///
    /// From here on this thread ignores the terminal's objection to background output (SIGTTOU):
    /// what we say while the command has the terminal must not stop us. So a process starts one
    /// command.
    ///
    /// # Errors
    /// If the command could not be executed; nothing is left running then.
    ///
    /// # Cancel safety
    /// Dropped before it is done, it kills what it has started.
    pub async fn spawn(
        command: &[OsString],
        env: &[(OsString, OsString)],
        signals: Signals,
    ) -> Result<Self, SpawnError> {
        let plan = Plan {
            command: command.to_vec(),
            env: env.to_vec(),
        };
        let (started, events) = keeper::start(plan)?;
        terminal::allow_background_output();
        let Started {
            group,
            terminal,
            foreground,
        } = started.await.unwrap_or_else(|_| {
            Err(Error::new("start the command", std::io::ErrorKind::Other.into()).into())
        })?;
        Ok(Child {
            group,
            events,
            signals,
            terminal,
            wants_terminal: foreground,
            progress: Progress::Running,
        })
    }

    /// To tell until when the command may run: it is killed then with its group, also if this
    /// process is stopped.
    ///
    /// # Errors
    /// If the system is out of descriptors.
    pub fn deadline(&self) -> Result<Option<Deadline>, Error> {
        self.group
            .deadline()
            .map_err(|source| Error::new("reach the watchdog", source))
    }

    /// Waits for the command to end. Once it has, every further call answers the same.
    ///
    /// `may_continue` is asked before a command that had been stopped (Ctrl-Z, which stops us as
    /// well) is continued: the lock may have been lost meanwhile. If it says no, the command stays
    /// stopped, for [`Child::stop`] to end it.
    ///
    /// # Errors
    /// If the kernel denies us the command's status, which it has no reason to.
    ///
    /// # Cancel safety
    /// May be dropped and called again at will; no event is lost.
    pub async fn wait(&mut self, may_continue: impl Fn() -> bool) -> Result<Ended, Error> {
        loop {
            match self.progress {
                Progress::Reaped(ended) => return Ok(ended),
                Progress::Zombie => return self.reap(),
                Progress::Running | Progress::Stopped => {}
            }
            tokio::select! {
                event = self.events.recv() => match known(event)? {
                    Event::Ended => self.progress = Progress::Zombie,
                    Event::Stopped(signal) => self.stopped(signal),
                },
                signal = self.signals.recv() => match signal.raw() {
                    Raw::CONT => self.continued(&may_continue),
                    other => self.pass_on(other),
                },
            }
        }
    }

    /// Ends the command and all processes of its group: with `term_first` they get TERM (and CONT,
    /// in case they are stopped) and up to `kill_after` to end; then, or else at once, KILL. The
    /// time counts through suspend.
    ///
    /// Answers once the command has ended and, as far as it is in our power, its whole group.
    ///
    /// # Errors
    /// If the command cannot be killed because it runs as another user. It runs on then.
    ///
    /// # Cancel safety
    /// Dropped, it stops waiting, and signals that have been sent stay sent; call it again to go
    /// on.
    pub async fn stop(&mut self, term_first: bool, kill_after: Duration) -> Result<Ended, Error> {
        if let Progress::Reaped(ended) = self.progress {
            return Ok(ended);
        }
        let clock = Clock::system();
        if term_first {
            self.pass_on(Raw::TERM);
            self.pass_on(Raw::CONT);
            let kill_at = clock.now() + kill_after;
            while self.has_processes() && clock.now() < kill_at {
                self.observe(kill_at.saturating_since(clock.now())).await?;
            }
        }
        if self.has_processes() {
            self.group
                .kill()
                .map_err(|source| Error::new("kill the command", source))?;
            while self.progress != Progress::Zombie {
                self.observe(LONGEST_SLEEP).await?;
            }
            let give_up = clock.now() + KILLED_LIMIT;
            while self.has_processes() && clock.now() < give_up {
                self.observe(GROUP_POLL).await?;
            }
        }
        self.reap()
    }

    /// Waits until the group may have changed, `limit` at the longest. A stop is no longer
    /// followed: what is being ended may stop, but takes neither us nor the terminal along.
    async fn observe(&mut self, limit: Duration) -> Result<(), Error> {
        let zombie = self.progress == Progress::Zombie;
        let pause = limit.min(if zombie { GROUP_POLL } else { LONGEST_SLEEP });
        tokio::select! {
            event = self.events.recv(), if !zombie => {
                if known(event)? == Event::Ended {
                    self.progress = Progress::Zombie;
                }
            }
            signal = self.signals.recv() => {
                if signal.raw() != Raw::TSTP {
                    self.pass_on(signal.raw());
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
        Ok(())
    }

    fn has_processes(&self) -> bool {
        self.progress != Progress::Zombie || proc::group_is_alive(self.group.id())
    }

    /// To all of the group. A process that may not be signalled runs as another user: as after
    /// `kill`, there is nothing to be done about it.
    fn pass_on(&self, signal: Raw) {
        let _ = self.group.signal(signal);
    }

    /// The command was stopped: by Ctrl-Z, by using the terminal from the background, or by
    /// somebody's `kill`.
    fn stopped(&mut self, signal: i32) {
        self.progress = Progress::Stopped;
        let Some(terminal) = &self.terminal else {
            return;
        };
        let group = self.group.id();
        let asks_for_terminal = signal == Raw::TTIN.as_raw() || signal == Raw::TTOU.as_raw();
        if asks_for_terminal && terminal.give(group) {
            self.wants_terminal = true;
            self.progress = Progress::Running;
            self.pass_on(Raw::CONT);
            return;
        }
        let foreground = terminal.is_of(group);
        self.wants_terminal |= foreground || asks_for_terminal;
        if !proc::parent_controls_jobs() {
            // Nobody could bring us back. The kernel would not have let Ctrl-Z stop the command if
            // it were in our place.
            if foreground && signal == Raw::TSTP.as_raw() {
                self.progress = Progress::Running;
                self.pass_on(Raw::CONT);
            }
        } else if (foreground || signal != Raw::STOP.as_raw()) && proc::is_stopped(group) {
            // A STOP in the background is an operator's: we go on and keep the lock.
            terminal.take_back(group);
            signals::suspend(foreground);
        }
    }

    /// Somebody continues us: the shell's `fg` or `bg`, or a `kill -CONT`.
    fn continued(&mut self, may_continue: &impl Fn() -> bool) {
        if self.progress == Progress::Stopped && !may_continue() {
            return;
        }
        if let Some(terminal) = &self.terminal
            && self.wants_terminal
        {
            terminal.give(self.group.id());
        }
        self.progress = Progress::Running;
        self.pass_on(Raw::CONT);
    }

    /// The order matters: the group's id is ours until the command is reaped, and nobody may act on
    /// it afterwards.
    fn reap(&mut self) -> Result<Ended, Error> {
        if let Some(terminal) = &self.terminal {
            terminal.take_back(self.group.id());
        }
        let ended = self
            .group
            .reap()
            .map_err(|source| Error::new("learn how the command ended", source))?;
        self.progress = Progress::Reaped(ended);
        Ok(ended)
    }
}

fn known(event: Option<Event>) -> Result<Event, Error> {
    event.ok_or_else(|| Error::new("follow the command", std::io::ErrorKind::BrokenPipe.into()))
}

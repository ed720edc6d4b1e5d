//! The signals that come in for this process.
//!
//! They are blocked, and read from a descriptor that tells who sent them: what the terminal sends
//! goes to its whole foreground group, the command included, and must not be passed on to it once
//! more. Their dispositions stay as they were, so that a signal can end this process as it would
//! have ended any other.

use std::process::ExitCode;

use nix::sys::signal::{SigSet, SigmaskHow, Signal as Posix, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{
    Resource, Rlimit, Signal as Raw, getpid, getrlimit, kill_process, setrlimit,
};
use tokio::net::unix::pipe;
use tokio::signal::unix::{self, SignalKind};

use super::error::Error;
use super::proc::{self, SignalMask};

/// What is caught.
const CAUGHT: [Raw; 9] = [
    Raw::TERM,
    Raw::INT,
    Raw::QUIT,
    Raw::HUP,
    Raw::USR1,
    Raw::USR2,
    Raw::WINCH,
    Raw::TSTP,
    Raw::CONT,
];

/// Of a signal that the kernel sent, the terminal's keys for example (`SI_KERNEL`).
const BY_KERNEL: i32 = 0x80;

/// The size of what the kernel tells of a signal.
const INFO: usize = 128;

/// A signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(Raw);

impl Signal {
    /// The exit status of a process that it ended, as a shell shows it: 128 + its number.
    pub fn status(self) -> u8 {
        // There are 64 at most.
        128 + self.0.as_raw() as u8
    }

    /// Whether people mean all that runs at their terminal by it.
    pub fn is_a_terminals(self) -> bool {
        matches!(self.0, Raw::INT | Raw::QUIT | Raw::HUP)
    }

    pub(super) fn of(raw: i32) -> Option<Self> {
        CAUGHT
            .into_iter()
            .find(|signal| signal.as_raw() == raw)
            .map(Signal)
    }

    /// Ends this process by this signal, as if it had never been caught: a shell that waits for us
    /// ends its script at Ctrl-C if we do, and goes on if we just exit. Answers the exit status for
    /// when that cannot be: the first process of a container is ended by no signal.
    pub fn end_this_process(self) -> ExitCode {
        // A second core, of ours, would be of no use to anybody.
        let core = getrlimit(Resource::Core);
        let none = Rlimit {
            current: Some(0),
            ..core
        };
        let _ = setrlimit(Resource::Core, none);
        // All other threads block it, so it is taken before the call returns.
        let _ = set(self.0).thread_unblock();
        let _ = kill_process(getpid(), self.0);
        ExitCode::from(self.status())
    }
}

/// Who sent a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// The terminal, to the whole foreground group.
    Kernel,
    /// A process, by its id.
    Process(i32),
}

/// A signal that has come in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub signal: Raw,
    pub sender: Sender,
}

/// Blocks all signals for this thread, and answers which ones were blocked before.
pub(super) fn block_all() -> SigSet {
    let all = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
    // A valid set cannot be refused.
    all.unwrap_or_else(|_| SigSet::empty())
}

/// Lets all signals come in for this thread: who has started this process may have blocked some.
pub fn unblock_all() {
    // A valid set cannot be refused.
    let _ = SigSet::all().thread_unblock();
}

/// Blocks what [`Signals`] is to catch, for this thread and those that it starts: for a program that
/// starts threads before there is a runtime to catch signals in.
#[cfg(feature = "bench")]
pub fn block_caught() {
    // A valid set cannot be refused.
    let _ = signals_to_catch(proc::ignored_signals()).thread_block();
}

/// The signals to be caught, by one that was started to ignore these.
fn signals_to_catch(ignored: SignalMask) -> SigSet {
    let mut caught = SigSet::empty();
    for signal in CAUGHT {
        // One that is blocked comes in although it is ignored. We must learn that we are continued,
        // whatever others want.
        if signal == Raw::CONT || !ignored.contains(signal.as_raw()) {
            caught.add(posix(signal));
        }
    }
    caught
}

/// The signals that are meant for the command or for our own end, caught from the moment this is
/// made. A signal that this process was started to ignore (by `nohup`, or in the background of a
/// script) stays ignored, by us and by the command.
#[derive(Debug)]
pub struct Signals {
    arrivals: pipe::Receiver,
    /// What was blocked before.
    before: SigSet,
    /// Whoever started us may have had SIGCHLD ignored, and the kernel would throw the command's
    /// status away.
    _child: Option<unix::Signal>,
}

impl Signals {
    /// Starts to catch them. They stay caught until the process ends, also when this is dropped.
    ///
    /// Only threads that are started afterwards leave the signals to this: call it first.
    ///
    /// # Errors
    /// If the kernel refuses.
    ///
    /// # Panics
    /// Outside a tokio runtime that has I/O enabled.
    pub fn install() -> Result<Self, Error> {
        let refused = |source| Error::new("catch signals", source);
        let ignored = proc::ignored_signals();
        let caught = signals_to_catch(ignored);
        let before = caught.thread_swap_mask(SigmaskHow::SIG_BLOCK);
        let before = before.map_err(|errno| refused(errno.into()))?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let arrivals = SignalFd::with_flags(&caught, flags);
        let arrivals = arrivals.map_err(|errno| refused(errno.into()))?;
        // No pipe, but waited for and read in the same way.
        let arrivals = pipe::Receiver::from_owned_fd_unchecked(arrivals.into()).map_err(refused)?;
        let child = ignored
            .contains(Raw::CHILD.as_raw())
            .then(|| unix::signal(SignalKind::child()));
        Ok(Signals {
            arrivals,
            before,
            _child: child.transpose().map_err(refused)?,
        })
    }

    /// The next signal that would have ended us, were it not caught. Ctrl-Z stops us as usual
    /// meanwhile.
    ///
    /// # Cancel safety
    /// May be dropped and called again at will; no signal is lost.
    pub async fn deadly(&mut self) -> Signal {
        loop {
            let signal = self.recv().await.signal;
            match signal {
                Raw::WINCH | Raw::CONT => {}
                Raw::TSTP => suspend(),
                _ => return Signal(signal),
            }
        }
    }

    /// The next signal. Cancel safe.
    pub(super) async fn recv(&mut self) -> Arrival {
        loop {
            if self.arrivals.readable().await.is_err() {
                // The runtime is shutting down, and we with it.
                return std::future::pending().await;
            }
            if let Some(arrival) = self.pending() {
                return arrival;
            }
        }
    }

    /// Returns what was blocked when this process was started.
    pub fn initial_mask(&self) -> InitialMask {
        InitialMask(self.before)
    }

    /// A signal that has come in already.
    pub(super) fn pending(&mut self) -> Option<Arrival> {
        let mut info = [0; INFO];
        match self.arrivals.try_read(&mut info) {
            Ok(INFO) => parse(&info),
            _ => None,
        }
    }
}

/// The signals that were blocked when this process was started.
#[derive(Debug, Clone, Copy)]
pub struct InitialMask(SigSet);

impl InitialMask {
    /// Starts a process with the signals as they were.
    pub(super) fn start<T>(self, start: impl FnOnce() -> T) -> T {
        let caught = self.0.thread_swap_mask(SigmaskHow::SIG_SETMASK);
        let started = start();
        if let Ok(caught) = caught {
            let _ = caught.thread_set_mask();
        }
        started
    }
}

/// What the kernel tells of a signal (`struct signalfd_siginfo`): its number, an error number, how
/// it was sent, by which process, and more.
fn parse(info: &[u8; INFO]) -> Option<Arrival> {
    let field = |at| Some(i32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?));
    let (number, code, process) = (field(0)?, field(8)?, field(12)?);
    let sender = match code {
        BY_KERNEL => Sender::Kernel,
        _ => Sender::Process(process),
    };
    let signal = CAUGHT
        .into_iter()
        .find(|signal| signal.as_raw() == number)?;
    Some(Arrival { signal, sender })
}

/// Stops this process as Ctrl-Z would have, until somebody continues it. Does nothing where nobody
/// could: the kernel lets no orphaned group be stopped that way.
pub(super) fn suspend() {
    let stop = set(Raw::TSTP);
    let _ = stop.thread_unblock();
    let _ = raise(posix(Raw::TSTP));
    let _ = stop.thread_block();
}

/// Does what writes to the terminal, which must not stop us if we are in the background and the user
/// has forbidden that (`stty tostop`): there is a command to be stopped, and the time is short.
pub fn without_tty_stop<T>(write: impl FnOnce() -> T) -> T {
    let mut objection = SigSet::empty();
    objection.add(Posix::SIGTTOU);
    let before = objection.thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let written = write();
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    written
}

fn set(signal: Raw) -> SigSet {
    SigSet::from(posix(signal))
}

/// The same signal in the other library's words.
fn posix(signal: Raw) -> Posix {
    Posix::try_from(signal.as_raw()).expect("both name all signals of POSIX")
}

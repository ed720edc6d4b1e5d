//! Catches the signals to this process.
//!
//! They are blocked, and read from a descriptor that reports the sender. The terminal sends its
//! signals to the whole foreground group, which includes the command, so they must not be passed on
//! to it once more. The dispositions of the signals do not change, so that a signal can end this
//! process as it would have ended any other.

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

/// The signals that are caught.
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

/// The code of a signal that the kernel sent, such as those of the terminal's keys (`SI_KERNEL`).
const BY_KERNEL: i32 = 0x80;

/// The size of the kernel's record of a signal.
const INFO: usize = 128;

/// A signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(Raw);

impl Signal {
    /// Returns the exit status of a process that the signal ended, as a shell shows it: 128 + its
    /// number.
    pub fn status(self) -> u8 {
        // The highest number is 64.
        128 + self.0.as_raw() as u8
    }

    /// Returns whether a terminal sends this signal to everything that runs in it.
    pub fn is_from_terminal(self) -> bool {
        matches!(self.0, Raw::INT | Raw::QUIT | Raw::HUP)
    }

    pub(super) fn of(raw: i32) -> Option<Self> {
        CAUGHT
            .into_iter()
            .find(|signal| signal.as_raw() == raw)
            .map(Signal)
    }

    /// Ends this process by this signal, as if it had never been caught. A shell that waits for
    /// this process ends its script at Ctrl-C only if a signal ended the process. Returns the exit
    /// status for the case that this fails: no signal ends the first process of a container.
    pub fn end_this_process(self) -> ExitCode {
        // A core file of this process, beside that of the command, would be of no use.
        let core = getrlimit(Resource::Core);
        let none = Rlimit {
            current: Some(0),
            ..core
        };
        let _ = setrlimit(Resource::Core, none);
        // All other threads block the signal, so this thread takes it before the call returns.
        let _ = to_set(self.0).thread_unblock();
        let _ = kill_process(getpid(), self.0);
        ExitCode::from(self.status())
    }
}

/// The sender of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// The terminal, to the whole foreground group.
    Kernel,
    /// A process, by its id.
    Process(i32),
}

/// A signal that has arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub signal: Raw,
    pub sender: Sender,
}

/// Blocks all signals for this thread. Returns the mask from before.
pub(super) fn block_all() -> SigSet {
    let all = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
    // A valid set is never refused.
    all.unwrap_or_else(|_| SigSet::empty())
}

/// Calls this with all signals blocked, so that a thread which it starts takes none.
#[cfg(feature = "otel")]
pub fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    let before = block_all();
    let started = start();
    // A valid set is never refused.
    let _ = before.thread_set_mask();
    started
}

/// Unblocks all signals for this thread: the parent of this process may have blocked some.
pub fn unblock_all() {
    // A valid set is never refused.
    let _ = SigSet::all().thread_unblock();
}

/// Blocks the signals that [`Signals`] catches, for this thread and those that it starts. A program
/// that starts threads before the runtime calls this first.
#[cfg(feature = "bench")]
pub fn block_signals_to_catch() {
    // A valid set is never refused.
    let _ = signals_to_catch(proc::read_ignored_signals()).thread_block();
}

/// Returns the signals to catch in a process that was started to ignore these.
fn signals_to_catch(ignored: SignalMask) -> SigSet {
    let mut caught = SigSet::empty();
    for signal in CAUGHT {
        // A blocked signal arrives even if it is ignored. CONT always has to be noticed.
        if signal == Raw::CONT || !ignored.contains(signal.as_raw()) {
            caught.add(to_posix(signal));
        }
    }
    caught
}

/// The signals for the command or for the end of this process, caught from the moment that this is
/// installed. A signal that this process was started to ignore (by `nohup`, or in the background of
/// a script) stays ignored, by this process and by the command.
#[derive(Debug)]
pub struct Signals {
    arrivals: pipe::Receiver,
    /// The mask from before.
    before: SigSet,
    /// Caught if the parent of this process had SIGCHLD ignored: the kernel would throw the
    /// command's status away.
    _child: Option<unix::Signal>,
}

impl Signals {
    /// Starts to catch the signals. They stay caught until the process ends, even if this is
    /// dropped.
    ///
    /// Call it before any thread is started: threads that exist already do not block the signals.
    ///
    /// # Errors
    /// The kernel refuses a descriptor.
    ///
    /// # Panics
    /// Outside a tokio runtime that has I/O enabled.
    pub fn install() -> Result<Self, Error> {
        let to_error = |source| Error::new("catch signals", source);
        let ignored = proc::read_ignored_signals();
        let caught = signals_to_catch(ignored);
        let before = caught.thread_swap_mask(SigmaskHow::SIG_BLOCK);
        let before = before.map_err(|errno| to_error(errno.into()))?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let arrivals = SignalFd::with_flags(&caught, flags);
        let arrivals = arrivals.map_err(|errno| to_error(errno.into()))?;
        // It is not a pipe, but it is waited for and read in the same way.
        let arrivals =
            pipe::Receiver::from_owned_fd_unchecked(arrivals.into()).map_err(to_error)?;
        let child = ignored
            .contains(Raw::CHILD.as_raw())
            .then(|| unix::signal(SignalKind::child()));
        Ok(Signals {
            arrivals,
            before,
            _child: child.transpose().map_err(to_error)?,
        })
    }

    /// Waits for the next signal that would have ended this process if it were not caught. Ctrl-Z
    /// stops the process as usual meanwhile.
    ///
    /// # Cancel safety
    /// It may be dropped and called again; no signal is lost.
    pub async fn wait_for_deadly(&mut self) -> Signal {
        loop {
            let signal = self.recv().await.signal;
            match signal {
                Raw::WINCH | Raw::CONT => {}
                Raw::TSTP => suspend(),
                _ => return Signal(signal),
            }
        }
    }

    /// Waits for the next signal.
    ///
    /// # Cancel safety
    /// It may be dropped and called again; no signal is lost.
    pub(super) async fn recv(&mut self) -> Arrival {
        loop {
            if self.arrivals.readable().await.is_err() {
                // The runtime is shutting down, and this process with it.
                return std::future::pending().await;
            }
            if let Some(arrival) = self.try_recv() {
                return arrival;
            }
        }
    }

    /// Returns the signals that were blocked when this process was started.
    pub fn initial_mask(&self) -> InitialMask {
        InitialMask(self.before)
    }

    /// Returns a signal that has arrived already, if there is one.
    pub(super) fn try_recv(&mut self) -> Option<Arrival> {
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
    /// Runs `start` with this mask, so that a process that it starts inherits the mask.
    pub(super) fn restore_during<T>(self, start: impl FnOnce() -> T) -> T {
        let caught = self.0.thread_swap_mask(SigmaskHow::SIG_SETMASK);
        let started = start();
        if let Ok(caught) = caught {
            let _ = caught.thread_set_mask();
        }
        started
    }
}

/// Parses the kernel's record of a signal (`struct signalfd_siginfo`): its number, an error number,
/// how it was sent, by which process, and more.
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

/// Stops this process as Ctrl-Z would, until it is continued. Does nothing in an orphaned process
/// group, which the kernel does not stop that way.
pub(super) fn suspend() {
    let stop = to_set(Raw::TSTP);
    let _ = stop.thread_unblock();
    let _ = raise(to_posix(Raw::TSTP));
    let _ = stop.thread_block();
}

/// Runs `write`, which writes to the terminal, without being stopped for that. With `stty tostop` a
/// write from the background stops a process, but this one may have to stop its command soon.
pub fn without_tty_stop<T>(write: impl FnOnce() -> T) -> T {
    let mut stop_signal = SigSet::empty();
    stop_signal.add(Posix::SIGTTOU);
    let before = stop_signal.thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let written = write();
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    written
}

fn to_set(signal: Raw) -> SigSet {
    SigSet::from(to_posix(signal))
}

/// Converts the signal to the type of the other library.
fn to_posix(signal: Raw) -> Posix {
    Posix::try_from(signal.as_raw()).expect("both name all signals of POSIX")
}

//! The signals that come in for this process.

use std::future::poll_fn;
use std::task::Poll;

use rustix::process::{Signal as Raw, getpid, kill_current_process_group, kill_process};
use tokio::signal::unix::{self, SignalKind};

use super::error::Error;
use super::proc;

/// What is passed on to the command, in the order in which signals that came together are: a CONT
/// last, so that it finds a stopped command with the others pending.
const PASSED_ON: [Raw; 9] = [
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

/// A signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(Raw);

impl Signal {
    /// The exit status of a process that it ended, as a shell shows it: 128 + its number.
    pub fn status(self) -> u8 {
        // There are 64 at most.
        128 + self.0.as_raw() as u8
    }

    pub(super) fn raw(self) -> Raw {
        self.0
    }
}

/// The signals that are passed on to a command, caught from the moment this is made. A signal that
/// this process was started to ignore (by `nohup`, or in the background of a script) stays ignored,
/// by us and by the command.
#[derive(Debug)]
pub struct Signals {
    streams: Vec<(Signal, unix::Signal)>,
    /// Whoever started us may have had SIGCHLD ignored, and the kernel would throw the command's
    /// status away.
    _child: unix::Signal,
}

impl Signals {
    /// Starts to catch them. They stay caught until the process ends, also when this is dropped.
    ///
    /// # Errors
    /// If the kernel refuses.
    ///
    /// # Panics
    /// Outside a tokio runtime that has I/O enabled.
    pub fn install() -> Result<Self, Error> {
        let ignored = proc::ignored_signals();
        let catch = |signal: Raw| {
            unix::signal(SignalKind::from_raw(signal.as_raw()))
                .map_err(|source| Error::new("catch signals", source))
        };
        let mut streams = Vec::with_capacity(PASSED_ON.len());
        for signal in PASSED_ON {
            // We must learn that we are continued, whatever others want.
            if signal == Raw::CONT || !ignored.contains(signal) {
                streams.push((Signal(signal), catch(signal)?));
            }
        }
        Ok(Signals {
            streams,
            _child: catch(Raw::CHILD)?,
        })
    }

    /// The next signal that would have ended us, were it not caught. Ctrl-Z stops us as usual
    /// meanwhile.
    ///
    /// # Cancel safety
    /// May be dropped and called again at will; no signal is lost.
    pub async fn deadly(&mut self) -> Signal {
        loop {
            let signal = self.recv().await;
            match signal.raw() {
                Raw::WINCH | Raw::CONT => {}
                Raw::TSTP if proc::parent_controls_jobs() => suspend(false),
                Raw::TSTP => {}
                _ => return signal,
            }
        }
    }

    /// The next signal. Cancel safe.
    pub(super) async fn recv(&mut self) -> Signal {
        poll_fn(|cx| {
            for (signal, stream) in &mut self.streams {
                // A stream never ends.
                if stream.poll_recv(cx).is_ready() {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Stops this process, or its whole group, until somebody continues it. Not by TSTP: that is
/// caught.
///
/// The group stops as a whole when the command had the terminal, because Ctrl-Z then reached only
/// the command: the shell waits for all of the job, for instance for the script that we are a line
/// of.
pub(super) fn suspend(whole_group: bool) {
    // One may always signal oneself.
    let _ = if whole_group {
        kill_current_process_group(Raw::STOP)
    } else {
        kill_process(getpid(), Raw::STOP)
    };
}

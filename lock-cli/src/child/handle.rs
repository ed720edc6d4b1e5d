//! Implements the supervisor's side of the watchdog: starts it, sends it orders, and receives its
//! reports.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{self, Command, Stdio};
use std::sync::Arc;

use rustix::net::{SendFlags, send};
use tokio::io::AsyncWriteExt;
use turnlock::clock::BootInstant;

use super::error::Error;
use super::family;
use super::helper::{WATCHDOG, this_program};
use super::proc;
use super::signals::InitialMask;
use super::wire::{self, MESSAGE, Order, Report, Start};

/// A watchdog process that does not guard anything yet. It ends by itself when this is dropped.
#[derive(Debug)]
pub struct Watchdog {
    process: process::Child,
    line: UnixStream,
}

impl Watchdog {
    /// Starts the process, and makes this process the parent of all that the watchdog would leave
    /// behind if it were killed.
    ///
    /// The watchdog takes a moment to come up, and costs a waiting process little. So it is best
    /// started before the command may run.
    ///
    /// # Errors
    /// The system is out of processes or descriptors, or has no /proc, without which the processes
    /// that the command starts cannot be seen.
    pub fn start(signals: InitialMask) -> Result<Self, Error> {
        if !proc::is_usable() {
            return Err(Error::new(
                "see the processes that a command starts",
                io::Error::new(
                    io::ErrorKind::Unsupported,
                    "/proc is not mounted, or is that of other processes",
                ),
            ));
        }
        let to_error = |source| Error::new("start the watchdog process", source);
        family::adopt_orphans().map_err(to_error)?;
        let (line, theirs) = UnixStream::pair().map_err(to_error)?;
        let process = this_program().and_then(|program| {
            let mut watchdog = Command::new(program);
            watchdog
                .arg(WATCHDOG)
                .stdin(OwnedFd::from(theirs))
                // A reader of this process's output should not have to wait for the watchdog.
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            // Signals to the group of this process are not meant for the watchdog, least of all a
            // KILL. A group without a number cannot be joined again by the command, so the watchdog
            // stays in it.
            if proc::group_of(None) != proc::UNSEEN {
                watchdog.process_group(0);
            }
            signals.restore_during(|| watchdog.spawn())
        });
        Ok(Watchdog {
            process: process.map_err(to_error)?,
            line,
        })
    }

    /// Makes the watchdog start the command, with the standard streams of this process.
    pub(super) async fn guard(self, start: &Start) -> Result<Handle, Error> {
        let failed = |source| Error::new("talk to the watchdog process", source);
        let Watchdog { process, line } = self;
        let streams = [
            rustix::stdio::stdin(),
            rustix::stdio::stdout(),
            rustix::stdio::stderr(),
        ];
        wire::send_streams(&line, streams).map_err(failed)?;
        line.set_nonblocking(true).map_err(failed)?;
        let orders = Arc::new(line.try_clone().map_err(failed)?);
        let mut reports = tokio::net::UnixStream::from_std(line).map_err(failed)?;
        reports.write_all(&start.encode()).await.map_err(failed)?;
        Ok(Handle {
            process,
            orders,
            reports,
            buffer: [0; MESSAGE],
            filled: 0,
        })
    }
}

/// A watchdog that guards the command. When this is dropped, the watchdog takes this process for
/// dead, and ends the command.
#[derive(Debug)]
pub(super) struct Handle {
    process: process::Child,
    orders: Arc<UnixStream>,
    reports: tokio::net::UnixStream,
    buffer: [u8; MESSAGE],
    filled: usize,
}

impl Handle {
    /// Sends an order, without waiting for a watchdog that is stopped.
    pub fn order(&self, order: Order) {
        send_order(&self.orders, order);
    }

    /// Waits for the next report. Returns `None` if the watchdog is gone.
    ///
    /// # Cancel safety
    /// It may be dropped and called again; no report is lost.
    pub async fn report(&mut self) -> Option<Report> {
        loop {
            if self.filled == MESSAGE {
                self.filled = 0;
                return Report::decode(self.buffer);
            }
            self.reports.readable().await.ok()?;
            match self.reports.try_read(&mut self.buffer[self.filled..]) {
                Ok(0) => return None,
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }

    pub fn deadline(&self) -> Deadline {
        Deadline(self.orders.clone())
    }

    /// Ends the watchdog, and nothing else. This works even if the watchdog is stopped.
    pub fn dismiss(&mut self) {
        self.kill();
        // This cannot fail: the child has not been reaped yet.
        let _ = self.process.wait();
    }

    /// Ends the watchdog without waiting for that. Call [`dismiss`](Self::dismiss) later.
    pub fn kill(&mut self) {
        // This cannot fail: the child has not been reaped yet.
        let _ = self.process.kill();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // This also closes the line of every `Deadline`.
        let _ = self.orders.shutdown(std::net::Shutdown::Both);
    }
}

/// Moves the deadline of the command.
#[derive(Debug)]
pub struct Deadline(Arc<UnixStream>);

impl Deadline {
    /// Makes the watchdog kill the command and all that it started at this instant, unless it is
    /// moved on before. It does not block: a watchdog that does not read is stopped or gone, and
    /// does not kill either.
    pub fn set(&self, at: BootInstant) {
        send_order(&self.0, Order::Deadline(at));
    }
}

fn send_order(line: &UnixStream, order: Order) {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let _ = send(line, &order.encode(), flags);
}

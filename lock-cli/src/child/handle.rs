//! The supervisor's end of the line to the watchdog.

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

/// A watchdog process that guards nothing yet. It ends by itself when this is dropped.
#[derive(Debug)]
pub struct Watchdog {
    process: process::Child,
    line: UnixStream,
}

impl Watchdog {
    /// Starts the process, and makes this one the parent of all that it might leave behind, should
    /// somebody kill it.
    ///
    /// It takes a moment to come up, and costs a waiting process little: so it is best started
    /// before the command may run.
    ///
    /// # Errors
    /// If the system is out of processes or descriptors, or has no /proc, without which nothing
    /// would be seen of what the command starts.
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
        let refused = |source| Error::new("start the watchdog process", source);
        family::adopt_orphans().map_err(refused)?;
        let (line, theirs) = UnixStream::pair().map_err(refused)?;
        let process = this_program().and_then(|program| {
            let mut watchdog = Command::new(program);
            watchdog
                .arg(WATCHDOG)
                .stdin(OwnedFd::from(theirs))
                // Whoever reads our output must not have to wait for the watchdog.
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            // What is sent to our group is not meant for it, and a KILL least of all. A group without
            // a number cannot be joined again by the command, so there it stays inside.
            if proc::group_of(None) != proc::UNSEEN {
                watchdog.process_group(0);
            }
            signals.start(|| watchdog.spawn())
        });
        Ok(Watchdog {
            process: process.map_err(refused)?,
            line,
        })
    }

    /// Has it start the command, with our own standard streams.
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

/// A watchdog that guards the command. Dropped, it takes us for dead, and ends the command.
#[derive(Debug)]
pub(super) struct Handle {
    process: process::Child,
    orders: Arc<UnixStream>,
    reports: tokio::net::UnixStream,
    buffer: [u8; MESSAGE],
    filled: usize,
}

impl Handle {
    /// Does not wait for a watchdog that is stopped.
    pub fn order(&self, order: Order) {
        tell(&self.orders, order);
    }

    /// What it tells next; `None` if it is gone. Cancel safe.
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

    /// Ends the watchdog, and nothing else. Needs no answer from it, so it works if it is stopped.
    pub fn dismiss(&mut self) {
        self.kill();
        // Our own child, not reaped yet: this cannot fail.
        let _ = self.process.wait();
    }

    /// Ends the watchdog, and does not wait for that. It is [dismissed](Self::dismiss) later.
    pub fn kill(&mut self) {
        // Our own child, not reaped yet: this cannot fail.
        let _ = self.process.kill();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Also for those who hold a deadline.
        let _ = self.orders.shutdown(std::net::Shutdown::Both);
    }
}

/// Tells the watchdog until when the command may run.
#[derive(Debug)]
pub struct Deadline(Arc<UnixStream>);

impl Deadline {
    /// The command and all that it started are killed at this instant, unless it is moved on before.
    /// Does not block: a watchdog that does not listen is stopped, or gone, and will not kill
    /// anybody either.
    pub fn set(&self, at: BootInstant) {
        tell(&self.0, Order::Deadline(at));
    }
}

fn tell(line: &UnixStream, order: Order) {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let _ = send(line, &order.encode(), flags);
}

//! The folder watchdog: a thread that checks whether the folder is still the one at its path.
//!
//! If it is not, a newcomer finds another folder at the path and starts another coordinator on it.
//! So this coordinator stops and has everyone who relies on it notified. Only then does it let the
//! newcomer continue.

use std::convert::Infallible;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::sleep;
use std::time::Duration;

use super::shared::Shared;
use crate::error::Error;
use crate::store::Folder;

/// The time between two checks without a query. The folder is also checked before each commit is
/// answered.
const TICK: Duration = Duration::from_millis(250);
/// How long it may take to notify everyone who relies on the coordinator.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(3);
/// The time that notified holders then have to act, for example to kill a command.
const REACTION_TIME: Duration = Duration::from_millis(250);

/// What the rest of the coordinator holds of its watchdog.
#[derive(Debug)]
pub(super) struct WatchdogHandle {
    #[cfg(feature = "server")]
    pub(super) folder: Arc<Folder>,
    /// Wakes the watchdog when it is dropped.
    _wake: UnixStream,
    guards: Sender<Infallible>,
}

/// Held by a task that must report the coordinator's end to others, and dropped when it has done
/// so. The watchdog waits for all guards.
#[derive(Debug)]
pub(crate) struct ShutdownGuard {
    _pending: Option<Sender<Infallible>>,
}

impl ShutdownGuard {
    pub(super) fn new(watchdog: Option<&WatchdogHandle>) -> Self {
        ShutdownGuard {
            _pending: watchdog.map(|watchdog| watchdog.guards.clone()),
        }
    }
}

#[derive(Debug)]
pub(super) struct FolderWatchdog {
    shared: Arc<Shared>,
    folder: Arc<Folder>,
    wake: UnixStream,
    guards: Receiver<Infallible>,
}

impl FolderWatchdog {
    pub(super) fn new(shared: Arc<Shared>, folder: Arc<Folder>) -> std::io::Result<FolderWatchdog> {
        let (wake, wake_end) = UnixStream::pair()?;
        let (sender, guards) = channel();
        shared.set_watchdog(WatchdogHandle {
            #[cfg(feature = "server")]
            folder: Arc::clone(&folder),
            _wake: wake,
            guards: sender,
        });
        Ok(FolderWatchdog {
            shared,
            folder,
            wake: wake_end,
            guards,
        })
    }

    /// Runs until the coordinator has stopped.
    #[expect(clippy::disallowed_methods, reason = "a simulated store has no folder")]
    pub(super) fn run(self) {
        while !self.shared.state().is_over() {
            if let Err(error) = self.folder.check_and_reply() {
                tracing::error!(%error, "the folder is no longer in its place");
                self.shared.stop(&error);
            } else {
                self.folder.wait(&self.wake, TICK);
            }
        }
        // The coordinator may have stopped before there was a watchdog.
        self.shared.stop_watchdog();
        // Found by this thread or by the committer. Otherwise the next coordinator continues with
        // this store, and nobody has to be notified.
        if let Some(Error::Displaced { .. }) = self.shared.failure() {
            // Both results are errors: all guards are dropped, or the time is over.
            let _ = self.guards.recv_timeout(NOTIFY_TIMEOUT);
            if *self.shared.live_leases().borrow() > 0 {
                sleep(REACTION_TIME);
            }
        }
        // The folder is dropped here, by its last owner. Its names are free from now on.
    }
}

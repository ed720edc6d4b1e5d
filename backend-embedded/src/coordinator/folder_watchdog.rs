//! The keeper: the thread that sees to it that the folder is still the one at its path.
//!
//! Who comes to the path later finds another folder there, and starts another coordinator on it. So
//! this one stops, has everybody told who rests on it, and lets that other one go on only then.

use std::convert::Infallible;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::sleep;
use std::time::Duration;

use super::shared::Shared;
use crate::error::Error;
use crate::store::Folder;

/// How often it is looked for where nobody else has asked. Before each commit is answered it is
/// looked for, too.
const TICK: Duration = Duration::from_millis(250);
/// How long it may take to tell those who rest on a coordinator that it has stopped.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(3);
/// What they have then to act on it: to kill a command, say.
const REACTION_TIME: Duration = Duration::from_millis(250);

/// What the rest of the coordinator has of its keeper.
#[derive(Debug)]
pub(super) struct WatchdogHandle {
    #[cfg(feature = "server")]
    pub(super) folder: Arc<Folder>,
    /// Wakes the keeper when it is dropped.
    _wake: UnixStream,
    guards: Sender<Infallible>,
}

/// Has to tell somebody of the coordinator's end, and is dropped when that is done.
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

    /// Runs until the coordinator is over.
    pub(super) fn run(self) {
        while !self.shared.state().is_over() {
            if let Err(error) = self.folder.check_and_reply() {
                tracing::error!(%error, "the folder is gone");
                self.shared.stop(&error);
            } else {
                self.folder.wait(&self.wake, TICK);
            }
        }
        // It may have been over before there was a keeper.
        self.shared.stop_watchdog();
        // Found here, or by the committer. Otherwise whoever comes next goes on with this store.
        if let Some(Error::Displaced { .. }) = self.shared.failure() {
            // An error either way: all have been told, or there was no time.
            let _ = self.guards.recv_timeout(NOTIFY_TIMEOUT);
            if *self.shared.live_leases().borrow() > 0 {
                sleep(REACTION_TIME);
            }
        }
        // The last to have the folder: its names are free from here on.
    }
}

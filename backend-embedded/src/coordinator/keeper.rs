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
const FAREWELL: Duration = Duration::from_secs(3);
/// What they have then to act on it: to kill a command, say.
const REACTION: Duration = Duration::from_millis(250);

/// What the rest of the coordinator has of its keeper.
#[derive(Debug)]
pub(super) struct Kept {
    #[cfg(feature = "server")]
    pub(super) folder: Arc<Folder>,
    /// Wakes the keeper when it is dropped.
    _wake: UnixStream,
    farewells: Sender<Infallible>,
}

/// Has to tell somebody of the coordinator's end, and is dropped when that is done.
#[derive(Debug)]
pub(crate) struct Farewell {
    _pending: Option<Sender<Infallible>>,
}

impl Farewell {
    pub(super) fn from(kept: Option<&Kept>) -> Self {
        Farewell {
            _pending: kept.map(|kept| kept.farewells.clone()),
        }
    }
}

#[derive(Debug)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
    folder: Arc<Folder>,
    wake: UnixStream,
    farewells: Receiver<Infallible>,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, folder: Arc<Folder>) -> std::io::Result<Keeper> {
        let (wake, woken) = UnixStream::pair()?;
        let (sender, farewells) = channel();
        shared.set_kept(Kept {
            #[cfg(feature = "server")]
            folder: Arc::clone(&folder),
            _wake: wake,
            farewells: sender,
        });
        Ok(Keeper {
            shared,
            folder,
            wake: woken,
            farewells,
        })
    }

    /// Runs until the coordinator is over.
    pub(super) fn run(self) {
        while !self.shared.state().is_over() {
            if let Err(error) = self.folder.check_for_others() {
                tracing::error!(%error, "the folder is gone");
                self.shared.stop(&error);
            } else {
                self.folder.wait(&self.wake, TICK);
            }
        }
        // It may have been over before there was a keeper.
        self.shared.let_go();
        // Found here, or by the committer. Otherwise whoever comes next goes on with this store.
        if let Some(Error::Displaced { .. }) = self.shared.failure() {
            // An error either way: all have been told, or there was no time.
            let _ = self.farewells.recv_timeout(FAREWELL);
            if *self.shared.live_leases().borrow() > 0 {
                sleep(REACTION);
            }
        }
        // The last to have the folder: its names are free from here on.
    }
}

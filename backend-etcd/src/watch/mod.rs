//! Watches on single keys, many on one stream.

mod creations;
mod reopening;
mod stream;
#[cfg(test)]
mod tests;
mod watcher;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use lock_core::{Error, ErrorKind, background};
use tokio::sync::{mpsc, oneshot};

use self::watcher::{Command, Deletion, Waiting, Watcher};
use crate::transport::Transport;

/// The watches of one backend. All use one stream, which is opened with the first watch and closed
/// a while after the last. A watch that nobody needs any more stays for a moment, because
/// contenders that follow each other wait on the same key.
#[derive(Debug)]
pub(crate) struct Watches {
    transport: Arc<Transport>,
    /// The queue of the watcher, which starts with the first watch. The number of watches bounds
    /// it.
    commands: OnceLock<mpsc::UnboundedSender<Command>>,
    serial: AtomicU64,
}

/// The state of a key once it is watched.
#[derive(Debug)]
pub(crate) enum Watched {
    /// Every deletion after this revision is seen.
    Since(i64, Watch),
    /// It was deleted, at this revision.
    Gone(i64),
}

/// One watch on one key. It is small, because there may be very many of them for very long.
#[derive(Debug)]
pub(crate) struct Watch {
    serial: u64,
    key: Arc<[u8]>,
    deletion: oneshot::Receiver<Deletion>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Watches {
    pub(crate) fn new(transport: Arc<Transport>) -> Self {
        Watches {
            transport,
            commands: OnceLock::new(),
            serial: AtomicU64::new(0),
        }
    }

    /// Watches for a deletion of a key after this revision. Returns once the watch sees deletions,
    /// or has seen one.
    pub(crate) async fn watch(&self, key: Arc<[u8]>, after: i64) -> Result<Watched, Error> {
        let background = background::handle()?;
        let commands = self.commands.get_or_init(|| {
            let (commands, queue) = mpsc::unbounded_channel();
            background.spawn(Watcher::new(self.transport.clone(), queue).run());
            commands
        });
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let (confirmation, confirmed) = oneshot::channel();
        let (sender, deletion) = oneshot::channel();
        let waiting = Waiting {
            serial,
            after,
            deletion: sender,
        };
        let mut watch = Watch {
            serial,
            key: key.clone(),
            deletion,
            commands: commands.clone(),
        };
        // If nobody receives it, the channels in it are dropped, and the watch ends with an error.
        let _ = commands.send(Command::Add {
            key,
            waiting,
            confirmation,
        });
        match confirmed.await {
            Ok(since) => Ok(Watched::Since(since, watch)),
            // The watch has ended before it was confirmed.
            Err(_) => watch.wait_until_gone().await.map(Watched::Gone),
        }
    }
}

impl Watch {
    /// Waits until the key is deleted, and returns the revision. To be called once.
    ///
    /// # Errors
    /// Those that end a watch early, [`ErrorKind::Unreachable`] and [`ErrorKind::Exhausted`] among
    /// them.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) fn wait_until_gone(&mut self) -> impl Future<Output = Result<i64, Error>> {
        (&mut self.deletion).map(|outcome| {
            let deletion = outcome.map_err(|closed| {
                let text = "a watch ended abnormally: please report this";
                Error::new(ErrorKind::Internal, text).with_source(closed)
            })?;
            deletion.map_err(|reason| {
                Error::new(reason.kind(), "a watch was interrupted").with_source((*reason).clone())
            })
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Remove {
            serial: self.serial,
            key: self.key.clone(),
        });
    }
}

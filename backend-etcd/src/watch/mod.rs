//! Watches on keys and on queues, many on one stream.

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

pub(crate) use self::stream::Target;
use self::watcher::{Change, Command, Waiting, Watcher};
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

/// The state of what is watched.
#[derive(Debug)]
pub(crate) enum Watched {
    /// Every change after this revision is seen.
    Since(i64, Watch),
    /// It has changed, at this revision.
    Changed(i64),
}

/// One watch on one target. It is small, because there may be very many of them for very long.
#[derive(Debug)]
pub(crate) struct Watch {
    serial: u64,
    target: Target,
    change: oneshot::Receiver<Change>,
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

    /// Watches for a change after this revision. Returns once the watch sees changes, or has seen one.
    pub(crate) async fn watch(&self, target: Target, after: i64) -> Result<Watched, Error> {
        let background = background::handle()?;
        let commands = self.commands.get_or_init(|| {
            let (commands, queue) = mpsc::unbounded_channel();
            background.spawn(Watcher::new(self.transport.clone(), queue).run());
            commands
        });
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let (confirmation, confirmed) = oneshot::channel();
        let (sender, change) = oneshot::channel();
        let waiting = Waiting {
            serial,
            after,
            change: sender,
        };
        let mut watch = Watch {
            serial,
            target: target.clone(),
            change,
            commands: commands.clone(),
        };
        // If nobody receives it, the channels in it are dropped, and the watch ends with an error.
        let _ = commands.send(Command::Add {
            target,
            waiting,
            confirmation,
        });
        match confirmed.await {
            Ok(since) => Ok(Watched::Since(since, watch)),
            // The watch has ended before it was confirmed.
            Err(_) => watch.wait_for_change().await.map(Watched::Changed),
        }
    }
}

impl Watch {
    /// Waits until the target changes, and returns the revision. To be called once.
    ///
    /// # Errors
    /// Those that end a watch early, [`ErrorKind::Unreachable`] and [`ErrorKind::Exhausted`] among
    /// them.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) fn wait_for_change(&mut self) -> impl Future<Output = Result<i64, Error>> {
        (&mut self.change).map(|outcome| {
            let change = outcome.map_err(|closed| {
                let text = "a watch ended abnormally: please report this";
                Error::new(ErrorKind::Internal, text).with_source(closed)
            })?;
            change.map_err(|reason| {
                Error::new(reason.kind(), "a watch was interrupted").with_source((*reason).clone())
            })
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Remove {
            serial: self.serial,
            target: self.target.clone(),
        });
    }
}

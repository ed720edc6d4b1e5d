//! Watches on single keys, many on one stream.

mod creations;
mod watcher;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use lock_core::{Error, ErrorKind, background};
use tokio::sync::{mpsc, oneshot};

use self::watcher::{Command, Deletion, Waiting, Watcher};
use crate::transport::Transport;

/// The watches of one backend. All go over one stream, which is opened with the first and closed a
/// while after the last. A watch that nobody needs any more stays for a moment: whoever waits on the
/// same key again, as contenders that follow each other do, finds it there.
#[derive(Debug)]
pub(crate) struct Watches {
    transport: Arc<Transport>,
    /// To the watcher, which runs from the first watch on. The watches that exist are its limit.
    commands: OnceLock<mpsc::UnboundedSender<Command>>,
    serial: AtomicU64,
}

/// What is known of a key once it is watched.
#[derive(Debug)]
pub(crate) enum Watched {
    /// Every deletion after this revision is seen.
    Since(i64, Watch),
    /// It was deleted, at this revision.
    Gone(i64),
}

/// One watch on one key. There may be very many of them for very long, so they are small.
#[derive(Debug)]
pub(crate) struct Watch {
    serial: u64,
    key: Arc<[u8]>,
    gone: oneshot::Receiver<Deletion>,
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

    /// Watches for a deletion of a key after this revision, from about now on. Resolves once the
    /// watch sees deletions, or has seen one already.
    pub(crate) async fn watch(&self, key: Arc<[u8]>, after: i64) -> Result<Watched, Error> {
        let background = background::handle()?;
        let commands = self.commands.get_or_init(|| {
            let (commands, queue) = mpsc::unbounded_channel();
            background.spawn(Watcher::new(self.transport.clone(), queue).run());
            commands
        });
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let (created, creation) = oneshot::channel();
        let (gone, deletion) = oneshot::channel();
        let waiting = Waiting {
            serial,
            after,
            gone,
        };
        let mut watch = Watch {
            serial,
            key: key.clone(),
            gone: deletion,
            commands: commands.clone(),
        };
        // If nobody receives it, it is dropped, and the watch is told as broken.
        let _ = commands.send(Command::Add {
            key,
            waiting,
            created,
        });
        match creation.await {
            Ok(since) => Ok(Watched::Since(since, watch)),
            // There is no more to be told of it than how it ended.
            Err(_) => watch.gone().await.map(Watched::Gone),
        }
    }
}

impl Watch {
    /// Waits until the key was deleted, and answers the revision. Once.
    pub(crate) fn gone(&mut self) -> impl Future<Output = Result<i64, Error>> {
        (&mut self.gone).map(|outcome| {
            let gone = outcome.map_err(|closed| {
                let text = "a watch ended abnormally: please report this";
                Error::new(ErrorKind::Internal, text).with_source(closed)
            })?;
            gone.map_err(|why| {
                Error::new(why.kind(), "a watch was interrupted").with_source((*why).clone())
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

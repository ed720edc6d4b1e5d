//! Watches on single keys, many on one stream.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use lock_core::{Error, ErrorKind, background};
use tokio::sync::{mpsc, watch};

use crate::transport::Transport;
use crate::watcher::Watcher;

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

/// What a watcher is told.
#[derive(Debug)]
pub(crate) enum Command {
    Add {
        serial: u64,
        key: Arc<[u8]>,
        after: i64,
        stage: watch::Sender<Stage>,
    },
    Remove {
        serial: u64,
        key: Arc<[u8]>,
    },
}

/// How far a watch has come.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// The server has not confirmed it yet.
    Creating,
    /// Every deletion of the key after this revision is seen.
    Watching(i64),
    /// The key was deleted, at this revision.
    Gone(i64),
    /// It sees nothing any more, for this reason.
    Broken(Error),
}

/// One watch on one key.
#[derive(Debug)]
pub(crate) struct Watch {
    serial: u64,
    key: Arc<[u8]>,
    stage: watch::Receiver<Stage>,
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

    /// Watches for a deletion of a key after this revision, from about now on.
    pub(crate) fn add(&self, key: Arc<[u8]>, after: i64) -> Watch {
        let commands = self.commands.get_or_init(|| {
            let (commands, queue) = mpsc::unbounded_channel();
            background::handle().spawn(Watcher::new(self.transport.clone(), queue).run());
            commands
        });
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let (sender, stage) = watch::channel(Stage::Creating);
        // If nobody receives it, the sender is dropped with it, and the watch is told as broken.
        let _ = commands.send(Command::Add {
            serial,
            key: key.clone(),
            after,
            stage: sender,
        });
        Watch {
            serial,
            key,
            stage,
            commands: commands.clone(),
        }
    }
}

impl Watch {
    /// Waits until the watch sees deletions, or has seen one already.
    pub(crate) async fn created(&mut self) -> Result<Stage, Error> {
        self.past(|stage| !matches!(stage, Stage::Creating)).await
    }

    /// Waits until the key was deleted.
    pub(crate) async fn gone(&mut self) -> Result<Stage, Error> {
        self.past(|stage| matches!(stage, Stage::Gone(_) | Stage::Broken(_)))
            .await
    }

    /// Never answers [`Stage::Broken`]: that is an error.
    async fn past(&mut self, reached: impl FnMut(&Stage) -> bool) -> Result<Stage, Error> {
        let stage = self.stage.wait_for(reached).await.map_err(|closed| {
            let text = "a watch ended abnormally: please report this";
            Error::new(ErrorKind::Internal, text).with_source(closed)
        })?;
        match &*stage {
            Stage::Broken(why) => {
                Err(Error::new(why.kind(), "a watch was interrupted").with_source(why.clone()))
            }
            stage => Ok(stage.clone()),
        }
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

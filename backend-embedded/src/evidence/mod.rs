//! What a coordinator leaves behind for the next one in its folder, so that sessions that ended with
//! it, or while there was none, do not get their time to live once more.
//!
//! Two things are life in the file `LIFE`: up to when this coordinator may have acknowledged a
//! renewal, on the clock that runs through suspend, and the processes that sessions belong to. It is
//! written before what it tells of is acknowledged, and outlives the process. It is synced a moment
//! later, for what counts after a power cut: which boot it was, and which sessions were of this
//! machine. Without the file, or with one that cannot be trusted, every lease has its full time to
//! live.

mod file;
mod host;
mod previous_run;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lock_core::clock::{BootInstant, Clock};

use crate::machine::op::LeaseId;
pub(crate) use host::Host;
pub(crate) use host::Process;
pub(crate) use previous_run::PreviousRun;
use slots::Slots;

/// How far ahead the file says that renewals may be acknowledged. It is moved on when less than half
/// is left, so a disk that stands still for so long delays no renewal.
const AHEAD: Duration = Duration::from_secs(2);

/// What tells one owner of a folder from the next: the state of the file that each of them writes
/// its process id to. A version that knows nothing of evidence writes it, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LockStamp {
    inode: u64,
    ctime: (i64, i64),
}

impl LockStamp {
    pub(crate) fn read(lock: &File) -> io::Result<LockStamp> {
        let metadata = lock.metadata()?;
        Ok(LockStamp {
            inode: metadata.ino(),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// The evidence that a coordinator keeps while it runs.
#[derive(Debug, Default)]
pub(crate) struct Evidence(Option<LifeFile>);

#[derive(Debug)]
struct LifeFile {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    clock: Clock,
    header: Mutex<file::Header>,
    /// Renewals may be acknowledged up to here, in nanoseconds since boot.
    until: AtomicU64,
    slots: Mutex<Slots>,
    unsynced: AtomicBool,
}

impl Evidence {
    /// Begins a coordinator's evidence, with what is known of the leases that it takes over.
    fn begin(
        folder: &Path,
        lock_stamp: LockStamp,
        host: &Host,
        processes: &HashMap<LeaseId, Process>,
    ) -> io::Result<Evidence> {
        let clock = Clock::system();
        let header = file::Header {
            lock_stamp,
            host: *host,
            // Whatever was acknowledged before was so by now.
            until: clock.now().as_nanos(),
        };
        let mut slots = Slots::default();
        let entries: Vec<_> = processes
            .iter()
            .map(|(&id, &process)| (slots.take(id), id, process))
            .collect();
        let (path, file) = file::create(folder, &header, &entries)?;
        Ok(Evidence(Some(LifeFile {
            folder: folder.to_path_buf(),
            path,
            file,
            clock,
            until: AtomicU64::new(header.until),
            header: Mutex::new(header),
            slots: Mutex::new(slots),
            unsynced: AtomicBool::new(true),
        })))
    }

    /// Sees to it that the file says that we live. To be called before a grant or a renewal is
    /// acknowledged, and when its request is there.
    pub(crate) fn extend_before_ack(&self) -> io::Result<()> {
        match &self.0 {
            Some(life) if life.remaining().is_zero() => life.extend(),
            _ => Ok(()),
        }
    }

    /// Whether [`refresh`](Self::refresh) has something to do.
    pub(crate) fn is_refresh_due(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|life| life.remaining() < AHEAD / 2)
    }

    /// Moves on up to when renewals may be acknowledged, so that none of them has to wait for it.
    pub(crate) fn refresh(&self) -> io::Result<()> {
        match &self.0 {
            Some(life) if life.remaining() < AHEAD / 2 => life.extend(),
            _ => Ok(()),
        }
    }

    /// Keeps in mind whose lease this will be. To be called before it is granted; `client_chosen` tells
    /// that its id was picked by the client, who may pick the same one again.
    pub(crate) fn record_holder(
        &self,
        id: LeaseId,
        client_chosen: bool,
        process: Option<Process>,
    ) -> io::Result<()> {
        let Some(life) = &self.0 else {
            return Ok(());
        };
        if client_chosen {
            let stale = life.slots().take_stale(id);
            for slot in &stale {
                (life.file).write_all_at(&[0; file::SLOT], file::slot_offset(*slot))?;
            }
            // After a power cut, too, nobody else may be taken for the holder.
            if !stale.is_empty() {
                life.file.sync_data()?;
            }
        } else if let Some(process) = process {
            let slot = life.slots().take(id);
            let bytes = file::encode_slot(id, process);
            if let Err(error) = life.file.write_all_at(&bytes, file::slot_offset(slot)) {
                tracing::warn!(%error, "whose session this is will not be known after a restart");
                life.slots().release(id);
                return Ok(());
            }
            life.unsynced.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Forgets a lease that is gone.
    pub(crate) fn forget(&self, id: LeaseId) {
        if let Some(life) = &self.0 {
            life.slots().release(id);
        }
    }

    /// Whether a power cut would lose what is life.
    pub(crate) fn is_unsynced(&self) -> bool {
        let life = self.0.as_ref();
        life.is_some_and(|life| life.unsynced.load(Ordering::Relaxed))
    }

    /// Has what is life survive a power cut.
    pub(crate) fn sync(&self) {
        let Some(life) = &self.0 else {
            return;
        };
        life.unsynced.store(false, Ordering::Relaxed);
        if let Err(error) = life.sync() {
            tracing::warn!(%error, file = %life.path.display(), "it may not survive a power cut");
        }
    }

    /// The file, to name it in errors.
    pub(crate) fn path(&self) -> PathBuf {
        self.0
            .as_ref()
            .map_or_else(PathBuf::new, |life| life.path.clone())
    }
}

impl LifeFile {
    /// How long renewals may still be acknowledged without a word in the file.
    fn remaining(&self) -> Duration {
        let until = BootInstant::from_nanos(self.until.load(Ordering::Acquire));
        until.saturating_since(self.clock.now())
    }

    fn extend(&self) -> io::Result<()> {
        let mut header = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        if self.remaining() >= AHEAD / 2 {
            return Ok(()); // Done by another thread meanwhile.
        }
        header.until = (self.clock.now() + AHEAD).as_nanos();
        let written = self.file.write_all_at(&header.encode(), 0).or_else(|error| {
            // Then the file must not go on telling that we ceased to live. Emptied, it tells nothing.
            tracing::warn!(%error, file = %self.path.display(), "it cannot be written, and is emptied");
            self.file.set_len(0)
        });
        written?;
        self.until.store(header.until, Ordering::Release);
        Ok(())
    }

    /// Syncs the file, its name, and the state of `LOCK` that it is believed by.
    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        // Opened anew: a copy of the descriptor that has it locked would keep it so.
        File::open(self.folder.join(crate::store::LOCK))?.sync_all()?;
        File::open(&self.folder)?.sync_all()
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

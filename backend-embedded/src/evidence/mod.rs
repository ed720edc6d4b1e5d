//! What a coordinator leaves behind for the next one in its folder, so that sessions that ended with
//! it, or while there was none, do not get their time to live once more.
//!
//! Two things are kept in the file `LIFE`: up to when this coordinator may have acknowledged a
//! renewal, on the clock that runs through suspend, and the processes that sessions belong to. It is
//! written before what it tells of is acknowledged, and outlives the process. It is synced a moment
//! later, for what counts after a power cut: which boot it was, and which sessions were of this
//! machine. Without the file, or with one that cannot be trusted, every lease has its full time to
//! live.

mod file;
mod host;
mod judge;
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
pub(crate) use judge::Past;
use slots::Slots;

/// How far ahead the file says that renewals may be acknowledged. It is moved on when less than half
/// is left, so a disk that stands still for so long delays no renewal.
const AHEAD: Duration = Duration::from_secs(2);

/// What tells one owner of a folder from the next: the state of the file that each of them writes
/// its process id to. A version that knows nothing of evidence writes it, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    inode: u64,
    changed: (i64, i64),
}

impl Claim {
    pub(crate) fn of(lock: &File) -> io::Result<Claim> {
        let metadata = lock.metadata()?;
        Ok(Claim {
            inode: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// The evidence that a coordinator keeps while it runs.
#[derive(Debug, Default)]
pub(crate) struct Evidence(Option<Kept>);

#[derive(Debug)]
struct Kept {
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
        claim: Claim,
        host: &Host,
        processes: &HashMap<LeaseId, Process>,
    ) -> io::Result<Evidence> {
        let clock = Clock::system();
        let header = file::Header {
            claim,
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
        Ok(Evidence(Some(Kept {
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
    pub(crate) fn sign_of_life(&self) -> io::Result<()> {
        match &self.0 {
            Some(kept) if kept.left().is_zero() => kept.move_on(),
            _ => Ok(()),
        }
    }

    /// Whether [`refresh`](Self::refresh) has something to do.
    pub(crate) fn is_due(&self) -> bool {
        self.0.as_ref().is_some_and(|kept| kept.left() < AHEAD / 2)
    }

    /// Moves on up to when renewals may be acknowledged, so that none of them has to wait for it.
    pub(crate) fn refresh(&self) -> io::Result<()> {
        match &self.0 {
            Some(kept) if kept.left() < AHEAD / 2 => kept.move_on(),
            _ => Ok(()),
        }
    }

    /// Keeps in mind whose lease this will be. To be called before it is granted; `chosen` tells
    /// that its id was picked by the client, who may pick the same one again.
    pub(crate) fn will_grant(
        &self,
        id: LeaseId,
        chosen: bool,
        process: Option<Process>,
    ) -> io::Result<()> {
        let Some(kept) = &self.0 else {
            return Ok(());
        };
        if chosen {
            let stale = kept.slots().forget(id);
            for slot in &stale {
                (kept.file).write_all_at(&[0; file::SLOT], file::offset(*slot))?;
            }
            // After a power cut, too, nobody else may be taken for the holder.
            if !stale.is_empty() {
                kept.file.sync_data()?;
            }
        } else if let Some(process) = process {
            let slot = kept.slots().take(id);
            let bytes = file::encode_slot(id, process);
            if let Err(error) = kept.file.write_all_at(&bytes, file::offset(slot)) {
                tracing::warn!(%error, "whose session this is will not be known after a restart");
                kept.slots().release(id);
                return Ok(());
            }
            kept.unsynced.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Forgets a lease that is gone.
    pub(crate) fn released(&self, id: LeaseId) {
        if let Some(kept) = &self.0 {
            kept.slots().release(id);
        }
    }

    /// Whether a power cut would lose what is kept.
    pub(crate) fn is_unsynced(&self) -> bool {
        let kept = self.0.as_ref();
        kept.is_some_and(|kept| kept.unsynced.load(Ordering::Relaxed))
    }

    /// Has what is kept survive a power cut.
    pub(crate) fn sync(&self) {
        let Some(kept) = &self.0 else {
            return;
        };
        kept.unsynced.store(false, Ordering::Relaxed);
        if let Err(error) = kept.sync() {
            tracing::warn!(%error, file = %kept.path.display(), "it may not survive a power cut");
        }
    }

    /// The file, to name it in errors.
    pub(crate) fn path(&self) -> PathBuf {
        self.0
            .as_ref()
            .map_or_else(PathBuf::new, |kept| kept.path.clone())
    }
}

impl Kept {
    /// How long renewals may still be acknowledged without a word in the file.
    fn left(&self) -> Duration {
        let until = BootInstant::from_nanos(self.until.load(Ordering::Acquire));
        until.saturating_since(self.clock.now())
    }

    fn move_on(&self) -> io::Result<()> {
        let mut header = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        if self.left() >= AHEAD / 2 {
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

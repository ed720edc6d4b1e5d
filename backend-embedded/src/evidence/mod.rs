//! The evidence that a coordinator leaves in its folder for the next one. By it, sessions that
//! ended with the coordinator, or while there was none, do not get their time to live once more.
//!
//! The file `LIFE` holds two things: until when this coordinator may have acknowledged renewals, by
//! the clock that runs through suspend, and which processes the sessions belong to. It is written
//! before the event that it describes is acknowledged, and it outlives the process. It is synced a
//! moment later for the two facts that count after a power cut: which boot it was, and which
//! sessions belonged to this machine. Without the file, or with one that cannot be trusted, every
//! lease has its full time to live.

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

/// How far ahead the file says that renewals may be acknowledged. It is extended when less than
/// half of this is left, so a disk that stalls for that long delays no renewal.
const AHEAD: Duration = Duration::from_secs(2);

/// What distinguishes one owner of a folder from the next: the state of the lock file, to which
/// each of them writes its process id. Versions without evidence write it too.
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

/// The evidence that a running coordinator keeps; `None` if it keeps none.
#[derive(Debug, Default)]
pub(crate) struct Evidence(Option<LifeFile>);

#[derive(Debug)]
struct LifeFile {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    clock: Clock,
    header: Mutex<file::Header>,
    /// Renewals may be acknowledged until then, in nanoseconds since boot.
    until: AtomicU64,
    slots: Mutex<Slots>,
    unsynced: AtomicBool,
}

impl Evidence {
    /// Begins a coordinator's evidence, with the known processes of the leases that it takes over.
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
            // Everything that was acknowledged before was acknowledged by now.
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

    /// Makes sure that the file covers the present. Must be called when the request of a grant or a
    /// renewal has arrived, before it is acknowledged.
    pub(crate) fn extend_before_ack(&self) -> io::Result<()> {
        match &self.0 {
            Some(life) if life.remaining().is_zero() => life.extend(),
            _ => Ok(()),
        }
    }

    /// Returns whether [`refresh`](Self::refresh) has something to do.
    pub(crate) fn is_refresh_due(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|life| life.remaining() < AHEAD / 2)
    }

    /// Extends the time that the file covers, so that no renewal has to wait for it.
    pub(crate) fn refresh(&self) -> io::Result<()> {
        match &self.0 {
            Some(life) if life.remaining() < AHEAD / 2 => life.extend(),
            _ => Ok(()),
        }
    }

    /// Records whose lease this will be. Must be called before the lease is granted.
    /// `client_chosen` means that the client chose the id, and may choose the same one again.
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
            // Synced: nobody else may be taken for the holder, also after a power cut.
            if !stale.is_empty() {
                life.file.sync_data()?;
            }
        } else if let Some(process) = process {
            let slot = life.slots().take(id);
            let bytes = file::encode_slot(id, process);
            if let Err(error) = life.file.write_all_at(&bytes, file::slot_offset(slot)) {
                tracing::warn!(
                    %error,
                    "cannot record the process of a session; it will be unknown after a restart"
                );
                life.slots().release(id);
                return Ok(());
            }
            life.unsynced.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Forgets a lease that has ended.
    pub(crate) fn forget(&self, id: LeaseId) {
        if let Some(life) = &self.0 {
            life.slots().release(id);
        }
    }

    /// Returns whether a power cut would lose some of the evidence.
    pub(crate) fn is_unsynced(&self) -> bool {
        let life = self.0.as_ref();
        life.is_some_and(|life| life.unsynced.load(Ordering::Relaxed))
    }

    /// Syncs the evidence, so that it survives a power cut.
    pub(crate) fn sync(&self) {
        let Some(life) = &self.0 else {
            return;
        };
        life.unsynced.store(false, Ordering::Relaxed);
        if let Err(error) = life.sync() {
            tracing::warn!(
                %error,
                file = %life.path.display(),
                "cannot sync the file; it may not survive a power cut"
            );
        }
    }

    /// Returns the path of the file, for error messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.0
            .as_ref()
            .map_or_else(PathBuf::new, |life| life.path.clone())
    }
}

impl LifeFile {
    /// Returns for how long renewals may still be acknowledged without writing to the file.
    fn remaining(&self) -> Duration {
        let until = BootInstant::from_nanos(self.until.load(Ordering::Acquire));
        until.saturating_since(self.clock.now())
    }

    fn extend(&self) -> io::Result<()> {
        let mut header = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        if self.remaining() >= AHEAD / 2 {
            return Ok(()); // Another thread has extended it meanwhile.
        }
        header.until = (self.clock.now() + AHEAD).as_nanos();
        let written = self
            .file
            .write_all_at(&header.encode(), 0)
            .or_else(|error| {
                // The file must not go on saying that this coordinator has ended. An empty file
                // says nothing.
                tracing::warn!(
                    %error,
                    file = %self.path.display(),
                    "cannot write the file; emptying it"
                );
                self.file.set_len(0)
            });
        written?;
        self.until.store(header.until, Ordering::Release);
        Ok(())
    }

    /// Syncs the file, its name, and the state of `LOCK`, by which it is trusted.
    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        // Opened anew: a copy of the locked descriptor would keep the file locked.
        File::open(self.folder.join(crate::store::LOCK))?.sync_all()?;
        File::open(&self.folder)?.sync_all()
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

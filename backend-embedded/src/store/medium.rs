//! The medium of the store, and a log of the failures there.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::ack_mark::AckMark;
use super::sync_times::SyncTimes;
use crate::error::Error;

/// Holds the store's bytes, its journal and its mark: a folder, or a simulated disk in tests.
pub(crate) trait Medium: Debug + Send {
    /// Returns the path of the store's file, for error messages.
    fn path(&self) -> &Path;

    /// Opens the store's bytes, which hold a store already. Only one is open at a time.
    fn open(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Opens the journal's bytes, which have their full length.
    fn open_journal(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Returns the length of the store's file in bytes.
    fn size(&self) -> u64;

    /// Reserves the space that the store needs for about one more step of growth.
    fn reserve(&self) -> io::Result<()>;

    /// Fails if others no longer find at the path what is written here.
    fn check_location(&self) -> Result<(), Error>;

    /// Reads the mark of the last commit; `None` if there never was one.
    fn load_mark(&self) -> Result<Option<AckMark>, Error>;

    /// Writes a mark that survives this process, though not necessarily a power cut.
    fn save_mark(&self, mark: AckMark) -> Result<(), Error>;

    /// Syncs the first mark, so that one exists from then on, also after a power cut.
    fn sync_mark(&self) -> Result<(), Error>;
}

/// The operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Read,
    Write,
    Grow,
    Sync,
}

/// The first failure of a medium since it was opened. redb reports failures in terms of its own
/// bookkeeping, but what to do depends on the failure itself.
#[derive(Debug, Default)]
pub(super) struct FaultLog(Mutex<Option<(Operation, Arc<io::Error>)>>);

impl FaultLog {
    pub(super) fn first(&self) -> Option<(Operation, Arc<io::Error>)> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn record<T>(&self, operation: Operation, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let error = Arc::new(error);
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert((operation, Arc::clone(&error)));
            io::Error::new(error.kind(), error)
        })
    }
}

/// A backend that logs its failures, and measures its syncs.
#[derive(Debug)]
pub(super) struct LoggedBackend {
    pub(super) backend: Box<dyn StorageBackend>,
    pub(super) faults: Arc<FaultLog>,
    pub(super) syncs: SyncTimes,
}

impl StorageBackend for LoggedBackend {
    fn len(&self) -> io::Result<u64> {
        self.faults.record(Operation::Read, self.backend.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let result = self.backend.read(offset, out);
        self.faults.record(Operation::Read, result)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let result = self.backend.set_len(len);
        self.faults.record(Operation::Grow, result)
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.syncs.measure(|| self.backend.sync_data());
        self.faults.record(Operation::Sync, synced)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let result = self.backend.write(offset, data);
        self.faults.record(Operation::Write, result)
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }
}

/// Copies the content of a backend into memory.
pub(super) fn copy_to_memory(backend: &dyn StorageBackend) -> io::Result<InMemoryBackend> {
    const CHUNK: usize = 1 << 20;
    let copy = InMemoryBackend::new();
    let len = backend.len()?;
    copy.set_len(len)?;
    let mut chunk = vec![0; CHUNK];
    for offset in (0..len).step_by(CHUNK) {
        let wanted = usize::try_from(len - offset).map_or(CHUNK, |left| left.min(CHUNK));
        backend.read(offset, &mut chunk[..wanted])?;
        copy.write(offset, &chunk[..wanted])?;
    }
    Ok(copy)
}

/// Returns whether a failure only means a lack of space: the disk or the user's quota is full, or
/// the file has its maximal size. A short write is one of these, cut off.
pub(super) fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::WriteZero
    )
}

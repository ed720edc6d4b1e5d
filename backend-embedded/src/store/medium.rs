//! What the store is kept on, and a record of what went wrong there.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use redb::StorageBackend;

use super::ack_mark::AckMark;
use crate::error::Error;

/// Where the store's bytes, its journal and its mark are kept: a folder, or a simulated disk in tests.
pub(crate) trait Medium: Debug + Send {
    /// The store's file, to name it in errors.
    fn path(&self) -> &Path;

    /// Opens the store's bytes, which hold a store already. Only one is open at a time.
    fn open(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Opens the bytes of its journal, which have their full length.
    fn open_journal(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// The length of the store's file.
    fn size(&self) -> u64;

    /// Sees to it that the store can grow by about one step more.
    fn reserve(&self) -> io::Result<()>;

    /// Fails if what is written here is not what others find at its path.
    fn check_location(&self) -> Result<(), Error>;

    /// The mark left by the last commit; `None` if there never was one.
    fn load_mark(&self) -> Result<Option<AckMark>, Error>;

    /// Leaves a mark that survives this process, though not necessarily a power cut.
    fn save_mark(&self, mark: AckMark) -> Result<(), Error>;

    /// Has the first mark survive a power cut too, so that there is one from then on.
    fn sync_mark(&self) -> Result<(), Error>;
}

/// What was being done when an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Read,
    Write,
    Grow,
    Sync,
}

/// The first failure of a medium since it was opened. redb passes on what its own bookkeeping makes
/// of a failure; what to do about it depends on the failure itself.
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

/// A backend whose failures are logged.
#[derive(Debug)]
pub(super) struct LoggedBackend {
    pub(super) backend: Box<dyn StorageBackend>,
    pub(super) faults: Arc<FaultLog>,
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
        self.faults
            .record(Operation::Sync, self.backend.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let result = self.backend.write(offset, data);
        self.faults.record(Operation::Write, result)
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }
}

/// Whether a failure means no more than that there is no space: the disk or the user's quota is
/// full, or the file is at the size allowed. A short write is one of these cut off.
pub(super) fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::WriteZero
    )
}

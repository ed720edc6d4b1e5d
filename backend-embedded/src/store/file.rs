//! The store's file, with space reserved ahead of its length.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::StorageBackend;

#[cfg(target_os = "linux")]
use super::medium::is_no_space;

/// Bounds on the space reserved ahead, in bytes. Within them it is three times the length of the
/// file: the file doubles when it grows, and a full journal may need two steps in one transaction.
const MIN_RESERVE: u64 = 3 << 20;
const MAX_RESERVE: u64 = 64 << 20;

/// An open store file. To grow it takes blocks from the file system at once. So a full disk is met
/// here, where redb can get the error, and not when a page is written into a hole.
#[derive(Debug)]
pub(super) struct StoreFile {
    file: File,
    /// The length up to which the file system has allocated blocks: the end of the file or beyond.
    reserved: Arc<AtomicU64>,
}

impl StoreFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self {
            file,
            reserved: Arc::default(),
        })
    }

    pub(super) fn as_file(&self) -> &File {
        &self.file
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
            reserved: Arc::clone(&self.reserved),
        })
    }

    /// Allocates blocks past the end of the file, which keeps its length.
    pub(super) fn reserve(&self) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        let wanted = len + (3 * len).clamp(MIN_RESERVE, MAX_RESERVE);
        if self.reserved.load(Ordering::Relaxed) < wanted {
            preallocate(&self.file, 0, wanted)?;
            self.reserved.store(wanted, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl StorageBackend for StoreFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let old = self.file.metadata()?.len();
        if len > old && self.reserved.load(Ordering::Relaxed) < len {
            preallocate(&self.file, old, len - old)?;
            self.reserved.store(len, Ordering::Relaxed);
        }
        self.file.set_len(len)?;
        if len < old {
            // The blocks past the new end are released with it. If they cannot be allocated again,
            // the next check for space reports that.
            self.reserved.store(len, Ordering::Relaxed);
            let _ = self.reserve();
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }
}

/// Allocates blocks without changing the file's length, where the file system can do that.
/// Otherwise a full disk is met later, when the blocks are written.
#[cfg(target_os = "linux")]
fn preallocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    let taken =
        rustix::io::retry_on_intr(|| fallocate(file, FallocateFlags::KEEP_SIZE, offset, len));
    match taken.map_err(io::Error::from) {
        Err(error) if is_no_space(&error) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
fn preallocate(_file: &File, _offset: u64, _len: u64) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn room_is_kept_ahead_and_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        File::create(&path).unwrap();
        let store = StoreFile::open(&path).unwrap();
        let blocks = || std::fs::metadata(&path).unwrap().blocks() * 512;

        let other = File::create(folder.path().join("other")).unwrap();
        let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
        if rustix::fs::fallocate(&other, flags, 0, 4096).is_err() {
            return; // The file system cannot set blocks aside.
        }
        store.reserve().unwrap();
        assert_eq!(StorageBackend::len(&store).unwrap(), 0);
        assert!(blocks() >= MIN_RESERVE);
        let before = blocks();
        store.set_len(MIN_RESERVE).unwrap();
        assert_eq!(blocks(), before, "growing uses what was set aside");
        store.reserve().unwrap();
        assert!(blocks() >= 2 * MIN_RESERVE);
        store.set_len(4096).unwrap();
        assert!(blocks() >= MIN_RESERVE, "and is had again after shrinking");
        assert!(blocks() < 2 * MIN_RESERVE);
        let mut page = [1; 4096];
        store.read(0, &mut page).unwrap();
        assert_eq!(page, [0; 4096]);
        assert!(store.read(1, &mut page).is_err(), "past the end");
    }
}

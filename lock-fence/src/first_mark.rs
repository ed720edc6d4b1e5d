//! Writes the first mark of a resource beside its empty one, and puts it in place in one step.
//!
//! The file of a mark that was never written is empty. To write into it makes the file longer, and
//! after a power cut some file systems have the new length but zeros for the bytes: a mark that
//! nobody can trust, although no token was admitted. A later mark replaces bytes that are there.

use std::fs::File;
use std::io::{self, Write};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::Error;
use crate::fence::copy_permissions;
use crate::place::Place;

/// The mark of a resource for which no token was admitted yet. Its empty file is open and locked.
#[derive(Debug)]
pub(crate) struct FirstMark {
    place: Place,
    /// The file that has taken the place of the empty one. Locked too, since the lock of the empty
    /// file keeps nobody out any more.
    written: OnceLock<File>,
}

impl FirstMark {
    pub(crate) fn new(place: &Place) -> Result<Self, Error> {
        Ok(FirstMark {
            place: place.try_clone()?,
            written: OnceLock::new(),
        })
    }

    /// Returns the file of the mark, once there is a mark.
    pub(crate) fn written(&self) -> Option<&File> {
        self.written.get()
    }

    /// Writes the mark durably. Returns `false`, with nothing changed, if this user may not make
    /// files in the folder.
    pub(crate) fn write(&self, empty: &File, mark: &[u8]) -> Result<bool, Error> {
        let place = &self.place;
        let failed = |error: io::Error| Error::io("write", &place.mark_path(), error);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // One that a process left behind when it died: only this process has the mark locked.
        match self.discard() {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ACCESS | Errno::PERM) => return Ok(false),
            Err(error) => return Err(failed(error.into())),
        }
        // The owner may always write. The others get their permissions before the file is a mark.
        let mode = Mode::RUSR | Mode::WUSR;
        let opened = rustix::fs::openat(place.folder(), place.first_mark_name(), flags, mode);
        let file = match opened {
            Ok(fd) => File::from(fd),
            Err(Errno::ACCESS | Errno::PERM) => return Ok(false),
            Err(error) => return Err(failed(error.into())),
        };
        if let Err(error) = self.put_in_place(&file, empty, mark) {
            let _ = self.discard();
            return Err(failed(error));
        }
        self.written.get_or_init(|| file);
        place.sync_folder()?;
        Ok(true)
    }

    fn put_in_place(&self, mut file: &File, empty: &File, mark: &[u8]) -> io::Result<()> {
        let place = &self.place;
        rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)?;
        copy_permissions(file, &rustix::fs::fstat(empty)?)?;
        file.write_all(mark)?;
        file.sync_all()?;
        rustix::fs::renameat(
            place.folder(),
            place.first_mark_name(),
            place.folder(),
            place.mark_name(),
        )?;
        Ok(())
    }

    fn discard(&self) -> Result<(), Errno> {
        let place = &self.place;
        rustix::fs::unlinkat(place.folder(), place.first_mark_name(), AtFlags::empty())
    }
}

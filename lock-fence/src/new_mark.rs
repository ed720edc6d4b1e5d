//! Writes a mark into a new file beside that of the mark, and puts it in its place in one step.
//!
//! - *The first mark.* The file of a mark that was never written is empty. To write into it makes the
//!   file longer, and after a power cut some file systems have the new length but zeros for the
//!   bytes: a mark that nobody can trust, although no token was admitted. A later mark replaces bytes
//!   that are there.
//! - *A mark that readers may open*, as earlier versions made it. A process that has opened it can
//!   lock it for ever, whatever its permissions are by then; the new file it has not opened.

use std::fs::File;
use std::io::{self, Write};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::Error;
use crate::mark_file::share_with_writers;
use crate::place::Place;

/// The file that takes the place of a mark's present one, which is open and locked.
#[derive(Debug)]
pub(crate) struct NewMark {
    place: Place,
    /// The file that has taken the place of the old one. Locked too, since the lock of the old file
    /// keeps nobody out any more.
    written: OnceLock<File>,
}

impl NewMark {
    pub(crate) fn new(place: &Place) -> Result<Self, Error> {
        Ok(NewMark {
            place: place.try_clone()?,
            written: OnceLock::new(),
        })
    }

    /// Returns the new file of the mark, once it is in place.
    pub(crate) fn written(&self) -> Option<&File> {
        self.written.get()
    }

    /// Writes the mark durably. Returns `false`, with nothing changed, if this user may not put a
    /// file of the same owner there.
    pub(crate) fn write(&self, old: &File, mark: &[u8]) -> Result<bool, Error> {
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
        let opened = rustix::fs::openat(place.folder(), place.new_mark_name(), flags, mode);
        let file = match opened {
            Ok(fd) => File::from(fd),
            Err(Errno::ACCESS | Errno::PERM) => return Ok(false),
            Err(error) => return Err(failed(error.into())),
        };
        let put = self.put_in_place(&file, old, mark);
        if !matches!(put, Ok(true)) {
            let _ = self.discard();
            return put.map_err(failed);
        }
        self.written.get_or_init(|| file);
        place.sync_folder()?;
        Ok(true)
    }

    /// Returns `false` if the new file cannot belong to the owner of the old one, or if only that
    /// owner may exchange it.
    fn put_in_place(&self, mut file: &File, old: &File, mark: &[u8]) -> io::Result<bool> {
        let place = &self.place;
        rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)?;
        let was = rustix::fs::fstat(old)?;
        share_with_writers(file, &was)?;
        let is = rustix::fs::fstat(file)?;
        if (is.st_uid, is.st_gid) != (was.st_uid, was.st_gid) {
            return Ok(false);
        }
        file.write_all(mark)?;
        file.sync_all()?;
        let renamed = rustix::fs::renameat(
            place.folder(),
            place.new_mark_name(),
            place.folder(),
            place.mark_name(),
        );
        match renamed {
            Ok(()) => Ok(true),
            Err(Errno::ACCESS | Errno::PERM) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn discard(&self) -> Result<(), Errno> {
        let place = &self.place;
        rustix::fs::unlinkat(place.folder(), place.new_mark_name(), AtFlags::empty())
    }
}

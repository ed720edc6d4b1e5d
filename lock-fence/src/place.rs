//! The location of a fenced resource: an open folder, and a name in it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, openat};
use rustix::io::Errno;

use crate::error::Error;
use crate::strangers;
use crate::walk::walk;

/// Longest name of a file, in bytes, on the usual file systems.
const MAX_NAME_BYTES: usize = 255;

/// A name in an open folder. Operations through it stay in that folder even if the folder is
/// renamed meanwhile.
#[derive(Debug)]
pub(crate) struct Place {
    folder: OwnedFd,
    path: PathBuf,
    name: OsString,
}

impl Place {
    /// Finds the folder and the name that a path leads to. A symbolic link is followed, so that all
    /// links to one file share one mark; not so a stranger's, in a folder that everybody may write.
    pub(crate) fn of(path: &Path) -> Result<Place, Error> {
        let found = walk(path)?;
        // Opened again from itself: to make its names durable takes the right to read it.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = Place {
            folder: openat(&found.folder, ".", flags, Mode::empty())
                .map_err(|error| Error::io("open the folder of", path, error))?,
            name: found.name,
            path: found.path,
        };
        if place.mark_name().len() > MAX_NAME_BYTES {
            let why = "its name leaves no room for that of the mark: use one of at most 248 bytes";
            return Err(Error::unsuitable_error(path, why));
        }
        Ok(place)
    }

    pub(crate) fn try_clone(&self) -> Result<Place, Error> {
        let folder = self.folder.try_clone();
        Ok(Place {
            folder: folder.map_err(|error| Error::io("open the folder of", &self.path, error))?,
            path: self.path.clone(),
            name: self.name.clone(),
        })
    }

    /// Returns the path of the file, without symbolic links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }

    pub(crate) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// Returns `.NAME.fence`, the name of the mark.
    pub(crate) fn mark_name(&self) -> OsString {
        self.beside("fence")
    }

    /// Returns `.NAME.new`, the name of a replacement that is being written. Only the process that
    /// has locked the mark uses it.
    pub(crate) fn draft_name(&self) -> OsString {
        self.beside("new")
    }

    pub(crate) fn mark_path(&self) -> PathBuf {
        self.path.with_file_name(self.mark_name())
    }

    /// Returns `.NAME.mark`, the name of a new file for the mark while it is being written. Only the process
    /// that has locked the mark uses it.
    pub(crate) fn new_mark_name(&self) -> OsString {
        self.beside("mark")
    }

    fn beside(&self, suffix: &str) -> OsString {
        let name = [b".", self.name.as_bytes(), b".", suffix.as_bytes()].concat();
        OsStr::from_bytes(&name).to_owned()
    }

    /// Opens the file for a change, if there is one, and checks that a fence can protect it. The
    /// file must be writable for a replacement too, although the operating system would not ask for
    /// that.
    pub(crate) fn open_to_write(&self) -> Result<Option<fs::File>, Error> {
        let Some(file) = self.open(OFlags::RDWR)? else {
            return Ok(None);
        };
        let found = self.stat(&file)?;
        strangers::check_target(&self.path, &self.stat_folder()?, &found)?;
        if found.st_nlink > 1 {
            let why = "it has several hard links, and a write through another of its names would \
                       pass no fence: keep one name, or use symbolic links";
            return Err(Error::unsuitable_error(&self.path, why));
        }
        Ok(Some(file))
    }

    /// Opens the file, if there is one; `None` if there is none.
    pub(crate) fn open(&self, access: OFlags) -> Result<Option<fs::File>, Error> {
        // Without O_NONBLOCK this would wait for the other end of a named pipe.
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = openat(&self.folder, &self.name, flags, Mode::empty());
        let file = match opened {
            Ok(fd) => fs::File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::ISDIR | Errno::NXIO) => return Err(self.not_regular()),
            Err(error) => return Err(Error::io("open", &self.path, error)),
        };
        let stat = self.stat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.not_regular());
        }
        Ok(Some(file))
    }

    pub(crate) fn stat(&self, file: &fs::File) -> Result<Stat, Error> {
        rustix::fs::fstat(file).map_err(|error| Error::io("examine", &self.path, error))
    }

    pub(crate) fn stat_folder(&self) -> Result<Stat, Error> {
        rustix::fs::fstat(&self.folder)
            .map_err(|error| Error::io("examine the folder of", &self.path, error))
    }

    fn not_regular(&self) -> Error {
        Error::unsuitable_error(&self.path, "it is not a regular file")
    }

    /// Makes the names in the folder durable.
    pub(crate) fn sync_folder(&self) -> Result<(), Error> {
        match rustix::fs::fsync(&self.folder) {
            // Network file systems without this call make names durable on the server.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(Error::io("make durable the folder of", &self.path, error)),
        }
    }
}

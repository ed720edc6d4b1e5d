//! The location of a fenced resource: an open folder, and a name in it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, openat};
use rustix::io::Errno;

use crate::error::Error;

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
    /// links to one file share one mark.
    pub(crate) fn of(path: &Path) -> Result<Place, Error> {
        let real = resolve(path)?;
        let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
            return Err(Error::unsuitable_error(
                path,
                "it names no file in a folder",
            ));
        };
        let place = Place {
            folder: openat(
                CWD,
                parent,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(|error| Error::io("open the folder", parent, error))?,
            name: name.to_owned(),
            path: real,
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

    /// Returns `.NAME.mark`, the name of the first mark while it is being written. Only the process
    /// that has locked the mark uses it.
    pub(crate) fn first_mark_name(&self) -> OsString {
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
        if self.stat(&file)?.st_nlink > 1 {
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

/// Returns the path without symbolic links; the file itself need not exist.
fn resolve(path: &Path) -> Result<PathBuf, Error> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other.map_err(|error| Error::io("find", path, error)),
    }
    if fs::symlink_metadata(path).is_ok() {
        let why = "it is a symbolic link to a missing file: create that file, or remove the link";
        return Err(Error::unsuitable_error(path, why));
    }
    let Some(name) = path.file_name() else {
        return Err(Error::unsuitable_error(path, "it names no file"));
    };
    // `components` would drop a slash at the end, which means a folder.
    if path.as_os_str().as_bytes().ends_with(b"/") {
        return Err(Error::unsuitable_error(path, "it names a folder"));
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let folder =
        fs::canonicalize(parent).map_err(|error| Error::io("find the folder", parent, error))?;
    Ok(folder.join(name))
}

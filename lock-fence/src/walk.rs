//! Follows a path to an open folder and a name in it, one component at a time.
//!
//! Every link is opened before it is examined and read, so nobody can exchange it in between. In a
//! folder that everybody may write, a link is followed only if the kernel would follow it: see
//! [`strangers`].

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::Errno;

use crate::error::Error;
use crate::strangers;

/// The number of links that are followed in one path, as the kernel has it.
const MAX_LINKS: usize = 40;

/// The place that a path leads to.
#[derive(Debug)]
pub(crate) struct Found {
    /// The folder, opened without the right to read it.
    pub folder: OwnedFd,
    /// The name in the folder. There need be nothing of this name.
    pub name: OsString,
    /// The path of the place, without links and dots.
    pub path: PathBuf,
}

/// Follows a path to its place.
///
/// # Errors
/// [`ErrorKind::Unsuitable`](crate::ErrorKind::Unsuitable) if the path names no file, or leads over
/// a link that is not followed; what the file system said.
pub(crate) fn walk(path: &Path) -> Result<Found, Error> {
    let mut walk = Walk {
        asked: path,
        folder: open_folder(CWD, OsStr::new(if path.is_absolute() { "/" } else { "." }))
            .map_err(|error| Error::io("find", path, error))?,
        real: match path.is_absolute() {
            true => PathBuf::from("/"),
            false => std::env::current_dir().map_err(|error| Error::io("find", path, error))?,
        },
        rest: Vec::new(),
        links: 0,
        ends_at_link: false,
        names_folder: false,
    };
    if path.as_os_str().is_empty() {
        return Err(Error::unsuitable_error(path, "it names no file"));
    }
    walk.push(path.as_os_str());
    walk.run()
}

/// A path that is followed in part.
struct Walk<'a> {
    asked: &'a Path,
    /// The folder that was reached.
    folder: OwnedFd,
    /// The path of this folder.
    real: PathBuf,
    /// The components that remain, the next one last.
    rest: Vec<OsString>,
    /// The number of links followed so far.
    links: usize,
    /// Whether the last component of the path was a link.
    ends_at_link: bool,
    /// Whether the path ends with a slash, which means a folder.
    names_folder: bool,
}

impl Walk<'_> {
    fn run(mut self) -> Result<Found, Error> {
        while let Some(component) = self.rest.pop() {
            if component == ".." {
                self.folder = self.open_folder(&component)?;
                self.real.pop();
                continue;
            }
            if !self.rest.is_empty() {
                match open_folder(&self.folder, &component) {
                    Ok(folder) => {
                        self.folder = folder;
                        self.real.push(component);
                        continue;
                    }
                    // Perhaps a link.
                    Err(Errno::NOTDIR | Errno::LOOP) => {}
                    Err(error) => return Err(self.no_folder(error)),
                }
            }
            if let Some(found) = self.examine(component)? {
                return Ok(found);
            }
        }
        self.end_in_folder()
    }

    /// Examines a component that is the last one, or no folder. Returns the place if it is reached,
    /// and `None` if the walk goes on.
    fn examine(&mut self, component: OsString) -> Result<Option<Found>, Error> {
        let is_last = self.rest.is_empty();
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match openat(&self.folder, &component, flags, Mode::empty()) {
            Ok(opened) => Some(opened),
            Err(Errno::NOENT) if is_last => None,
            Err(error) => return Err(Error::io("find", self.asked, error)),
        };
        let found = opened.as_ref().map(fstat).transpose();
        let found = found.map_err(|error| Error::io("examine", self.asked, error))?;
        let kind = found.map(|found| FileType::from_raw_mode(found.st_mode));
        match (kind, opened) {
            (Some(FileType::Symlink), Some(link)) => self.follow(&link, &component).map(|()| None),
            (None, _) if self.ends_at_link => {
                let why = "it is a symbolic link to a missing file: create that file, or remove \
                           the link";
                Err(Error::unsuitable_error(self.asked, why))
            }
            (None, _) if self.names_folder => {
                Err(Error::unsuitable_error(self.asked, "it names a folder"))
            }
            (Some(kind), _) if kind != FileType::Directory && (self.names_folder || !is_last) => {
                Err(Error::io("find", self.asked, Errno::NOTDIR))
            }
            // It has become a folder since we looked.
            (Some(_), _) if !is_last => {
                self.rest.push(component);
                Ok(None)
            }
            _ => Ok(Some(Found {
                folder: self
                    .folder
                    .try_clone()
                    .map_err(|e| Error::io("find", self.asked, e))?,
                path: self.real.join(&component),
                name: component,
            })),
        }
    }

    /// Puts the target of an open link in the place of the link.
    fn follow(&mut self, link: &OwnedFd, component: &OsStr) -> Result<(), Error> {
        let failed = |error: Errno| Error::io("find", self.asked, error);
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(failed(Errno::LOOP));
        }
        strangers::check_link(
            self.asked,
            &self.real.join(component),
            &fstat(&self.folder).map_err(failed)?,
            &fstat(link).map_err(failed)?,
        )?;
        let target = readlinkat(link, "", Vec::new()).map_err(failed)?;
        let target = OsStr::from_bytes(target.as_bytes());
        if target.as_bytes().starts_with(b"/") {
            self.folder = open_folder(CWD, OsStr::new("/")).map_err(failed)?;
            self.real = PathBuf::from("/");
        }
        self.ends_at_link |= self.rest.is_empty();
        self.push(target);
        Ok(())
    }

    /// Puts these components before those that remain.
    fn push(&mut self, path: &OsStr) {
        let bytes = path.as_bytes();
        if self.rest.is_empty() {
            self.names_folder |= bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b".";
        }
        let components = bytes.rsplit(|byte| *byte == b'/');
        let components = components.filter(|component| !component.is_empty() && *component != b".");
        self.rest
            .extend(components.map(|component| OsStr::from_bytes(component).to_owned()));
    }

    /// Returns the place of the folder that was reached, for a path that ends with dots.
    fn end_in_folder(self) -> Result<Found, Error> {
        let Some(name) = self.real.file_name().map(OsStr::to_owned) else {
            let why = "it names no file in a folder";
            return Err(Error::unsuitable_error(self.asked, why));
        };
        Ok(Found {
            folder: self.open_folder(OsStr::new(".."))?,
            name,
            path: self.real,
        })
    }

    fn open_folder(&self, name: &OsStr) -> Result<OwnedFd, Error> {
        open_folder(&self.folder, name).map_err(|error| self.no_folder(error))
    }

    fn no_folder(&self, error: Errno) -> Error {
        let folder = self.asked.parent().unwrap_or(self.asked);
        Error::io("find the folder", folder, error)
    }
}

/// Opens a folder to find names in it. `DIRECTORY` also has the system mount what is mounted at the
/// first use.
fn open_folder(at: impl std::os::fd::AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn place(path: &Path) -> PathBuf {
        walk(path).expect("a place").path
    }

    fn refusal(path: &Path) -> String {
        walk(path).expect_err("no place").to_string()
    }

    #[test]
    fn a_path_leads_where_the_system_says() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = dir.path().canonicalize().expect("there");
        fs::create_dir_all(root.join("a/b")).expect("made");
        fs::write(root.join("a/b/file"), "x").expect("writable");
        symlink("a/b", root.join("relative")).expect("made");
        symlink(root.join("a/"), root.join("absolute")).expect("made");
        symlink("../relative/./file", root.join("a/twice")).expect("made");
        for path in [
            "a/b/file",
            "a//b/./file",
            "a/b/../b/file",
            "relative/file",
            "relative/../twice",
            "absolute/b/file",
            "absolute/twice",
        ] {
            let path = root.join(path);
            let real = path.canonicalize().expect("there");
            assert_eq!(place(&path), real, "{}", path.display());
        }
        for path in ["a", "a/", "a/.", "a/b/..", "absolute", "relative/.."] {
            let path = root.join(path);
            let real = path.canonicalize().expect("there");
            assert_eq!(place(&path), real, "{}", path.display());
        }
        assert_eq!(place(&root.join("relative/new")), root.join("a/b/new"));
        let here = std::env::current_dir().expect("a folder");
        assert_eq!(place(Path::new("new")), here.join("new"));
        assert_eq!(place(Path::new("./src/../new")), here.join("new"));
        assert_eq!(place(Path::new(".")), here);
    }

    #[test]
    fn a_path_that_leads_nowhere_says_so() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = dir.path();
        fs::write(root.join("file"), "x").expect("writable");
        symlink("loop", root.join("loop")).expect("made");
        symlink("gone", root.join("dangling")).expect("made");
        symlink("gone/x", root.join("deep")).expect("made");
        for (path, why) in [
            ("file/", "Not a directory"),
            ("file/x", "Not a directory"),
            ("gone/x", "No such file"),
            ("deep", "No such file"),
            ("dangling/x", "No such file"),
            ("loop", "Too many levels"),
            ("loop/x", "Too many levels"),
            ("dangling", "a symbolic link to a missing file"),
            ("gone/", "names a folder"),
        ] {
            let said = refusal(&root.join(path));
            let folder = root.join(path).parent().expect("a folder").to_owned();
            let folder = folder.to_str().expect("text");
            assert!(
                said.contains(why) && said.contains(folder),
                "{path}: {said}"
            );
        }
        assert!(refusal(Path::new("/")).contains("names no file"));
        assert!(refusal(Path::new("/..")).contains("names no file"));
        assert!(refusal(Path::new("")).contains("names no file"));
    }
}

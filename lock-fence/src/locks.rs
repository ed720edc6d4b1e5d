//! Locks of files: the name of the lock comes from the path, and the guard changes the file.

use std::error::Error as StdError;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use lock_core::{Guard, LockName, Locks, Mutex, Release, State, background};

use crate::error::{Error, ErrorKind};
use crate::file::FencedFile;
use crate::place::Place;
use crate::token::FencingToken;

/// The mapping from the path of a file to the name of its lock, the same on every machine.
///
/// A path without symbolic links, such as `/srv/ledger.json`, is the lock `file/srv/ledger.json`.
/// Where machines mount one folder in different places, each machine names the mount: with
/// `mount("/mnt/nfs7", "accounts")` on one and `mount("/data", "accounts")` on the other, both call
/// the file `ledger.json` in it `share/accounts/ledger.json`. A machine that names no mount, or
/// another one, uses another lock, and the fence refuses its tokens.
#[derive(Debug, Clone, Default)]
pub struct PathNames {
    mounts: Vec<(PathBuf, String)>,
}

impl PathNames {
    /// Names the files in this folder by this name instead of the folder's path. The innermost
    /// folder counts.
    ///
    /// ```
    /// use lock_fence::PathNames;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let folder = dir.path();
    /// let names = PathNames::default().mount(folder, "accounts");
    /// let name = names.lock_name(folder.join("ledger.json"))?;
    /// assert_eq!(name.as_str(), "share/accounts/ledger.json");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn mount(mut self, folder: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        self.mounts.push((folder.into(), name.into()));
        self
    }

    /// Returns the name of the lock of this file. The file need not exist, but its folder must.
    /// Reads the disk.
    ///
    /// # Errors
    /// [`ErrorKind::Unsuitable`] if the path is not UTF-8 or too long for a name: use
    /// [`file_named`](FileLocks::file_named) then; [`ErrorKind::Io`] as the file system reports it.
    pub fn lock_name(&self, path: impl AsRef<Path>) -> Result<LockName, Error> {
        let place = Place::of(path.as_ref())?;
        let path = place.path();
        let mut segments = vec!["file".to_owned()];
        let mut rest = path;
        let mut innermost = 0;
        for (folder, name) in &self.mounts {
            let folder = folder
                .canonicalize()
                .map_err(|error| Error::io("find the folder", folder, error))?;
            let depth = folder.components().count();
            if let Ok(inside) = path.strip_prefix(&folder)
                && depth > innermost
            {
                innermost = depth;
                rest = inside;
                segments = vec!["share".to_owned(), name.clone()];
            }
        }
        for component in rest.components() {
            if let Component::Normal(segment) = component {
                let why =
                    "its path is not UTF-8, as a lock's name is: give the lock a name of its own";
                let text = segment
                    .to_str()
                    .ok_or_else(|| Error::unsuitable_error(path, why))?;
                segments.push(text.to_owned());
            }
        }
        LockName::new(segments.join("/")).map_err(|error| {
            let why =
                "no name for its lock can be made of its path: give the lock a name of its own";
            Error::unsuitable_error(path, why).because(error)
        })
    }
}

/// Locks of files, as methods of [`Locks`].
pub trait FileLocks {
    /// Returns the lock of the file at this path, named by [`PathNames`] without mounts. Reads the
    /// disk.
    ///
    /// # Errors
    /// As [`PathNames::lock_name`].
    fn file(&self, path: impl AsRef<Path>) -> Result<FileLock, Error>;

    /// Returns the lock of this name for the file at this path. All programs that change the file
    /// must give the same name, such as one that [`PathNames`] with mounts makes. Does no I/O.
    ///
    /// # Errors
    /// As [`Locks::mutex`].
    fn file_named<N>(
        &self,
        name: N,
        path: impl Into<PathBuf>,
    ) -> Result<FileLock, lock_core::Error>
    where
        N: TryInto<LockName>,
        lock_core::Error: From<N::Error>;
}

impl FileLocks for Locks {
    fn file(&self, path: impl AsRef<Path>) -> Result<FileLock, Error> {
        let path = path.as_ref();
        let name = PathNames::default().lock_name(path)?;
        self.file_named(name, path)
            .map_err(|error| Error::unsuitable_error(path, "it has no lock").because(error))
    }

    fn file_named<N>(&self, name: N, path: impl Into<PathBuf>) -> Result<FileLock, lock_core::Error>
    where
        N: TryInto<LockName>,
        lock_core::Error: From<N::Error>,
    {
        Ok(FileLock {
            mutex: self.mutex(name)?,
            path: path.into(),
        })
    }
}

/// A lock whose holder changes one file.
#[derive(Debug, Clone)]
pub struct FileLock {
    mutex: Mutex,
    path: PathBuf,
}

impl FileLock {
    /// Returns the lock's name.
    pub fn name(&self) -> &LockName {
        self.mutex.name()
    }

    /// Waits for the lock without a limit, as [`Mutex::acquire`] does.
    ///
    /// # Errors
    /// As [`Mutex::acquire`].
    pub async fn acquire(&self) -> Result<FileGuard, lock_core::Error> {
        self.mutex.acquire().await.map(|guard| self.guard(guard))
    }

    /// Takes the lock if it is free, as [`Mutex::try_acquire`] does; `None` if it is not.
    ///
    /// # Errors
    /// As [`Mutex::try_acquire`].
    pub async fn try_acquire(&self) -> Result<Option<FileGuard>, lock_core::Error> {
        let guard = self.mutex.try_acquire().await?;
        Ok(guard.map(|guard| self.guard(guard)))
    }

    /// Waits for the lock at most this long, as [`Mutex::acquire_timeout`] does; `None` if others
    /// held it all the time.
    ///
    /// # Errors
    /// As [`Mutex::acquire_timeout`].
    pub async fn acquire_timeout(
        &self,
        limit: Duration,
    ) -> Result<Option<FileGuard>, lock_core::Error> {
        let guard = self.mutex.acquire_timeout(limit).await?;
        Ok(guard.map(|guard| self.guard(guard)))
    }

    fn guard(&self, guard: Guard) -> FileGuard {
        FileGuard {
            guard,
            path: self.path.clone(),
        }
    }
}

/// The held lock of a file, with the changes that its holder may make. Changes run on a thread of
/// their own, so any executor can await them.
///
/// # Cancel safety
/// A change that is dropped midway is done whole or not at all. It may still happen after the guard
/// is gone; then the fence decides by its token.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct FileGuard {
    guard: Guard,
    path: PathBuf,
}

impl FileGuard {
    /// Returns the guard of the lock, which has the token, the state and the deadline.
    pub fn lock(&self) -> &Guard {
        &self.guard
    }

    /// Replaces the content of the file, as [`FencedFile::replace`] does.
    ///
    /// # Errors
    /// As there; [`ErrorKind::Lost`] if the lock is known to be lost.
    pub async fn replace(&self, content: impl Into<Vec<u8>>) -> Result<(), Error> {
        let content = content.into();
        self.change(move |file| file.replace(&content)).await
    }

    /// Appends a record to the file, as [`FencedFile::append`] does.
    ///
    /// # Errors
    /// As there; [`ErrorKind::Lost`] if the lock is known to be lost.
    pub async fn append(&self, record: impl Into<Vec<u8>>) -> Result<(), Error> {
        let record = record.into();
        self.change(move |file| file.append(&record)).await
    }

    /// Changes the content of the file, as [`FencedFile::edit`] does.
    ///
    /// # Errors
    /// As there; [`ErrorKind::Lost`] if the lock is known to be lost.
    pub async fn edit<F, E>(&self, change: F) -> Result<(), Error>
    where
        F: FnOnce(&[u8]) -> Result<Vec<u8>, E> + Send + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.change(move |file| file.edit(change)).await
    }

    /// Gives the lock back, and returns what the coordinator found: see [`Guard::release`].
    ///
    /// # Errors
    /// The kinds of [`Guard::release`].
    ///
    /// # Cancel safety
    /// Dropped at any await, the release goes on in the background.
    pub async fn release(self) -> Result<Release, lock_core::Error> {
        self.guard.release().await
    }

    async fn change<F>(&self, change: F) -> Result<(), Error>
    where
        F: FnOnce(&FencedFile) -> Result<(), Error> + Send + 'static,
    {
        // The fence would refuse the change only if another holder has written since.
        if let State::Lost(reason) = self.guard.state() {
            let message = format!(
                "the lock {:?} is lost ({reason}): {} was not changed",
                self.guard.name(),
                self.path.display()
            );
            return Err(Error::new(ErrorKind::Lost, message));
        }
        let file = FencedFile::new(&self.path, FencingToken::of(&self.guard));
        match background::block(move || change(&file)).await {
            Ok(outcome) => outcome,
            Err(short) => Err(Error::io(
                "change",
                &self.path,
                std::io::Error::other(short),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_has_one_name_wherever_it_is_mounted() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = dir.path().canonicalize().expect("there");
        std::fs::create_dir_all(root.join("here/deep")).expect("made");
        std::os::unix::fs::symlink("here", root.join("there")).expect("made");
        let names = PathNames::default();
        let name = |names: &PathNames, path: &str| {
            let name = names.lock_name(root.join(path)).expect("a name");
            name.to_string()
        };
        let plain = name(&names, "here/ledger");
        assert_eq!(plain, format!("file{}/here/ledger", root.display()));
        assert_eq!(name(&names, "there/deep/../ledger"), plain);

        let mounted = PathNames::default()
            .mount(root.join("there"), "accounts")
            .mount(root.join("here/deep"), "inner");
        assert_eq!(name(&mounted, "here/ledger"), "share/accounts/ledger");
        assert_eq!(name(&mounted, "here/deep/x"), "share/inner/x");
        assert_eq!(name(&mounted, "x"), format!("file{}/x", root.display()));
    }

    #[test]
    fn a_path_that_makes_no_name_is_refused_with_a_remedy() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().expect("a temporary folder");
        for name in [&b"\xff"[..], b"a\nb"] {
            let path = dir.path().join(std::ffi::OsStr::from_bytes(name));
            let error = PathNames::default().lock_name(path).expect_err("no name");
            assert_eq!(error.kind(), ErrorKind::Unsuitable);
            assert!(error.to_string().contains("a name of its own"), "{error}");
        }
    }
}

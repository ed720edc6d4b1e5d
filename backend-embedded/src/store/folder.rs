//! The data folder: one owner, one store file, its journal and its mark.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use redb::StorageBackend;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::ack_mark::{self, AckMark};
use super::file::StoreFile;
use super::journal;
use super::location::FileLocation;
use super::medium::{Medium, is_no_space};
use super::owner_name::{self, OwnerNames};
use crate::error::Error;
use crate::evidence::{LockStamp, PreviousRun};
use crate::machine::Snapshot;

const STORE: &str = "store.redb";
/// A store that is being created. It is renamed to `STORE` when it is complete.
const NEW_STORE: &str = "store.redb.new";
/// A store that is being restored from a snapshot. It is renamed to `STORE` when it is complete.
const RESTORING: &str = "store.redb.restoring";
const JOURNAL: &str = "JOURNAL";
const MARK: &str = "ACKED";
/// The owner of the folder has this file locked. The file holds the owner's process id.
pub(crate) const LOCK: &str = "LOCK";
/// How long a dropped coordinator of this process may take to release its folder.
const OWN_RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to try again if the folder is replaced while it is claimed.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait before the next try when the system is short of a resource.
pub(super) const SHORTAGE_RETRY_DELAY: Duration = Duration::from_millis(100);

/// A claimed data folder. Dropping it releases the folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    owner_names: OwnerNames,
    /// The location of the lock, and so of the folder.
    location: FileLocation,
    /// The locations of the other files, once they are open.
    files: OnceLock<[FileLocation; 3]>,
    /// The stamp of the lock as it was found; `None` in a new folder.
    found: Option<LockStamp>,
    written: LockStamp,
    /// Holds the lock while it is open. The kernel releases the lock when the process ends, so
    /// there are no stale locks.
    _lock: File,
}

impl Folder {
    /// Creates the folder if absent, and claims it. This succeeds or fails at once, except that it
    /// waits two seconds for a coordinator of this process to release the folder. When this
    /// returns, the process that served an earlier folder at this path has ended.
    pub(crate) fn claim(path: &Path) -> Result<Folder, Error> {
        // The path must keep its meaning when the working folder changes.
        let path = std::path::absolute(path).map_err(|error| to_error(path, error))?;
        let started = Instant::now();
        loop {
            let (lock, location) = acquire_lock(&path)?;
            let owner_names = OwnerNames::acquire(&location)?;
            match location.check() {
                Err(error) if started.elapsed() > CLAIM_TIMEOUT => return Err(error),
                // The folder was replaced before it was claimed.
                Err(_) => continue,
                Ok(()) => {}
            }
            let at_lock = |error| to_error(&path.join(LOCK), error);
            let found = LockStamp::read(&lock).map_err(at_lock)?;
            let is_new = lock.metadata().map_err(at_lock)?.len() == 0;
            write_owner_pid(&lock).map_err(at_lock)?;
            return Ok(Folder {
                owner_names,
                location,
                files: OnceLock::new(),
                found: (!is_new).then_some(found),
                written: LockStamp::read(&lock).map_err(at_lock)?,
                _lock: lock,
                path,
            });
        }
    }

    /// Fails if the folder is no longer the one at its path.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.location.check()
    }

    /// Fails if the folder or one of its files is no longer at its path. Otherwise it replies to
    /// newcomers who found another folder at the path and query the owner.
    pub(crate) fn check_and_reply(&self) -> Result<(), Error> {
        let queries = self.owner_names.accept_queries();
        self.check()?;
        for file in self.files.get().into_iter().flatten() {
            file.check()?;
        }
        owner_name::reply(queries, self.location.file_id());
        Ok(())
    }

    /// Waits until a newcomer queries the owner, the other end of `wake` is closed, or the time is
    /// over.
    pub(crate) fn wait(&self, wake: &UnixStream, timeout: Duration) {
        let fds = self.owner_names.poll_fds();
        let mut ready: Vec<_> = fds
            .map(|name| PollFd::from_borrowed_fd(name, PollFlags::IN))
            .collect();
        ready.push(PollFd::new(wake, PollFlags::IN));
        let timeout = Timespec::try_from(timeout).ok();
        match poll(&mut ready, timeout.as_ref()) {
            // A signal may end the wait early.
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => std::thread::sleep(SHORTAGE_RETRY_DELAY),
        }
    }

    /// Reads what the previous coordinator left in the folder.
    pub(crate) fn previous_run(&self) -> PreviousRun {
        PreviousRun::read(&self.path, self.found, self.written)
    }

    /// Opens the store in the folder, and creates an empty one if there never was one.
    pub(crate) fn medium(self: Arc<Self>) -> Result<FolderMedium, Error> {
        let store = self.path.join(STORE);
        let restoring = self.path.join(RESTORING);
        let mark_path = self.path.join(MARK);
        let damaged = |detail: &str| Error::Damaged {
            path: store.clone(),
            detail: detail.to_string(),
        };
        match std::fs::metadata(&store) {
            // redb would take an empty file for a new store.
            Ok(metadata) if metadata.len() == 0 => return Err(damaged("the file is empty")),
            Ok(_) => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(to_error(&store, error));
            }
            Err(_) if mark_path.exists() => return Err(damaged("the file is missing")),
            // An empty store would take the place of the one that was to be restored.
            Err(_) if restoring.exists() => {
                return Err(Error::Damaged {
                    path: restoring,
                    detail: "a restore into this folder has not ended".to_string(),
                });
            }
            Err(_) => self.create_store(NEW_STORE, &Snapshot::empty())?,
        }
        let at_mark = |error| to_error(&mark_path, error);
        let mark = private_file()
            .truncate(false)
            .open(&mark_path)
            .map_err(at_mark)?;
        let journal = self.path.join(JOURNAL);
        let journal = open_journal(&journal).map_err(|error| to_error(&journal, error))?;
        self.sync()?;
        let file = StoreFile::open(&store).map_err(|error| to_error(&store, error))?;
        let place = |name, file| {
            let place = FileLocation::of(&self.path, name, file);
            place.map_err(|error| to_error(&self.path.join(name), error))
        };
        let places = [
            place(STORE, file.as_file())?,
            place(JOURNAL, journal.as_file())?,
            place(MARK, &mark)?,
        ];
        // Cannot be set already: a folder is opened as a medium only once.
        let _ = self.files.set(places);
        Ok(FolderMedium {
            journal,
            file,
            store,
            mark,
            folder: self,
        })
    }

    /// Creates a store with this state under another name, and then renames it, so that a crash leaves
    /// no store or a complete one.
    fn create_store(&self, name: &str, state: &Snapshot) -> Result<(), Error> {
        let new = self.path.join(name);
        let at_new = |error| to_error(&new, error);
        private_file().truncate(true).open(&new).map_err(at_new)?;
        let file = StoreFile::open(&new).map_err(at_new)?;
        super::create(Box::new(file), &new, state)?;
        std::fs::rename(&new, self.path.join(STORE)).map_err(at_new)?;
        self.sync()
    }

    /// Returns a file of the store in the folder, if there is one.
    #[cfg(feature = "server")]
    pub(crate) fn find_store(&self) -> Option<PathBuf> {
        let files = [STORE, JOURNAL, MARK].map(|name| self.path.join(name));
        files.into_iter().find(|path| path.exists())
    }

    /// Creates the store with this state, in a folder that has none. If this fails, or the process is
    /// killed meanwhile, no coordinator opens what is there.
    #[cfg(feature = "server")]
    pub(crate) fn restore(&self, state: &Snapshot) -> Result<(), Error> {
        let restored = self.create_store(RESTORING, state);
        if restored.is_err() {
            // Its name stays, so that no coordinator makes an empty store here. Its room is given
            // back, as far as the disk allows that.
            let _ = private_file()
                .truncate(true)
                .open(self.path.join(RESTORING));
        }
        restored
    }

    fn sync(&self) -> Result<(), Error> {
        let synced = File::open(&self.path).and_then(|folder| folder.sync_all());
        synced.map_err(|error| to_error(&self.path, error))
    }
}

/// Locks a folder, which is created if absent.
fn acquire_lock(path: &Path) -> Result<(File, FileLocation), Error> {
    if !path.is_dir() {
        create_folder(path).map_err(|error| to_error(path, error))?;
    }
    let lock_path = path.join(LOCK);
    let at_lock = |error| to_error(&lock_path, error);
    let mut lock = private_file()
        .truncate(false)
        .open(&lock_path)
        .map_err(at_lock)?;
    let started = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(at_lock(error)),
            Err(TryLockError::WouldBlock) => {}
        }
        let mut pid = String::new();
        // The process id is absent only while the owner is about to write it.
        let _ = lock.rewind().and_then(|()| lock.read_to_string(&mut pid));
        let pid = pid.trim().parse().ok();
        // A dropped coordinator of this process records what is pending before it releases the
        // lock.
        if pid != Some(std::process::id()) || started.elapsed() > OWN_RELEASE_TIMEOUT {
            let path = path.to_path_buf();
            return Err(Error::AlreadyOpen { path, pid });
        }
        std::thread::sleep(OWN_RELEASE_TIMEOUT / 400);
    }
    let location = FileLocation::of(path, LOCK, &lock).map_err(at_lock)?;
    Ok((lock, location))
}

/// Writes this process's id into the lock.
fn write_owner_pid(mut lock: &File) -> io::Result<()> {
    let pid = format!("{}\n", std::process::id());
    lock.rewind()?;
    lock.set_len(0)?;
    lock.write_all(pid.as_bytes())
}

/// Opens the journal. Creates it if absent, and extends it if it is too short.
fn open_journal(path: &Path) -> io::Result<StoreFile> {
    let file = private_file().truncate(false).open(path)?;
    let len = file.metadata()?.len();
    let lacking = journal::LENGTH.saturating_sub(usize::try_from(len).unwrap_or(usize::MAX));
    file.write_all_at(&vec![0; lacking], len)?;
    file.sync_all()?;
    StoreFile::open(path)
}

/// Creates a folder and its parents for this user alone, and syncs it.
fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    match path.parent() {
        Some(parent) if parent != Path::new("") => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

fn private_file() -> OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

pub(super) fn to_error(path: &Path, error: io::Error) -> Error {
    let (path, no_space) = (path.to_path_buf(), is_no_space(&error));
    let source = Arc::new(error);
    match no_space {
        true => Error::NoSpace { path, source },
        false => Error::Io { path, source },
    }
}

/// The files of a claimed folder.
#[derive(Debug)]
pub(crate) struct FolderMedium {
    store: PathBuf,
    file: StoreFile,
    journal: StoreFile,
    mark: File,
    folder: Arc<Folder>,
}

impl FolderMedium {
    fn mark_path(&self) -> PathBuf {
        self.folder.path.join(MARK)
    }
}

impl Medium for FolderMedium {
    fn path(&self) -> &Path {
        &self.store
    }

    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.file.try_clone()?))
    }

    fn open_journal(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.journal.try_clone()?))
    }

    fn size(&self) -> u64 {
        self.file.len().unwrap_or(0)
    }

    fn reserve(&self) -> io::Result<()> {
        self.file.reserve()
    }

    fn check_location(&self) -> Result<(), Error> {
        self.folder.check()
    }

    fn load_mark(&self) -> Result<Option<AckMark>, Error> {
        let path = self.mark_path();
        let len = self
            .mark
            .metadata()
            .map_err(|error| to_error(&path, error))?
            .len();
        if len == 0 {
            return Ok(None);
        }
        let damaged = || Error::Damaged {
            path: path.clone(),
            detail: "its content is not a mark".to_string(),
        };
        if len != ack_mark::LENGTH as u64 {
            return Err(damaged());
        }
        let mut bytes = [0; ack_mark::LENGTH];
        (self.mark.read_exact_at(&mut bytes, 0)).map_err(|error| to_error(&path, error))?;
        AckMark::decode(&bytes).map(Some).ok_or_else(damaged)
    }

    fn save_mark(&self, mark: AckMark) -> Result<(), Error> {
        let written = self.mark.write_all_at(&mark.encode(), 0);
        written.map_err(|error| to_error(&self.mark_path(), error))
    }

    fn sync_mark(&self) -> Result<(), Error> {
        let synced = self.mark.sync_all();
        synced.map_err(|error| to_error(&self.mark_path(), error))?;
        self.folder.sync()
    }
}

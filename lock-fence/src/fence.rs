//! A durable high-water mark for a resource, checked and raised under a lock of the operating
//! system.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind};
use crate::first_mark::FirstMark;
use crate::mark::{self, Mark, Pending};
use crate::place::Place;
use crate::token::FencingToken;

/// The longest time that a call waits for another process that is changing the resource. A change
/// takes milliseconds; a process that takes longer is stopped, or its disk hangs.
pub const BUSY_LIMIT: Duration = Duration::from_secs(30);

const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// A fence around a resource: it refuses every token lower than one that it has admitted, in any
/// process, also after a crash.
///
/// The mark is the file `.NAME.fence` beside the path that the fence is made with, which need not
/// exist itself: a fence can stand for anything. The mark is as trustworthy as its folder: a
/// process that removes the mark takes the fence down.
///
/// All calls block on the disk, and on another process that is inside at that moment.
#[derive(Debug, Clone)]
pub struct Fence {
    path: PathBuf,
}

impl Fence {
    /// Returns the fence of this resource. Does no I/O.
    ///
    /// ```
    /// use lock_fence::{Fence, FencingToken};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("printer");
    /// let fence = Fence::new(path);
    /// let later: FencingToken = "v1:exclusive:43::printer".parse()?;
    /// let earlier: FencingToken = "v1:exclusive:42::printer".parse()?;
    /// fence.admit(&later)?;
    /// assert!(fence.admit(&earlier).is_err_and(|error| error.is_stale()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Fence { path: path.into() }
    }

    /// Admits a token, and from then on no lower one. The mark is durable when this returns.
    ///
    /// The caller's change of the resource comes after this check, and the caller may be paused in
    /// between. Use [`enter`](Fence::enter) where the resource cannot check the token itself.
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] names both tokens; [`OtherLock`](ErrorKind::OtherLock) and
    /// [`Shared`](ErrorKind::Shared) for a token that cannot be compared or must not write;
    /// [`Untrusted`](ErrorKind::Untrusted) if the mark is damaged; [`Busy`](ErrorKind::Busy) after
    /// [`BUSY_LIMIT`]; otherwise what the file system said.
    pub fn admit(&self, token: &FencingToken) -> Result<(), Error> {
        self.enter(token).map(drop)
    }

    /// Admits a token and keeps all other tokens out until the returned value is dropped: the
    /// changes made meanwhile are ordered by token. Keep them short. A process that dies inside
    /// leaves the fence open for others at once.
    ///
    /// # Errors
    /// As [`admit`](Fence::admit).
    pub fn enter(&self, token: &FencingToken) -> Result<Admitted, Error> {
        let place = Place::of(&self.path)?;
        let section = Section::open(&place, token)?;
        // The unfinished append belongs to the file, which this call does not open.
        section.raise(section.pending_append())?;
        Ok(Admitted { _section: section })
    }

    /// Returns the highest token admitted so far, with its lock; `None` before the first one.
    ///
    /// # Errors
    /// As [`admit`](Fence::admit), except for the errors about the token.
    pub fn highest(&self) -> Result<Option<FencingToken>, Error> {
        let place = Place::of(&self.path)?;
        Ok(read(&place)?.map(|found| FencingToken::new(found.mark.lock, found.mark.token)))
    }
}

/// An admitted token. No other token is admitted while this value lives.
#[derive(Debug)]
#[must_use = "other tokens are admitted when it is dropped"]
pub struct Admitted {
    _section: Section,
}

/// A critical section around check and change: the mark is open, and this process has locked it.
#[derive(Debug)]
pub(crate) struct Section {
    file: File,
    path: PathBuf,
    token: FencingToken,
    seen: Option<Mark>,
    /// Present if no token was admitted before.
    first: Option<FirstMark>,
}

impl Section {
    /// Waits for the mark, creates it if there is none, and checks the token against it. Changes
    /// nothing else.
    pub(crate) fn open(place: &Place, token: &FencingToken) -> Result<Section, Error> {
        token.check_writes()?;
        let path = place.mark_path();
        let file = lock(
            place,
            OFlags::RDWR,
            FlockOperation::NonBlockingLockExclusive,
        )?;
        let file = match file {
            Some(file) => file,
            None => {
                create(place)?;
                lock(
                    place,
                    OFlags::RDWR,
                    FlockOperation::NonBlockingLockExclusive,
                )?
                .ok_or_else(|| Error::io("open", &path, io::ErrorKind::NotFound))?
            }
        };
        let seen = load(&file, &path)?;
        if let Some(seen) = &seen {
            check_token(seen, token, place)?;
        }
        let first = match seen {
            Some(_) => None,
            None => Some(FirstMark::new(place)?),
        };
        Ok(Section {
            file,
            path,
            token: token.clone(),
            seen,
            first,
        })
    }

    /// Returns the append that was under way when its process died.
    pub(crate) fn pending_append(&self) -> Option<Pending> {
        self.seen.as_ref()?.pending
    }

    /// Raises the mark to our token, durably, and records the append that is to follow. No part of
    /// a change may be visible before this.
    ///
    /// Writes the mark even if it seems to be there already: an earlier write may have reached only
    /// this machine's memory.
    pub(crate) fn raise(&self, pending: Option<Pending>) -> Result<(), Error> {
        if let Some(first) = &self.first
            && first.written().is_none()
            && first.write(&self.file, &self.mark(pending).encode())?
        {
            return Ok(());
        }
        self.write(pending)?;
        rustix::fs::fdatasync(self.file())
            .map_err(|error| Error::io("make durable", &self.path, error))
    }

    /// Records that the append is done. If this record is lost, the next append finds out from the
    /// file.
    pub(crate) fn finish_append(&self) -> Result<(), Error> {
        self.write(None)
    }

    fn write(&self, pending: Option<Pending>) -> Result<(), Error> {
        let bytes = self.mark(pending).encode();
        // The name of the lock, which follows the line, stays as it is.
        let bytes = match self.seen {
            Some(_) => &bytes[..mark::LINE_BYTES],
            None => &bytes[..],
        };
        self.file()
            .write_all_at(bytes, 0)
            .map_err(|error| Error::io("write", &self.path, error))
    }

    fn mark(&self, pending: Option<Pending>) -> Mark {
        Mark {
            lock: self.token.lock.clone(),
            token: self.token.token,
            pending,
        }
    }

    /// Returns the file of the mark.
    fn file(&self) -> &File {
        let first = self.first.as_ref().and_then(FirstMark::written);
        first.unwrap_or(&self.file)
    }
}

fn check_token(seen: &Mark, token: &FencingToken, place: &Place) -> Result<(), Error> {
    if seen.lock != token.lock {
        return Err(Error::new(
            ErrorKind::OtherLock,
            format!(
                "{} is fenced by the lock {:?}, and this is a token of {:?}: use the one lock for \
                 it everywhere, or remove {} when nobody writes",
                place.path().display(),
                seen.lock,
                token.lock,
                place.mark_path().display()
            ),
        ));
    }
    if token.token < seen.token {
        return Err(token.stale(&place.path().display().to_string(), seen.token));
    }
    Ok(())
}

/// A mark that is being read. Nobody changes it, or the resource, while this value lives.
#[derive(Debug)]
pub(crate) struct Reading {
    _locked: File,
    pub mark: Mark,
}

/// Reads the mark without the right to change it; `None` if no token was admitted yet.
pub(crate) fn read(place: &Place) -> Result<Option<Reading>, Error> {
    let Some(file) = lock(place, OFlags::RDONLY, FlockOperation::NonBlockingLockShared)? else {
        return Ok(None);
    };
    let mark = load(&file, &place.mark_path())?;
    Ok(mark.map(|mark| Reading {
        _locked: file,
        mark,
    }))
}

/// Opens and locks the mark; `None` if there is none. Waits for others at most [`BUSY_LIMIT`].
pub(crate) fn lock(
    place: &Place,
    access: OFlags,
    operation: FlockOperation,
) -> Result<Option<File>, Error> {
    let path = place.mark_path();
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(place.folder(), place.mark_name(), flags, Mode::empty());
        let file = match opened {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(Error::io("open", &path, error)),
        };
        match rustix::fs::flock(&file, operation) {
            // A mark that was removed while we waited for its lock is no mark any more: try again.
            Ok(()) if is_current(place, &file)? => return Ok(Some(file)),
            Ok(()) | Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(Error::io("lock", &path, error)),
        }
        if started.elapsed() >= BUSY_LIMIT {
            return Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "another process has been changing {} for more than {BUSY_LIMIT:?}: if it is \
                     stopped, continue or end it (`fuser {}` names it)",
                    place.path().display(),
                    path.display()
                ),
            ));
        }
        std::thread::sleep(pause.mul_f64(0.5 + fastrand::f64()));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Returns whether the open file is still the one that the mark's name leads to.
fn is_current(place: &Place, file: &File) -> Result<bool, Error> {
    let found = rustix::fs::statat(place.folder(), place.mark_name(), AtFlags::SYMLINK_NOFOLLOW);
    let named = match found {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(Error::io("examine", &place.mark_path(), error)),
    };
    let open = place.stat(file)?;
    Ok((open.st_dev, open.st_ino) == (named.st_dev, named.st_ino))
}

/// Creates an empty mark, which means that no token was admitted yet. Users who may write the file
/// may write its mark.
fn create(place: &Place) -> Result<(), Error> {
    let path = place.mark_path();
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
    let file = match rustix::fs::openat(place.folder(), place.mark_name(), flags, mode) {
        Ok(fd) => File::from(fd),
        // Another process has just created it.
        Err(Errno::EXIST) => return Ok(()),
        Err(error) => return Err(Error::io("make", &path, error)),
    };
    let protected = rustix::fs::statat(place.folder(), place.name(), AtFlags::SYMLINK_NOFOLLOW);
    if let Ok(stat) = protected
        && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
    {
        copy_permissions(&file, &stat)
            .map_err(|error| Error::io("set the permissions of", &path, error))?;
    }
    place.sync_folder()
}

/// Gives the mark the owner, the group and the permissions of the file that it protects.
pub(crate) fn copy_permissions(mark: &File, protected: &Stat) -> Result<(), Errno> {
    use rustix::fs::{Gid, Uid};
    let owner = Uid::from_raw(protected.st_uid);
    let group = Gid::from_raw(protected.st_gid);
    match rustix::fs::fchown(mark, Some(owner), Some(group)) {
        // Only the superuser may give files away. For others the permissions have to suffice.
        Ok(()) | Err(Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let bits = Mode::from_raw_mode(protected.st_mode) & Mode::from_raw_mode(0o666);
    rustix::fs::fchmod(mark, bits)
}

fn load(file: &File, path: &Path) -> Result<Option<Mark>, Error> {
    let mut bytes = vec![0; mark::MAX_BYTES + 1];
    let mut len = 0;
    while len < bytes.len() {
        match file.read_at(&mut bytes[len..], len as u64) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", path, error)),
        }
    }
    if len == 0 {
        return Ok(None);
    }
    Mark::decode(&bytes[..len]).map(Some).ok_or_else(|| {
        Error::new(
            ErrorKind::Untrusted,
            format!(
                "the mark {} is damaged, or of a later version, so the highest token seen is not \
                 known. When no earlier holder can still write, remove it; the next write creates \
                 it again",
                path.display()
            ),
        )
    })
}

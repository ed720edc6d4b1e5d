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
use crate::mark::{self, Mark, Pending};
use crate::place::Place;
use crate::token::FencingToken;

/// How long a process that is in the middle of a change is waited for. A change takes
/// milliseconds; a process that takes longer is stopped, or its disk is.
pub const BUSY_LIMIT: Duration = Duration::from_secs(30);

const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// A fence around a resource: it refuses a token lower than one it has admitted, in whatever
/// process, before or after whatever crash.
///
/// The mark is the file `.NAME.fence` beside the path that the fence is made with, which need not
/// exist itself: a fence can stand for anything. The mark is trusted as far as the folder is:
/// whoever removes it takes the fence down.
///
/// All calls block on the disk, and on another process that is inside at that moment.
#[derive(Debug, Clone)]
pub struct Fence {
    path: PathBuf,
}

impl Fence {
    /// The fence of this resource. Does no I/O.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Fence { path: path.into() }
    }

    /// Admits a token, and from then on no lower one. The mark is durable when it answers.
    ///
    /// What the caller then does to the resource comes after the check, and a pause may lie
    /// between: where the resource cannot check by itself, use [`enter`](Fence::enter).
    ///
    /// # Errors
    /// [`ErrorKind::Stale`] names both tokens; [`OtherLock`](ErrorKind::OtherLock) and
    /// [`Shared`](ErrorKind::Shared) for a token that cannot be compared or must not write;
    /// [`Untrusted`](ErrorKind::Untrusted) if the mark is damaged; [`Busy`](ErrorKind::Busy) after
    /// [`BUSY_LIMIT`]; otherwise what the file system said.
    pub fn admit(&self, token: &FencingToken) -> Result<(), Error> {
        self.enter(token).map(drop)
    }

    /// Admits a token and keeps all others out until the answer is dropped: what is done meanwhile
    /// is ordered by token. Keep it short; a process that dies inside is out at once.
    ///
    /// # Errors
    /// As [`admit`](Fence::admit).
    pub fn enter(&self, token: &FencingToken) -> Result<Admitted, Error> {
        let place = Place::of(&self.path)?;
        let section = Section::open(&place, token)?;
        // Not ours to end.
        section.raise(section.unfinished())?;
        Ok(Admitted { _section: section })
    }

    /// The highest token admitted so far, with its lock; `None` if there was none yet.
    ///
    /// # Errors
    /// As [`admit`](Fence::admit), but for the token's.
    pub fn highest(&self) -> Result<Option<FencingToken>, Error> {
        let place = Place::of(&self.path)?;
        Ok(read(&place)?.map(|found| FencingToken::new(found.mark.lock, found.mark.token)))
    }
}

/// A token that was admitted; while this lives no other is.
#[derive(Debug)]
#[must_use = "others are let in when it is dropped"]
pub struct Admitted {
    _section: Section,
}

/// The moment of check and change: the mark is open, and locked for us.
#[derive(Debug)]
pub(crate) struct Section {
    file: File,
    path: PathBuf,
    token: FencingToken,
    seen: Option<Mark>,
}

impl Section {
    /// Waits for the mark, makes it if there is none, and checks the token against it. Changes
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
            check(seen, token, place)?;
        }
        Ok(Section {
            file,
            path,
            token: token.clone(),
            seen,
        })
    }

    /// The append that was under way when its process died.
    pub(crate) fn unfinished(&self) -> Option<Pending> {
        self.seen.as_ref()?.pending
    }

    /// Raises the mark to our token, durably, and notes the append that is to follow. Nothing may be
    /// visible of a change before this.
    ///
    /// It writes also what seems to be there: an earlier write may have come no further than to
    /// this machine's memory.
    pub(crate) fn raise(&self, pending: Option<Pending>) -> Result<(), Error> {
        self.write(pending)?;
        rustix::fs::fdatasync(&self.file)
            .map_err(|error| Error::io("make durable", &self.path, error))
    }

    /// Notes that the append is done. Should this be lost, the next one finds out by itself.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        self.write(None)
    }

    fn write(&self, pending: Option<Pending>) -> Result<(), Error> {
        let mark = Mark {
            lock: self.token.lock.clone(),
            token: self.token.token,
            pending,
        };
        let bytes = mark.encode();
        // The name stays as it is.
        let bytes = match self.seen {
            Some(_) => &bytes[..mark::LINE_BYTES],
            None => &bytes[..],
        };
        self.file
            .write_all_at(bytes, 0)
            .map_err(|error| Error::io("write", &self.path, error))
    }
}

fn check(seen: &Mark, token: &FencingToken, place: &Place) -> Result<(), Error> {
    if seen.lock != token.lock {
        return Err(Error::new(
            ErrorKind::OtherLock,
            format!(
                "{} is fenced by the lock {:?}, and this is a token of {:?}: use the one lock for it \
                 everywhere, or remove {} when nobody writes",
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

/// A mark that somebody reads: while this lives nobody changes it, or what it stands for.
#[derive(Debug)]
pub(crate) struct Reading {
    _locked: File,
    pub mark: Mark,
}

/// The mark as it is now, for those who write nothing; `None` if nothing was admitted yet.
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

/// Opens and locks the mark; `None` if there is none.
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
            // Removed while we waited for it: then it is nobody's mark any more.
            Ok(()) if is_current(place, &file)? => return Ok(Some(file)),
            Ok(()) | Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(Error::io("lock", &path, error)),
        }
        if started.elapsed() >= BUSY_LIMIT {
            return Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "another process has been changing {} for more than {BUSY_LIMIT:?}: if it is stopped, \
                     continue or end it (`fuser {}` names it)",
                    place.path().display(),
                    path.display()
                ),
            ));
        }
        std::thread::sleep(pause.mul_f64(0.5 + fastrand::f64()));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn is_current(place: &Place, file: &File) -> Result<bool, Error> {
    let found = rustix::fs::statat(place.folder(), place.mark_name(), AtFlags::SYMLINK_NOFOLLOW);
    let there = match found {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(Error::io("examine", &place.mark_path(), error)),
    };
    let ours = place.stat(file)?;
    Ok((ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino))
}

/// Makes an empty mark, which says that nothing was admitted yet: whoever may write the file may
/// write its mark.
fn create(place: &Place) -> Result<(), Error> {
    let path = place.mark_path();
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
    let file = match rustix::fs::openat(place.folder(), place.mark_name(), flags, mode) {
        Ok(fd) => File::from(fd),
        // Another made it just now.
        Err(Errno::EXIST) => return Ok(()),
        Err(error) => return Err(Error::io("make", &path, error)),
    };
    let protected = rustix::fs::statat(place.folder(), place.name(), AtFlags::SYMLINK_NOFOLLOW);
    if let Ok(stat) = protected
        && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
    {
        share(&file, &stat).map_err(|error| Error::io("set the permissions of", &path, error))?;
    }
    place.sync_folder()
}

fn share(mark: &File, protected: &Stat) -> Result<(), Errno> {
    use rustix::fs::{Gid, Uid};
    let owner = Uid::from_raw(protected.st_uid);
    let group = Gid::from_raw(protected.st_gid);
    match rustix::fs::fchown(mark, Some(owner), Some(group)) {
        // Only the superuser gives files away; the permissions have to do then.
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
                "the mark {} is damaged, or of a later version: which tokens have been seen is not known. When no \
                 earlier holder can still write, remove it, and the next write sets it anew",
                path.display()
            ),
        )
    })
}

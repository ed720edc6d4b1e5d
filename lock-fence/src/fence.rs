//! A durable high-water mark for a resource, checked and raised under a lock of the operating
//! system.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags};

use crate::error::{Error, ErrorKind};
use crate::mark::{self, Mark, Pending};
use crate::mark_file::{close_to_readers, create, is_open_to_readers, load, lock};
use crate::new_mark::NewMark;
use crate::place::Place;
use crate::token::FencingToken;

/// The longest time that a call waits for another process that is changing the resource. A change
/// takes milliseconds; a process that takes longer is stopped, or its disk hangs.
pub const BUSY_LIMIT: Duration = Duration::from_secs(30);

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
    /// Present if the mark is to be written into a new file.
    new: Option<NewMark>,
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
        let new = match seen {
            Some(_) if !is_open_to_readers(&place.stat(&file)?) => None,
            _ => Some(NewMark::new(place)?),
        };
        Ok(Section {
            file,
            path,
            token: token.clone(),
            seen,
            new,
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
        if let Some(new) = &self.new
            && new.written().is_none()
            && (self.seen.is_none() || self.close_to_readers()?)
            && new.write(&self.file, &self.mark(pending).encode())?
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

    fn close_to_readers(&self) -> Result<bool, Error> {
        close_to_readers(&self.file)
            .map_err(|error| Error::io("set the permissions of", &self.path, error))
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
        let new = self.new.as_ref().and_then(NewMark::written);
        new.unwrap_or(&self.file)
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

//! The file of a mark: who may open it, which file is one, and its lock.
//!
//! Whoever can open a file can lock it (`flock`). So only users who may write the resource may open
//! its mark: one who may only read it cannot keep writers out.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, Stat, Uid};
use rustix::fs::{fchmod, fchown, fstat};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind};
use crate::fence::BUSY_LIMIT;
use crate::mark::{self, Mark};
use crate::place::Place;
use crate::strangers;

const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

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
        let Some(file) = open(place, access)? else {
            return Ok(None);
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

/// Opens the mark, if there is one, and checks that nothing else has its name.
fn open(place: &Place, access: OFlags) -> Result<Option<File>, Error> {
    let path = place.mark_path();
    // Without O_NONBLOCK this would wait for the other end of a named pipe.
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(place.folder(), place.mark_name(), flags, Mode::empty());
    let file = match opened {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
            return Err(untrusted(place, "it is not a regular file"));
        }
        Err(error @ Errno::ACCESS) if access == OFlags::RDONLY => {
            let error = io::Error::from(error);
            let message = format!(
                "cannot open the mark {}: only users who may write {} may open it; read that file \
                 itself where the beginning of a last record does no harm",
                path.display(),
                place.path().display()
            );
            return Err(Error::new(ErrorKind::Io(error.kind()), message).because(error));
        }
        Err(error) => return Err(Error::io("open", &path, error)),
    };
    let found = place.stat(&file)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(untrusted(place, "it is not a regular file"));
    }
    if found.st_nlink > 1 {
        return Err(untrusted(place, "it has several hard links"));
    }
    let protected = rustix::fs::statat(place.folder(), place.name(), AtFlags::SYMLINK_NOFOLLOW);
    strangers::check_mark(place.path(), &place.stat_folder()?, protected.ok(), &found)
        .map_err(|why| untrusted(place, &why))?;
    Ok(Some(file))
}

fn untrusted(place: &Place, why: &str) -> Error {
    let message = format!(
        "the mark {} is not trusted: {why}. When no earlier holder can still write, remove it; the \
         next write creates it again",
        place.mark_path().display()
    );
    Error::new(ErrorKind::Untrusted, message)
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

/// Creates an empty mark, which means that no token was admitted yet. At no time may anybody open
/// it who may not write the file.
pub(crate) fn create(place: &Place) -> Result<(), Error> {
    let path = place.mark_path();
    let failed = |error: Errno| Error::io("set the permissions of", &path, error);
    let protected = rustix::fs::statat(place.folder(), place.name(), AtFlags::SYMLINK_NOFOLLOW);
    let protected = protected
        .ok()
        .filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    // The process's umask decides who may write a file that does not exist yet.
    let mode = match &protected {
        Some(_) => Mode::RUSR | Mode::WUSR,
        None => Mode::RUSR | Mode::WUSR | Mode::WGRP | Mode::WOTH,
    };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(place.folder(), place.mark_name(), flags, mode) {
        Ok(fd) => File::from(fd),
        // Another process has just created it.
        Err(Errno::EXIST) => return Ok(()),
        Err(error) => return Err(Error::io("make", &path, error)),
    };
    let created = place.stat(&file)?;
    match protected {
        Some(stat) => share_with_writers(&file, &stat).map_err(failed)?,
        None => {
            let (was, bits) = (permissions(&created), writers_of(permissions(&created)));
            if was != bits {
                fchmod(&file, bits).map_err(failed)?;
            }
        }
    }
    place.sync_folder()
}

/// Gives the mark the owner and the group of the file that it protects, and opens it to those who
/// may write that file.
pub(crate) fn share_with_writers(mark: &File, protected: &Stat) -> Result<(), Errno> {
    let owner = Uid::from_raw(protected.st_uid);
    let group = Gid::from_raw(protected.st_gid);
    // Only the superuser may give files away. Others may give them to a group that they are in.
    let attempts = [Some(owner), None].map(|owner| move || fchown(mark, owner, Some(group)));
    for attempt in attempts {
        match attempt() {
            Ok(()) => break,
            Err(Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    let mut bits = writers_of(permissions(protected));
    // The rights of the file's group are not those of ours.
    if fstat(mark)?.st_gid != protected.st_gid && !bits.contains(Mode::WOTH) {
        bits -= Mode::RGRP | Mode::WGRP;
    }
    fchmod(mark, bits)
}

/// Returns whether users may open this mark who may not write it. Earlier versions gave a mark the
/// permissions of its file.
pub(crate) fn is_open_to_readers(mark: &Stat) -> bool {
    let bits = permissions(mark);
    !writers_of(bits).contains(bits)
}

/// Closes an open mark to users who may not write it. Returns `false` if that is not possible, as
/// where its mode comes from the mount.
pub(crate) fn close_to_readers(mark: &File) -> Result<bool, Errno> {
    match fchmod(mark, writers_of(permissions(&fstat(mark)?))) {
        Ok(()) => Ok(!is_open_to_readers(&fstat(mark)?)),
        Err(Errno::PERM | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error),
    }
}

fn permissions(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode) & Mode::from_raw_mode(0o777)
}

/// Returns the mode of the mark of a file with this mode: whoever may write the file may read and
/// write the mark, and nobody else may open it. The owner may always, as it can change the modes.
fn writers_of(file: Mode) -> Mode {
    let group = (Mode::WGRP, Mode::RGRP | Mode::WGRP);
    let others = (Mode::WOTH, Mode::ROTH | Mode::WOTH);
    let granted = [group, others]
        .into_iter()
        .filter(|(write, _)| file.contains(*write));
    granted.fold(Mode::RUSR | Mode::WUSR, |bits, (_, both)| bits | both)
}

pub(crate) fn load(file: &File, path: &Path) -> Result<Option<Mark>, Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_open_to_those_who_may_write_the_file() {
        for (file, mark) in [
            (0o644, 0o600),
            (0o664, 0o660),
            (0o666, 0o666),
            (0o646, 0o606),
            (0o600, 0o600),
            (0o444, 0o600),
            (0o620, 0o660),
            (0o775, 0o660),
        ] {
            let bits = writers_of(Mode::from_raw_mode(file));
            assert_eq!(bits, Mode::from_raw_mode(mark), "{file:o}");
        }
    }
}

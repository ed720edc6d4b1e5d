//! Replaces a file: the new content is written beside it and takes its place in one step.

use std::fs::File;
use std::io::{self, Write};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind};
use crate::fence::Section;
use crate::place::Place;

/// The extended attributes that a replacement keeps, because they belong to the content: the user's
/// own, and the access control list.
const KEPT: [&str; 2] = ["user.", "system.posix_acl_access"];

/// Replaces the file, within a section. The mark is raised after the new content is durable and
/// before it is visible, so that a full disk changes nothing at all.
pub(crate) fn replace(
    place: &Place,
    section: &Section,
    old: Option<&File>,
    content: &[u8],
) -> Result<(), Error> {
    let draft = write_draft(place, old, content).and_then(|()| section.raise(None));
    if let Err(error) = draft {
        // The next replacement removes a draft that is left.
        let _ = rustix::fs::unlinkat(place.folder(), place.draft_name(), AtFlags::empty());
        return Err(error);
    }
    rustix::fs::renameat(
        place.folder(),
        place.draft_name(),
        place.folder(),
        place.name(),
    )
    .map_err(|error| Error::io("replace", place.path(), error))?;
    place.sync_folder()
}

fn write_draft(place: &Place, old: Option<&File>, content: &[u8]) -> Result<(), Error> {
    let failed = |what: &'static str| move |error: io::Error| Error::io(what, place.path(), error);
    // A draft of a process that died: only this process has the mark locked.
    match rustix::fs::unlinkat(place.folder(), place.draft_name(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(failed("make a new version of")(error.into())),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // No other user may read the draft before it has the permissions of the old file.
    let mode = match old {
        Some(_) => Mode::RUSR | Mode::WUSR,
        None => Mode::from_raw_mode(0o666),
    };
    let mut draft = rustix::fs::openat(place.folder(), place.draft_name(), flags, mode)
        .map(File::from)
        .map_err(|error| failed("make a new version of")(error.into()))?;
    draft
        .write_all(content)
        .map_err(failed("write a new version of"))?;
    if let Some(old) = old {
        keep_attributes(place, old, &draft)?;
    }
    draft
        .sync_all()
        .map_err(failed("make durable a new version of"))
}

/// Gives the new version the owner, the permissions and the attributes of the old one.
fn keep_attributes(place: &Place, old: &File, new: &File) -> Result<(), Error> {
    let (was, is) = (place.stat(old)?, place.stat(new)?);
    let cannot = |what: &str, error: Errno| {
        let error = io::Error::from(error);
        Error::new(
            ErrorKind::Io(error.kind()),
            format!(
                "cannot replace {}: its new version would lose {what} ({error}); nothing was \
                 changed",
                place.path().display()
            ),
        )
        .because(error)
    };
    if (was.st_uid, was.st_gid) != (is.st_uid, is.st_gid) {
        let (owner, group) = (Uid::from_raw(was.st_uid), Gid::from_raw(was.st_gid));
        let owned = format!("its owner {}:{}", was.st_uid, was.st_gid);
        rustix::fs::fchown(new, Some(owner), Some(group)).map_err(|e| cannot(&owned, e))?;
    }
    for name in attribute_names(old).map_err(|e| cannot("its attributes", e))? {
        let lost = format!("its attribute {name}");
        let value = attribute(old, &name).map_err(|e| cannot(&lost, e))?;
        rustix::fs::fsetxattr(new, &*name, &value, rustix::fs::XattrFlags::empty())
            .map_err(|e| cannot(&lost, e))?;
    }
    // Last: a change of owner clears the set-user-ID bits.
    rustix::fs::fchmod(new, Mode::from_raw_mode(was.st_mode)).map_err(|e| cannot("its mode", e))
}

fn attribute_names(file: &File) -> Result<Vec<String>, Errno> {
    let list = grow(|buffer| match rustix::fs::flistxattr(file, buffer) {
        // No attributes on this file system.
        Err(Errno::OPNOTSUPP) => Ok(0),
        other => other,
    })?;
    let names = list.split(|byte| *byte == 0);
    let names = names.filter_map(|name| std::str::from_utf8(name).ok());
    Ok(names
        .filter(|name| KEPT.iter().any(|kept| name.starts_with(kept)))
        .map(str::to_owned)
        .collect())
}

fn attribute(file: &File, name: &str) -> Result<Vec<u8>, Errno> {
    grow(|buffer| rustix::fs::fgetxattr(file, name, buffer))
}

/// Calls `read` with ever larger buffers until its answer fits. Attributes have at most 64 KiB.
fn grow(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 1024];
    loop {
        match read(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            Err(error) => return Err(error),
        }
    }
}

/// The facts by which a file is known to be unchanged since it was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Version {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Version {
    /// Takes the facts from `stat`. They are sound only while the file that was read stays open:
    /// otherwise its inode number can be given to another file.
    pub(crate) fn of(stat: &Stat) -> Version {
        Version {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

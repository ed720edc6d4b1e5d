//! Files that decide who may do what: they are read only if nobody else can have written them.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use backend_kit::secret::Secret;
use rustix::fs::{Mode, OFlags};

use super::AccessError;

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    /// Every user of this machine.
    Everybody,
    /// Its owner and its group.
    OwnerAndGroup,
}

/// What differs between two versions of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version([i64; 2], [u64; 3]);

impl Version {
    fn of(found: &Metadata) -> Self {
        Version(
            [found.ctime(), found.ctime_nsec()],
            [found.dev(), found.ino(), found.size()],
        )
    }

    /// Returns the version of the file at this path now; `None` if there is none that can be read.
    pub(super) fn at(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|found| Version::of(&found))
    }
}

/// Reads a file. Blocks while it reads.
///
/// # Errors
/// [`AccessError::Unreadable`]; [`AccessError::Unsafe`] if others could have written it, or if it is
/// to be private and is not.
pub(super) fn read(path: &Path, readers: Readers) -> Result<(Secret, Version), AccessError> {
    let unreadable = |source: io::Error| AccessError::Unreadable {
        path: path.to_owned(),
        source,
    };
    // Without O_NONBLOCK this would wait for the other end of a named pipe.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let file = File::from(opened.map_err(|error| unreadable(error.into()))?);
    let found = file.metadata().map_err(unreadable)?;
    if !found.is_file() {
        return Err(unsafe_file(path, "is not a plain file", "name one"));
    }
    check_owner(path, &found, readers)?;
    if found.len() > MAX_FILE_BYTES {
        let reason = format!("has more than {MAX_FILE_BYTES} bytes");
        return Err(unsafe_file(path, reason, "name the right file"));
    }
    // With room for all of it: a text that grows leaves copies in memory.
    let room = usize::try_from(found.len()).unwrap_or_default() + 1;
    let mut text = String::with_capacity(room);
    file.take(MAX_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Ok((Secret::new(text), Version::of(&found)))
}

/// Fails if anybody but this user and root could have written the file.
pub(super) fn check_owner(
    path: &Path,
    found: &Metadata,
    readers: Readers,
) -> Result<(), AccessError> {
    let user = rustix::process::geteuid().as_raw();
    let shown = path.display();
    if found.uid() != user && found.uid() != 0 {
        let reason = format!("belongs to user {}, and this is user {user}", found.uid());
        return Err(unsafe_file(
            path,
            reason,
            format!("run `chown {user} {shown}` as root"),
        ));
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o022 != 0 {
        let reason = format!("has mode {mode:04o}, so others can write it");
        return Err(unsafe_file(
            path,
            reason,
            format!("run `chmod go-w {shown}`"),
        ));
    }
    if readers == Readers::OwnerAndGroup && mode & 0o007 != 0 {
        let reason = format!("has mode {mode:04o}, so every user of this machine can use it");
        return Err(unsafe_file(path, reason, format!("run `chmod o= {shown}`")));
    }
    Ok(())
}

fn unsafe_file(path: &Path, reason: impl Into<String>, remedy: impl Into<String>) -> AccessError {
    AccessError::Unsafe {
        path: path.to_owned(),
        reason: reason.into(),
        remedy: remedy.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rules");
        fs::write(&path, "text").expect("written");
        let set = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("allowed");
        };
        for mode in [0o620, 0o602, 0o666] {
            set(mode);
            let err = read(&path, Readers::Everybody).expect_err("others can write it");
            assert!(err.to_string().contains("chmod go-w"), "{mode:o}: {err}");
        }
        set(0o644);
        let (text, version) = read(&path, Readers::Everybody).expect("it is safe");
        assert_eq!((text.expose(), Some(version)), ("text", Version::at(&path)));
        let err = read(&path, Readers::OwnerAndGroup).expect_err("all can read it");
        assert!(err.to_string().contains("chmod o="), "{err}");
        set(0o640);
        read(&path, Readers::OwnerAndGroup).expect("it is private");
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR).expect("a pipe");
        for other in [folder.path(), &pipe] {
            let err = read(other, Readers::Everybody).expect_err("no plain file");
            assert!(err.to_string().contains("plain file"), "{err}");
        }
    }
}

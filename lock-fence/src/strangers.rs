//! What may be used in a folder that everybody may write, such as the one for temporary files.
//!
//! Everybody can put links and files into such a folder, under names that are not theirs. The kernel
//! can be set to follow and to open only what nobody else can have put there
//! (`fs.protected_symlinks`, `fs.protected_regular`), and the usual distributions do. A fence keeps
//! to these rules on every system, because it does more than the kernel: it follows links by itself,
//! and it opens a file without creating it.

use std::path::Path;

use rustix::fs::{Mode, Stat};
use rustix::process::geteuid;

use crate::error::Error;

/// Returns whether everybody may make names in this folder, and remove only their own. In a folder
/// without the sticky bit everybody may remove every name, so its content is nobody's.
fn is_sticky(folder: &Stat) -> bool {
    let shared = Mode::SVTX | Mode::WOTH;
    Mode::from_raw_mode(folder.st_mode).contains(shared)
}

/// Returns whether somebody other than this process's user and the owner of the folder can have put
/// this there.
fn is_strange(folder: &Stat, found: &Stat) -> bool {
    is_sticky(folder) && ![geteuid().as_raw(), folder.st_uid].contains(&found.st_uid)
}

/// Checks that a link may be followed.
///
/// # Errors
/// [`ErrorKind::Unsuitable`](crate::ErrorKind::Unsuitable) if a stranger can have made it.
pub(crate) fn check_link(
    asked: &Path,
    link: &Path,
    folder: &Stat,
    found: &Stat,
) -> Result<(), Error> {
    if !is_strange(folder, found) {
        return Ok(());
    }
    let why = format!(
        "the symbolic link {} belongs to user {}, in a folder that everybody may write: it is \
         followed for the owners of the link and of the folder only (as fs.protected_symlinks has \
         it); give the path that it stands for",
        link.display(),
        found.st_uid
    );
    Err(Error::unsuitable_error(asked, &why))
}

/// Checks that an existing file may be changed.
///
/// # Errors
/// [`ErrorKind::Unsuitable`](crate::ErrorKind::Unsuitable) if a stranger can have made it.
pub(crate) fn check_target(path: &Path, folder: &Stat, found: &Stat) -> Result<(), Error> {
    if !is_strange(folder, found) {
        return Ok(());
    }
    let why = format!(
        "it belongs to user {}, in a folder that everybody may write, and would give that user the \
         new content (fs.protected_regular is against the same): use a folder that only the users \
         of the file may write",
        found.st_uid
    );
    Err(Error::unsuitable_error(path, &why))
}

/// Checks the owner of an open mark. The owner of the resource, if there is one, may own its mark:
/// that user can change the resource anyway.
///
/// # Errors
/// The reason, if a stranger can have made the mark, who can then change and remove it as well.
pub(crate) fn check_mark(
    path: &Path,
    folder: &Stat,
    protected: Option<Stat>,
    found: &Stat,
) -> Result<(), String> {
    const SUPERUSER: u32 = 0;
    let owner = found.st_uid;
    let is_owners = protected.is_some_and(|protected| protected.st_uid == owner);
    if !is_strange(folder, found) || owner == SUPERUSER || is_owners {
        return Ok(());
    }
    Err(format!(
        "it belongs to user {owner}, in a folder that everybody may write, so that user can put any \
         token in; move {} to a folder that only its users may write",
        path.display()
    ))
}

//! Makes and checks the folder of a coordinator: only its user can enter it, and no other user can
//! replace a folder above it. Another user who could put another folder in its place could make two
//! coordinators serve one lock.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Group, Uid, User};
use rustix::process::{getegid, geteuid};

/// The longest time of another command from making a folder to setting its mode.
const HALF_MADE: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(5);
/// The number of links on the way to a file that the kernel follows.
const MAX_LINKS: usize = 40;
/// The mode of a folder in which everybody may make files, but only their owners may remove them.
const STICKY: u32 = 0o1000;

/// Makes the folder and its missing parents for this user alone, whatever the umask is: scripts set
/// `umask 177` before they write keys, and a folder without its `x` bit cannot be entered. An
/// existing folder is left as it is, and refused if other users could enter or exchange it.
///
/// # Errors
/// The reason, with the remedy.
pub fn make(dir: &Path) -> Result<(), Refusal> {
    let started = Instant::now();
    loop {
        let made = require_safe_path(dir)
            .and_then(|()| make_with_parents(dir).map_err(|error| Refusal::io(dir, &error)))
            .and_then(|()| require_private(dir));
        match made {
            Err(_) if is_half_made(dir) && started.elapsed() < HALF_MADE => {
                std::thread::sleep(POLL);
            }
            settled => return settled,
        }
    }
}

/// Refuses a folder that another user could enter or exchange. A folder that does not exist is
/// accepted.
///
/// # Errors
/// The reason, with the remedy.
pub fn require_safe(dir: &Path) -> Result<(), Refusal> {
    require_safe_path(dir)?;
    match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => require_private(dir),
    }
}

/// Opens a file for this user alone, whatever the umask is. Makes it if it does not exist.
pub fn open_private_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    if file.metadata()?.permissions().mode() & 0o600 != 0o600 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// The reason why a folder is not used, and the remedy.
#[derive(Debug)]
pub struct Refusal {
    pub message: String,
    pub remedy: String,
}

impl Refusal {
    fn new(message: String, remedy: String) -> Self {
        Refusal { message, remedy }
    }

    fn io(path: &Path, error: &io::Error) -> Self {
        Refusal::new(
            format!("{}: {error}", path.display()),
            "set TURNLOCK_HOME (or HOME) to a folder of yours".to_owned(),
        )
    }
}

/// Makes the folder and its missing parents. The mode is set afterwards, because the umask belongs
/// to the whole process, which may be about to start a command.
fn make_with_parents(dir: &Path) -> io::Result<()> {
    let make = || DirBuilder::new().mode(0o700).create(dir);
    let made = match (make(), dir.parent()) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            make_with_parents(parent)?;
            make()
        }
        (made, _) => made,
    };
    match made {
        Ok(()) => fs::set_permissions(dir, Permissions::from_mode(0o700)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns whether the existing part of the path ends with a folder of this user that lacks
/// permissions: another command has just made it, and is about to set its mode.
fn is_half_made(dir: &Path) -> bool {
    let existing = dir.ancestors().find_map(|path| fs::metadata(path).ok());
    existing.is_some_and(|metadata| {
        metadata.uid() == geteuid().as_raw() && metadata.permissions().mode() & 0o700 != 0o700
    })
}

fn require_private(dir: &Path) -> Result<(), Refusal> {
    let shown = dir.display();
    let metadata = fs::metadata(dir).map_err(|error| Refusal::io(dir, &error))?;
    if !metadata.is_dir() {
        return Err(Refusal::new(
            format!("{shown} is not a folder"),
            "move it away, or set TURNLOCK_HOME to a folder of yours".to_owned(),
        ));
    }
    let (owner, us) = (metadata.uid(), geteuid().as_raw());
    if owner != us {
        return Err(Refusal::new(
            format!("{shown} belongs to another user ({owner}; this is user {us})"),
            "set TURNLOCK_HOME to a folder of yours".to_owned(),
        ));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Refusal::new(
            format!("{shown} is open to other users (mode {mode:o})"),
            format!("chmod 700 {shown}"),
        ));
    }
    if mode & 0o700 != 0o700 {
        return Err(Refusal::new(
            format!("{shown} cannot be used by its own owner (mode {mode:o})"),
            format!("chmod 700 {shown}"),
        ));
    }
    Ok(())
}

/// Follows the path to the folder as the kernel does, link by link. Refuses it where another user
/// could redirect it, as sshd does with the path to `authorized_keys`.
fn require_safe_path(dir: &Path) -> Result<(), Refusal> {
    let root = fs::metadata("/").map_err(|error| Refusal::io(Path::new("/"), &error))?;
    // In a user namespace, the owner of the root folder may have another number than 0.
    let trusted = HashSet::from([0, root.uid(), geteuid().as_raw()]);
    let mut ahead: VecDeque<OsString> = parts(dir);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    require_unchangeable(&at, &root, &trusted)?;
    while let Some(part) = ahead.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        let metadata = match fs::symlink_metadata(&next) {
            Ok(metadata) => metadata,
            // The missing folders will be made by this process.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Refusal::io(&next, &error)),
        };
        if metadata.is_symlink() {
            require_owner(&next, &metadata, &trusted)?;
            links += 1;
            if links > MAX_LINKS {
                return Err(Refusal::io(&next, &rustix::io::Errno::LOOP.into()));
            }
            let target = fs::read_link(&next).map_err(|error| Refusal::io(&next, &error))?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for part in parts(&target).into_iter().rev() {
                ahead.push_front(part);
            }
            continue;
        }
        // The last folder has to be private, which is checked elsewhere.
        if !ahead.is_empty() {
            require_unchangeable(&next, &metadata, &trusted)?;
        }
        at = next;
    }
    Ok(())
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

fn require_owner(path: &Path, metadata: &Metadata, trusted: &HashSet<u32>) -> Result<(), Refusal> {
    if trusted.contains(&metadata.uid()) {
        return Ok(());
    }
    Err(Refusal::new(
        format!(
            "{} belongs to user {}, who could put another folder in the place of the coordinator's",
            path.display(),
            metadata.uid()
        ),
        "set TURNLOCK_HOME to a folder below folders of yours or root's".to_owned(),
    ))
}

fn require_unchangeable(
    path: &Path,
    metadata: &Metadata,
    trusted: &HashSet<u32>,
) -> Result<(), Refusal> {
    require_owner(path, metadata, trusted)?;
    let mode = metadata.permissions().mode();
    let by_others = mode & 0o002 != 0;
    let by_group = mode & 0o020 != 0 && !is_private_group(metadata.gid());
    if mode & STICKY != 0 || !(by_others || by_group) {
        return Ok(());
    }
    let (who, bits) = match by_others {
        true => ("everybody".to_owned(), "go-w"),
        false => (format!("the group {}", metadata.gid()), "g-w"),
    };
    Err(Refusal::new(
        format!(
            "{} can be changed by {who} (mode {:o}), who could put another folder in the place of \
             the coordinator's",
            path.display(),
            mode & 0o7777
        ),
        format!("chmod {bits} {}, or set TURNLOCK_HOME", path.display()),
    ))
}

/// Returns whether nobody but root or this user is in the group. Many systems give every user a
/// group of their own, and a umask that lets it write.
fn is_private_group(gid: u32) -> bool {
    if gid == 0 {
        return true;
    }
    if gid != getegid().as_raw() {
        return false;
    }
    let us = geteuid().as_raw();
    let name = User::from_uid(Uid::from_raw(us))
        .ok()
        .flatten()
        .map(|user| user.name);
    match Group::from_gid(Gid::from_raw(gid)).ok().flatten() {
        Some(group) => {
            (gid == us || Some(&group.name) == name.as_ref())
                && group.mem.iter().all(|member| Some(member) == name.as_ref())
        }
        // A container may have no user database.
        None => gid == us,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn folder() -> tempfile::TempDir {
        tempfile::Builder::new()
            .permissions(PermissionsExt::from_mode(0o700))
            .tempdir()
            .expect("a temporary folder")
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("ours");
    }

    #[test]
    fn a_parent_that_others_can_change_is_refused_and_named() {
        let outer = folder();
        let open = outer.path().join("open");
        make(&open.join("a/home")).expect("made");
        for (mode, fine) in [
            (0o700, true),
            (0o755, true),
            (0o1777, true),
            (0o777, false),
            (0o702, false),
        ] {
            set_mode(&open, mode);
            let outcome = make(&open.join("a/home"));
            assert_eq!(outcome.is_ok(), fine, "mode {mode:o}");
            if let Err(refusal) = outcome {
                let named = format!("{} can be changed by everybody", open.display());
                assert!(refusal.message.starts_with(&named), "{}", refusal.message);
                assert!(refusal.remedy.contains("chmod go-w"));
            }
        }
    }

    #[test]
    fn a_link_does_not_hide_a_folder_that_others_can_change() {
        let outer = folder();
        let (open, short) = (outer.path().join("open"), outer.path().join("short"));
        make(&open.join("inner/home")).expect("made");
        symlink("open/inner", outer.path().join("middle")).expect("made");
        symlink(outer.path().join("middle"), &short).expect("made");
        make(&short.join("home")).expect("all of it is ours");
        set_mode(&open, 0o777);
        let refusal = make(&short.join("home")).expect_err("open to all");
        assert!(
            refusal.message.contains("/open can be changed"),
            "{}",
            refusal.message
        );
        symlink("loop", outer.path().join("loop")).expect("made");
        make(&outer.path().join("loop/home")).expect_err("it has no end");
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_named() {
        let outer = folder();
        let file = outer.path().join("file");
        fs::write(&file, "").expect("written");
        assert!(make(&file).is_err());
        let refusal = require_safe(&file).expect_err("no folder");
        assert!(
            refusal.message.ends_with("is not a folder"),
            "{}",
            refusal.message
        );
        require_safe(&outer.path().join("absent")).expect("nothing is there yet");
    }
}

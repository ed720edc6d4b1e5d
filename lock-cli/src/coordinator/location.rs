//! Chooses the folder of the user's own coordinator.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use rustix::process::geteuid;

use crate::exit::{Exit, Failure};

/// The reason why a folder is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderSource {
    /// `TURNLOCK_HOME` or an option names it.
    Named,
    /// `XDG_STATE_HOME` contains it.
    StateHome,
    /// `HOME` contains it.
    Home,
    /// The user database names the home, because `HOME` belongs to another user.
    UserDatabase,
}

/// Chooses the folder. Also returns the reason for the choice.
pub fn choose() -> Result<(PathBuf, FolderSource), Failure> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    if let Some(dir) = set("TURNLOCK_HOME") {
        return Ok((dir, FolderSource::Named));
    }
    let (dir, chosen) = if let Some(state) = set("XDG_STATE_HOME").filter(|d| d.is_absolute()) {
        (state.join("turnlock"), FolderSource::StateHome)
    } else if let Some(home) = set("HOME") {
        (home.join(".local/state/turnlock"), FolderSource::Home)
    } else {
        let message = "no folder for the coordinator: HOME is not set";
        return Err(Failure::new(Exit::Configuration, message)
            .hint("set TURNLOCK_HOME to a folder of yours"));
    };
    let Some(owner) = find_foreign_owner(&dir) else {
        return Ok((dir, chosen));
    };
    // HOME is another user's, as under `sudo`. That user could not use a folder that we make there.
    let us = Uid::from_raw(geteuid().as_raw());
    let entry = User::from_uid(us).ok().flatten();
    match entry.filter(|user| user.dir.is_absolute() && find_foreign_owner(&user.dir).is_none()) {
        Some(user) => Ok((
            user.dir.join(".local/state/turnlock"),
            FolderSource::UserDatabase,
        )),
        None => {
            let message = format!(
                "the folder {} would lie in a home of user {owner}, but this is user {us}",
                dir.display()
            );
            Err(Failure::new(Exit::Configuration, message)
                .hint("set HOME, or TURNLOCK_HOME, to a folder of yours"))
        }
    }
}

/// Returns the owner of the existing part of the folder's path, if that is neither root nor this
/// user.
fn find_foreign_owner(dir: &Path) -> Option<u32> {
    let owner = dir
        .ancestors()
        .find_map(|path| fs::metadata(path).ok())?
        .uid();
    let root = fs::metadata("/").map_or(0, |root| root.uid());
    (![0, root, geteuid().as_raw()].contains(&owner)).then_some(owner)
}

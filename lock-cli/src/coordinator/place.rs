//! Where a user's own coordinator has its folder.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use rustix::process::geteuid;

use crate::exit::{Exit, Failure};

/// What decided on the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// `TURNLOCK_HOME`, or an option.
    ByName,
    StateHome,
    Home,
    /// The user's home in the database of users, since HOME is somebody else's.
    Database,
}

/// The folder, and what decided on it.
pub fn choose() -> Result<(PathBuf, Chosen), Failure> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    if let Some(dir) = set("TURNLOCK_HOME") {
        return Ok((dir, Chosen::ByName));
    }
    let (dir, chosen) = if let Some(state) = set("XDG_STATE_HOME").filter(|d| d.is_absolute()) {
        (state.join("turnlock"), Chosen::StateHome)
    } else if let Some(home) = set("HOME") {
        (home.join(".local/state/turnlock"), Chosen::Home)
    } else {
        let message = "no folder for the coordinator: HOME is not set";
        return Err(Failure::new(Exit::Configuration, message)
            .hint("set TURNLOCK_HOME to a folder of yours"));
    };
    let Some(owner) = stranger(&dir) else {
        return Ok((dir, chosen));
    };
    // As `sudo` leaves it: what we made there, the user could not use any more.
    let us = Uid::from_raw(geteuid().as_raw());
    let entry = User::from_uid(us).ok().flatten();
    match entry.filter(|user| user.dir.is_absolute() && stranger(&user.dir).is_none()) {
        Some(user) => Ok((user.dir.join(".local/state/turnlock"), Chosen::Database)),
        None => {
            let message = format!(
                "the folder {} would be made in a home of user {owner}, and we are user {us}",
                dir.display()
            );
            Err(Failure::new(Exit::Configuration, message)
                .hint("set HOME, or TURNLOCK_HOME, to a folder of yours"))
        }
    }
}

/// Another plain user than us who owns what is there of the folder's path.
fn stranger(dir: &Path) -> Option<u32> {
    let owner = dir
        .ancestors()
        .find_map(|path| fs::metadata(path).ok())?
        .uid();
    let root = fs::metadata("/").map_or(0, |root| root.uid());
    (![0, root, geteuid().as_raw()].contains(&owner)).then_some(owner)
}

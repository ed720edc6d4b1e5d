//! Defines the paths of the machine's coordinator when it is `turnlock serve --system`.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::Path;

use crate::exit::{Exit, Failure};

/// The folder of its data, which only that coordinator can enter.
pub const DATA: &str = "/var/lib/turnlock";
/// The socket, in a folder that the group can enter.
pub const SOCKET: &str = "/run/turnlock/turnlock.sock";
/// The group of the users who may use the coordinator.
pub const GROUP: &str = "turnlock";

/// Makes the folder of the socket if it does not exist. A service manager has usually made it.
pub fn make_runtime_folder(socket: &Path, group: u32) -> Result<(), Failure> {
    let Some(folder) = socket.parent() else {
        return Ok(());
    };
    let made = match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made,
    };
    made.and_then(|()| chown(folder, None, Some(group)))
        .and_then(|()| fs::set_permissions(folder, PermissionsExt::from_mode(0o750)))
        .map_err(|error| {
            let message = format!("{}: {error}", folder.display());
            Failure::new(Exit::Configuration, message)
        })
}

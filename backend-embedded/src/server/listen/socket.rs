//! Unix sockets: who can reach them, and their files.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::ListenError;

/// The longest path of a Unix socket in bytes: `sun_path` without its terminating zero.
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Removes a socket file that a dead server left behind. Call it only as the owner of the data
/// folder whose coordinator serves there: owning the folder proves that the former server is dead.
/// A file that is not a socket is left alone.
///
/// # Errors
/// Any error of the system, and [`AlreadyExists`](io::ErrorKind::AlreadyExists) if the file is not
/// a socket. An absent file is not an error.
pub fn remove_stale_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("`{}` is not a socket; move it away", path.display()),
        )),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(err),
    }
}

/// Binds a Unix socket that only this user, or this user and a group, can reach.
pub(super) fn bind_unix(
    path: &Path,
    group: Option<u32>,
    io: impl Fn(io::Error) -> ListenError,
) -> Result<(UnixListener, SocketFile), ListenError> {
    if path.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
        return Err(ListenError::PathTooLong {
            path: path.to_owned(),
        });
    }
    require_safe_folder(path, group, &io)?;
    if fs::symlink_metadata(path).is_ok() {
        return Err(ListenError::Exists {
            path: path.to_owned(),
        });
    }
    // Between `bind` and `set_permissions` the socket has the umask's mode. Only the group can
    // reach it then, because nobody else can enter the folder.
    let listener = UnixListener::bind(path).map_err(&io)?;
    let metadata = fs::symlink_metadata(path).map_err(&io)?;
    let file = SocketFile(SocketPath {
        path: path.to_owned(),
        device: metadata.dev(),
        inode: metadata.ino(),
    });
    let mode = match group {
        Some(_) => {
            std::os::unix::fs::chown(path, None, group).map_err(&io)?;
            0o660
        }
        None => 0o600,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(&io)?;
    Ok((listener, file))
}

/// Fails if others can enter the socket's folder. The folder, not the socket's own mode, keeps
/// others out on every system.
fn require_safe_folder(
    path: &Path,
    group: Option<u32>,
    io: &impl Fn(io::Error) -> ListenError,
) -> Result<(), ListenError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let unsafe_folder = |reason: String, remedy: String| ListenError::UnsafeFolder {
        path: path.to_owned(),
        folder: folder.to_owned(),
        reason,
        remedy,
    };
    let metadata = fs::metadata(folder).map_err(io)?;
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(unsafe_folder(
            format!("belongs to user {}, we are user {user}", metadata.uid()),
            "use a folder of your own".to_owned(),
        ));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if let Some(group) = group {
        // The group may enter and list the folder. Only the owner may write.
        if metadata.gid() != group || mode & 0o010 == 0 || mode & 0o027 != 0 {
            return Err(unsafe_folder(
                format!(
                    "has group {} and mode {mode:04o}, so not just group {group} can enter it",
                    metadata.gid()
                ),
                format!(
                    "run `chgrp {group} {folder}` and `chmod 750 {folder}`",
                    folder = folder.display()
                ),
            ));
        }
        return Ok(());
    }
    if mode & 0o077 != 0 {
        return Err(unsafe_folder(
            format!("has mode {mode:04o}, so other users can enter it"),
            format!("run `chmod 700 {}`", folder.display()),
        ));
    }
    Ok(())
}

/// The file of a socket. No other file has its identity while the server listens.
#[derive(Debug, Clone)]
pub(in crate::server) struct SocketPath {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketPath {
    pub(in crate::server) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether clients find the socket at its path. If the system fails to answer, they are
    /// assumed to find it.
    pub(in crate::server) async fn is_in_place(&self) -> bool {
        match tokio::fs::symlink_metadata(&self.path).await {
            Ok(found) => self.matches(&found),
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ),
        }
    }

    fn matches(&self, found: &fs::Metadata) -> bool {
        found.dev() == self.device && found.ino() == self.inode
    }
}

/// The file of a listening Unix socket. Dropping it removes the file, unless another one has taken
/// its place.
#[derive(Debug)]
pub(in crate::server) struct SocketFile(pub(super) SocketPath);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let path = &self.0.path;
        let is_own = fs::symlink_metadata(path).is_ok_and(|found| self.0.matches(&found));
        if is_own && let Err(err) = fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %err, "cannot remove the socket file");
        }
    }
}

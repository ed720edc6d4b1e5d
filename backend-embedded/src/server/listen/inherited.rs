//! Listening sockets that a service manager has opened and passed on.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::socket::{Backlog, listen};
use tokio::net::{TcpListener, UnixListener};

use super::{Listen, ListenError};

/// A listening socket that a service manager has opened and passed on, as systemd does. The service
/// manager keeps it open while the server is away, so clients that connect meanwhile wait instead of
/// failing.
#[derive(Debug)]
pub enum InheritedListener {
    /// A TCP socket.
    Tcp(std::net::TcpListener),
    /// A Unix socket with a path. Neither its file nor its folder may be open to all users.
    Unix(std::os::unix::net::UnixListener),
}

impl InheritedListener {
    /// Returns whether this is the Unix socket at an address.
    pub fn is_at(&self, listen: &Listen) -> bool {
        let (InheritedListener::Unix(listener), Listen::Unix(path) | Listen::UnixOfGroup(path, _)) =
            (self, listen)
        else {
            return false;
        };
        let address = listener.local_addr();
        address.is_ok_and(|address| address.as_pathname() == Some(path))
    }

    /// Returns the address of the socket.
    ///
    /// # Errors
    /// [`ListenError::UnsafeSocket`] if users who are neither its owner nor in its group can use a
    /// Unix socket or put another one in its place, or if it has no path;
    /// [`ListenError::Inherited`] if the system fails.
    pub fn address(&self) -> Result<Listen, ListenError> {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr().map_err(inherited)?;
                Ok(Listen::Tcp(address))
            }
            Self::Unix(listener) => {
                let address = listener.local_addr().map_err(inherited)?;
                let Some(path) = address.as_pathname() else {
                    return Err(ListenError::UnsafeSocket {
                        path: PathBuf::new(),
                        reason: "has no path, so all users can connect to it".to_owned(),
                        remedy: "have the service manager listen at a path".to_owned(),
                    });
                };
                find_users(path)
            }
        }
    }

    /// Prepares the socket for accepting. Must be called within a Tokio runtime.
    pub(in crate::server) fn prepare(self) -> io::Result<Prepared> {
        match self {
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Ok(Prepared::Tcp(TcpListener::from_std(listener)?))
            }
            Self::Unix(listener) => {
                listener.set_nonblocking(true)?;
                // To clients, the kernel names the process that called this last: not the service
                // manager, which nobody must take for the coordinator.
                listen(&listener, Backlog::MAXCONN)?;
                Ok(Prepared::Unix(UnixListener::from_std(listener)?))
            }
        }
    }
}

/// An inherited socket that can accept connections.
pub(in crate::server) enum Prepared {
    Tcp(TcpListener),
    Unix(UnixListener),
}

pub(super) fn inherited(source: io::Error) -> ListenError {
    ListenError::Inherited { source }
}

/// Returns the address of a Unix socket with those who can use it. Fails if those are all users, or
/// if others can replace it.
fn find_users(path: &Path) -> Result<Listen, ListenError> {
    let unsafe_socket = |reason: String, remedy: String| ListenError::UnsafeSocket {
        path: path.to_owned(),
        reason,
        remedy,
    };
    let user = rustix::process::geteuid().as_raw();
    let is_trusted = |owner: u32| owner == 0 || owner == user;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let socket = fs::symlink_metadata(path).map_err(inherited)?;
    let mode = |metadata: &fs::Metadata| metadata.permissions().mode() & 0o7777;
    let (socket_mode, owner) = (mode(&socket), socket.uid());
    if !socket.file_type().is_socket() {
        return Err(unsafe_socket(
            "is no longer at its path".to_owned(),
            "restart the socket unit".to_owned(),
        ));
    }
    // To connect takes the right to write.
    if socket_mode & 0o002 != 0 || !is_trusted(owner) {
        return Err(unsafe_socket(
            format!("has owner {owner} and mode {socket_mode:04o}, so other users can use it"),
            "set SocketMode=0660, SocketUser= and SocketGroup= in the socket unit".to_owned(),
        ));
    }
    let place = fs::metadata(folder).map_err(inherited)?;
    let (folder_mode, owner) = (mode(&place), place.uid());
    if folder_mode & 0o022 != 0 || !is_trusted(owner) {
        return Err(unsafe_socket(
            format!(
                "is in a folder with owner {owner} and mode {folder_mode:04o}, so other users can \
                 put another socket in its place"
            ),
            format!("use a folder that only root or user {user} can change"),
        ));
    }
    Ok(match socket_mode & 0o020 {
        0 => Listen::Unix(path.to_owned()),
        _ => Listen::UnixOfGroup(path.to_owned(), socket.gid()),
    })
}

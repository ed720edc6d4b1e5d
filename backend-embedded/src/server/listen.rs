//! The addresses that the server listens on: parses them, refuses those open to others, and binds
//! them.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use backend_kit::connection::Connection;
use futures_util::stream::BoxStream;
use tokio::net::{TcpListener, UnixListener};

/// The longest path of a Unix socket in bytes: `sun_path` without its terminating zero.
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// An address to listen on.
///
/// As text: `127.0.0.1:2379`, `[::1]:2379`, `localhost:2379`, `unix:/run/user/1000/turnlock/sock`.
/// A TCP address may start with `http://`, so that an etcd endpoint can be pasted.
///
/// ```
/// use backend_embedded::server::Listen;
///
/// let listen: Listen = "unix:/run/user/1000/turnlock/sock".parse()?;
/// assert_eq!(listen.to_string(), "unix:/run/user/1000/turnlock/sock");
/// assert!("0.0.0.0:2379".parse::<Listen>().is_err());
/// # Ok::<(), backend_embedded::server::ListenError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A loopback TCP address. With port 0 the system chooses a port, which
    /// [`BoundServer::addresses`] returns.
    ///
    /// [`BoundServer::addresses`]: super::BoundServer::addresses
    Tcp(SocketAddr),
    /// The path of a Unix socket, at most [`MAX_SOCKET_PATH_BYTES`] long, in a folder that only
    /// this user can enter.
    Unix(PathBuf),
    /// The path of a Unix socket for all users of the group with this id. Its folder belongs to
    /// this user. The group can enter the folder, and nobody else can change it.
    UnixOfGroup(PathBuf, u32),
}

/// Why the server cannot listen on an address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The text is not an address.
    #[error(
        "`{text}` is not an address to listen on: {reason}; use `127.0.0.1:2379`, `[::1]:2379` or `unix:/path/to/socket`"
    )]
    Malformed {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The host name does not resolve to an address.
    #[error("cannot resolve `{host}`")]
    Unresolved {
        /// The name, with its port.
        host: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// The address can be reached from other machines.
    #[error(
        "refusing to listen on {address}: it is not a loopback address, and there is no TLS or authentication yet, so \
         anybody who reaches it could take or break any lock; listen on 127.0.0.1 or [::1] and use an ssh tunnel"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The path of a Unix socket does not fit into `sun_path`.
    #[error("the socket path `{}` has {} bytes, but the system allows {MAX_SOCKET_PATH_BYTES}; use a folder with a shorter path", path.display(), path.as_os_str().len())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// The folder of a Unix socket is open to other users, or belongs to another user.
    #[error("refusing the socket `{}`: its folder `{}` {reason}; {remedy}", path.display(), folder.display())]
    UnsafeFolder {
        /// The path of the socket.
        path: PathBuf,
        /// The folder of the socket.
        folder: PathBuf,
        /// What is wrong with the folder.
        reason: String,
        /// How to fix it.
        remedy: String,
    },
    /// A file exists already at the path of a Unix socket.
    #[error(
        "`{}` exists already; if no coordinator runs there, remove it (the owner of the data folder does so with `remove_stale_socket`)",
        path.display()
    )]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// The file of a Unix socket was removed or replaced while the server listened there.
    #[error("the socket `{}` was removed or replaced, so clients cannot find this server there", path.display())]
    SocketGone {
        /// The path.
        path: PathBuf,
    },
    /// The system refused to bind the address.
    #[error("cannot listen on {listen}")]
    Io {
        /// The address.
        listen: Listen,
        /// The system's error.
        source: io::Error,
    },
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) | Self::UnixOfGroup(path, _) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    /// Parses an address. A host name is resolved, which may block. All its addresses must be
    /// loopback addresses. The first IPv4 address is used, or the first address if there is no IPv4
    /// one.
    ///
    /// # Errors
    /// [`ListenError::Malformed`], [`ListenError::Unresolved`] or [`ListenError::NotLoopback`].
    fn from_str(text: &str) -> Result<Self, ListenError> {
        let malformed = |reason: &str| ListenError::Malformed {
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(malformed("the path is empty"));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        if text.starts_with("https://") {
            return Err(malformed("TLS is not supported"));
        }
        let host_port = text.strip_prefix("http://").unwrap_or(text);
        let host_port = host_port.strip_suffix('/').unwrap_or(host_port);
        if let Ok(address) = host_port.parse() {
            require_loopback(address)?;
            return Ok(Self::Tcp(address));
        }
        match host_port.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {}
            _ => return Err(malformed("expected HOST:PORT")),
        }
        let unresolved = |source| ListenError::Unresolved {
            host: host_port.to_owned(),
            source,
        };
        let addresses: Vec<SocketAddr> = host_port.to_socket_addrs().map_err(unresolved)?.collect();
        for &address in &addresses {
            require_loopback(address)?;
        }
        addresses
            .iter()
            .find(|address| address.is_ipv4())
            .or(addresses.first())
            .map(|&address| Self::Tcp(address))
            .ok_or_else(|| unresolved(io::Error::from(io::ErrorKind::NotFound)))
    }
}

fn require_loopback(address: SocketAddr) -> Result<(), ListenError> {
    // `to_canonical`: `::ffff:127.0.0.1` is a loopback address too, `::ffff:0.0.0.0` is not.
    if address.ip().to_canonical().is_loopback() {
        Ok(())
    } else {
        Err(ListenError::NotLoopback { address })
    }
}

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

/// The connections that the user accepts.
pub(super) type Connections = BoxStream<'static, io::Result<Box<dyn Connection>>>;

/// A bound, listening socket, or what stands in for it.
pub(super) enum BoundListener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
    Custom(Connections),
}

impl fmt::Debug for BoundListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => listener.fmt(f),
            Self::Unix(listener, _) => listener.fmt(f),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}

impl BoundListener {
    /// Binds and listens. Must be called within a Tokio runtime.
    pub(super) fn new(listen: &Listen) -> Result<Self, ListenError> {
        let io = |source| ListenError::Io {
            listen: listen.clone(),
            source,
        };
        match listen {
            Listen::Tcp(address) => {
                require_loopback(*address)?;
                let listener = std::net::TcpListener::bind(address).map_err(io)?;
                listener.set_nonblocking(true).map_err(io)?;
                Ok(Self::Tcp(TcpListener::from_std(listener).map_err(io)?))
            }
            Listen::Unix(path) => {
                let (listener, file) = bind_unix(path, None, io)?;
                Ok(Self::Unix(listener, file))
            }
            Listen::UnixOfGroup(path, group) => {
                let (listener, file) = bind_unix(path, Some(*group), io)?;
                Ok(Self::Unix(listener, file))
            }
        }
    }

    /// Returns the file by which clients find the server, for a Unix socket.
    pub(super) fn socket(&self) -> Option<SocketPath> {
        match self {
            Self::Tcp(_) | Self::Custom(_) => None,
            Self::Unix(_, file) => Some(file.0.clone()),
        }
    }

    /// Returns the address that was bound, if there is one.
    pub(super) fn address(&self) -> io::Result<Option<Listen>> {
        Ok(match self {
            Self::Tcp(listener) => Some(Listen::Tcp(listener.local_addr()?)),
            Self::Unix(_, file) => Some(Listen::Unix(file.0.path.clone())),
            Self::Custom(_) => None,
        })
    }
}

fn bind_unix(
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
pub(super) struct SocketPath {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketPath {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether clients find the socket at its path. If the system fails to answer, they are
    /// assumed to find it.
    pub(super) async fn is_in_place(&self) -> bool {
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
pub(super) struct SocketFile(SocketPath);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let path = &self.0.path;
        let is_own = fs::symlink_metadata(path).is_ok_and(|found| self.0.matches(&found));
        if is_own && let Err(err) = fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %err, "cannot remove the socket file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> Listen {
        Listen::Tcp(text.parse().expect("an address"))
    }

    #[test]
    fn loopback_addresses_and_sockets_are_parsed() {
        for (text, expected) in [
            ("127.0.0.1:2379", tcp("127.0.0.1:2379")),
            ("http://127.0.0.1:2379", tcp("127.0.0.1:2379")),
            ("http://127.0.0.1:2379/", tcp("127.0.0.1:2379")),
            ("[::1]:0", tcp("[::1]:0")),
            ("127.8.9.10:1", tcp("127.8.9.10:1")),
            ("unix:/a/b", Listen::Unix("/a/b".into())),
            ("unix:///a/b", Listen::Unix("/a/b".into())),
            ("unix:sock", Listen::Unix("sock".into())),
        ] {
            assert_eq!(text.parse::<Listen>().expect(text), expected, "{text}");
        }
    }

    #[test]
    fn what_other_machines_could_reach_is_refused() {
        for text in [
            "0.0.0.0:2379",
            "[::]:2379",
            "192.168.1.1:2379",
            "[fe80::1]:2379",
            "[::ffff:0.0.0.0]:2379",
            "[::ffff:10.0.0.1]:2379",
            "http://0.0.0.0:2379",
        ] {
            let err = text.parse::<Listen>().expect_err(text);
            assert!(
                matches!(err, ListenError::NotLoopback { .. }),
                "{text}: {err}"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_named() {
        for text in [
            "",
            "2379",
            ":2379",
            "localhost",
            "localhost:port",
            "unix:",
            "https://127.0.0.1:1",
        ] {
            let err = text.parse::<Listen>().expect_err(text);
            assert!(
                matches!(&err, ListenError::Malformed { text: named, .. } if named == text),
                "{text}: {err}"
            );
        }
    }

    #[test]
    fn localhost_is_looked_up() {
        let Listen::Tcp(address) = "localhost:2379".parse().expect("localhost resolves") else {
            panic!("not TCP");
        };
        assert!(address.ip().is_loopback());
        assert_eq!(address.port(), 2379);
    }
}

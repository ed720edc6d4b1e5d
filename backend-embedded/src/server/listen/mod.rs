//! The addresses that the server listens on: parses them, and binds them.

mod bound;
mod inherited;
mod socket;

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

pub(super) use self::bound::BoundListener;
pub use self::inherited::InheritedListener;
pub(super) use self::inherited::Prepared;
pub use self::socket::{MAX_SOCKET_PATH_BYTES, remove_stale_socket};
pub(super) use self::socket::{SocketFile, SocketPath};

/// An address to listen on.
///
/// As text: `127.0.0.1:2379`, `[::1]:2379`, `localhost:2379`, `unix:/run/user/1000/turnlock/sock`.
/// A TCP address may start with `http://`, so that an etcd endpoint can be pasted. Whether a server may
/// listen on an address is decided when it is bound: see [`Security`](super::Security).
///
/// ```
/// use backend_embedded::server::Listen;
///
/// let listen: Listen = "unix:/run/user/1000/turnlock/sock".parse()?;
/// assert_eq!(listen.to_string(), "unix:/run/user/1000/turnlock/sock");
/// # Ok::<(), backend_embedded::server::ListenError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address. With port 0 the system chooses a port, which
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
    /// The address can be reached from other machines, and nothing keeps them out.
    #[error(
        "refusing to listen on {address}: it is not a loopback address, and {missing}, so anybody who reaches it could \
         take or break any lock; give a certificate, its key and the authority of the clients' certificates, or listen \
         on 127.0.0.1 or [::1] and use an ssh tunnel"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
        /// What is missing.
        missing: &'static str,
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
    /// Others could use a Unix socket that was inherited, or put another one in its place.
    #[error("refusing the inherited socket `{}`: it {reason}; {remedy}", path.display())]
    UnsafeSocket {
        /// The path of the socket; empty if it has none.
        path: PathBuf,
        /// What is wrong with the socket.
        reason: String,
        /// How to fix it.
        remedy: String,
    },
    /// The system refused an operation on a socket that was inherited.
    #[error("cannot listen on an inherited socket")]
    Inherited {
        /// The system's error.
        source: io::Error,
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

    /// Parses an address. A host name is resolved, which may block. The first IPv4 address is used,
    /// or the first address if there is no IPv4 one.
    ///
    /// # Errors
    /// [`ListenError::Malformed`] or [`ListenError::Unresolved`].
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
            return Err(malformed(
                "an address has no scheme: with a certificate, each TCP address speaks TLS",
            ));
        }
        let host_port = text.strip_prefix("http://").unwrap_or(text);
        let host_port = host_port.strip_suffix('/').unwrap_or(host_port);
        if let Ok(address) = host_port.parse() {
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
        addresses
            .iter()
            .find(|address| address.is_ipv4())
            .or(addresses.first())
            .map(|&address| Self::Tcp(address))
            .ok_or_else(|| unresolved(io::Error::from(io::ErrorKind::NotFound)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> Listen {
        Listen::Tcp(text.parse().expect("an address"))
    }

    #[test]
    fn addresses_and_sockets_are_parsed() {
        for (text, expected) in [
            ("127.0.0.1:2379", tcp("127.0.0.1:2379")),
            ("http://127.0.0.1:2379", tcp("127.0.0.1:2379")),
            ("http://127.0.0.1:2379/", tcp("127.0.0.1:2379")),
            ("[::1]:0", tcp("[::1]:0")),
            ("http://0.0.0.0:2379", tcp("0.0.0.0:2379")),
            ("127.8.9.10:1", tcp("127.8.9.10:1")),
            ("unix:/a/b", Listen::Unix("/a/b".into())),
            ("unix:///a/b", Listen::Unix("/a/b".into())),
            ("unix:sock", Listen::Unix("sock".into())),
        ] {
            assert_eq!(text.parse::<Listen>().expect(text), expected, "{text}");
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

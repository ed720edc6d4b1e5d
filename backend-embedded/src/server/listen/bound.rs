//! The sockets that listen.

use std::fmt;
use std::io;

use backend_kit::connection::Connection;
use futures_util::stream::BoxStream;
use tokio::net::{TcpListener, UnixListener};

use super::inherited::{InheritedListener, Prepared, inherited};
use super::socket::{SocketFile, SocketPath, bind_unix};
use super::{Listen, ListenError};

/// The connections that the user accepts.
pub(in crate::server) type Connections = BoxStream<'static, io::Result<Box<dyn Connection>>>;

/// A bound, listening socket, or what stands in for it.
pub(in crate::server) enum BoundListener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
    /// A service manager made the socket, and keeps its file.
    InheritedUnix(UnixListener, Listen),
    Custom(Connections),
}

impl fmt::Debug for BoundListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => listener.fmt(f),
            Self::Unix(listener, _) | Self::InheritedUnix(listener, _) => listener.fmt(f),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}

impl BoundListener {
    /// Binds and listens. Must be called within a Tokio runtime.
    pub(in crate::server) fn new(listen: &Listen) -> Result<Self, ListenError> {
        let io = |source| ListenError::Io {
            listen: listen.clone(),
            source,
        };
        match listen {
            Listen::Tcp(address) => {
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

    /// Takes a socket that a service manager has opened. Must be called within a Tokio runtime.
    pub(in crate::server) fn inherit(listener: InheritedListener) -> Result<Self, ListenError> {
        let address = listener.address()?;
        Ok(match listener.prepare().map_err(inherited)? {
            Prepared::Tcp(listener) => Self::Tcp(listener),
            Prepared::Unix(listener) => Self::InheritedUnix(listener, address),
        })
    }

    /// Returns the file by which clients find the server, for a Unix socket that was made here.
    pub(in crate::server) fn socket(&self) -> Option<SocketPath> {
        match self {
            Self::Tcp(_) | Self::InheritedUnix(..) | Self::Custom(_) => None,
            Self::Unix(_, file) => Some(file.0.clone()),
        }
    }

    /// Returns the address that was bound, if there is one.
    pub(in crate::server) fn address(&self) -> io::Result<Option<Listen>> {
        Ok(match self {
            Self::Tcp(listener) => Some(Listen::Tcp(listener.local_addr()?)),
            Self::Unix(_, file) => Some(Listen::Unix(file.0.path().to_owned())),
            Self::InheritedUnix(_, address) => Some(address.clone()),
            Self::Custom(_) => None,
        })
    }
}

//! The coordinator behind the etcd v3 gRPC API, on TCP and on Unix sockets.
//!
//! The server implements KV, Watch, Lease, Lock and Election. Of Cluster and Maintenance it
//! implements the member list, the status, the list of alarms, hashes and snapshots. A request to
//! defragment does nothing: free pages of the file are used again. Any other method returns
//! `UNIMPLEMENTED` with its name. Little history is kept, so a read at a revision from long ago returns
//! "compacted". Without TLS, the server listens on loopback addresses and in private folders only; see
//! [`Security`]. Over a Unix socket, Go clients need etcd 3.5 or later: those of 3.4
//! send the socket's path as HTTP/2 authority, which is malformed, and their streams are reset.
//!
//! ```no_run
//! use backend_embedded::server::{Listen, Server};
//! use backend_embedded::{Coordinator, Limits};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let coordinator = Coordinator::in_memory(Limits::default())?;
//! let listen: Listen = "127.0.0.1:2379".parse()?;
//! let server = Server::bind(coordinator, vec![listen])?;
//! println!("listening on {:?}", server.addresses());
//! server.serve(std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```

pub mod access;
mod auth;
mod bodies;
mod bound_server;
mod call_registry;
mod clients;
mod cluster;
mod commit_wait;
mod connections;
mod deadlines;
mod decode;
mod drain;
mod election;
mod encode;
mod fragment;
mod health;
mod kv;
mod lease;
mod lifecycle;
mod limits;
mod listen;
mod lock;
mod log_pace;
mod maintenance;
mod metrics;
mod only_grpc;
mod probes;
mod progress;
mod proto;
mod queue;
mod routes;
mod security;
mod snapshot;
mod state;
mod status;
mod tls;
mod unimplemented;
mod watch;
mod watch_options;

use std::io;

use futures_util::{Stream, StreamExt};

use self::listen::BoundListener;
use crate::config::MAX_REQUEST_BYTES;
use crate::coordinator::Coordinator;

pub use self::bound_server::BoundServer;
pub use self::limits::ServerLimits;
pub use self::listen::{
    InheritedListener, Listen, ListenError, MAX_SOCKET_PATH_BYTES, remove_stale_socket,
};
pub use self::probes::MetricsListener;
pub use self::security::{Reach, Security};
pub use self::status::DETAIL_KEY;
pub use self::tls::{Tls, TlsError, TlsFiles};
pub use backend_kit::connection::Connection;

// A feature, because the explorer is another crate: a build without it has no such names at all.
#[cfg(feature = "models")]
#[doc(hidden)]
pub mod models {
    use etcd_client::proto::{PbResponseHeader, PbTxnRequest, PbTxnResponse};

    use super::{decode, encode};
    use crate::machine::op::{Txn, TxnResult};

    /// Decodes a transaction as the server does.
    ///
    /// # Errors
    /// The server's refusal.
    pub fn decode_txn(request: PbTxnRequest) -> Result<Txn, tonic::Status> {
        decode::txn(request)
    }

    /// Encodes the result of a transaction that left the store at this revision, as the server does.
    pub fn encode_txn(revision: u64, result: &TxnResult) -> PbTxnResponse {
        let header = PbResponseHeader {
            revision: encode::to_i64(revision),
            ..PbResponseHeader::default()
        };
        encode::txn(header, result)
    }
}

/// The largest message accepted, in bytes: a request of [`MAX_REQUEST_BYTES`] and its wrapping (as
/// in etcd).
pub const MAX_MESSAGE_BYTES: usize = MAX_REQUEST_BYTES + 512 * 1024;

/// The most RPCs, including streams, that one connection may have open. Further calls wait in the
/// client.
pub const MAX_STREAMS_PER_CONNECTION: u32 = 4096;

/// The gRPC server. See the [module](self) for an example.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Binds every address, without TLS: see [`bind_with`](Self::bind_with).
    ///
    /// # Errors
    /// Those of [`bind_with`](Self::bind_with).
    pub fn bind(
        coordinator: Coordinator,
        listeners: Vec<Listen>,
    ) -> Result<BoundServer, ListenError> {
        Self::bind_with(coordinator, listeners, Security::default())
    }

    /// Binds every address. Clients can then connect and wait; nothing is served before
    /// [`BoundServer::serve`]. Must be called within a Tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    /// [`ListenError`] if anybody on other machines could use an address, or if the system refuses
    /// it. No address stays bound then.
    pub fn bind_with(
        coordinator: Coordinator,
        listeners: Vec<Listen>,
        security: Security,
    ) -> Result<BoundServer, ListenError> {
        for listen in &listeners {
            security.check(listen)?;
        }
        let bound = listeners
            .iter()
            .map(BoundListener::new)
            .collect::<Result<Vec<_>, _>>()?;
        let mut addresses = Vec::with_capacity(bound.len());
        for (bound, listen) in bound.iter().zip(&listeners) {
            let address = bound.address().map_err(|source| ListenError::Io {
                listen: listen.clone(),
                source,
            })?;
            addresses.extend(address);
        }
        Ok(BoundServer::new(coordinator, bound, addresses, security))
    }

    /// Takes connections that somebody else accepts: through a tunnel, for example, or within the
    /// process. Anyone who can open such a connection can take and break any lock. After an error the
    /// server waits for a moment before it asks for the next one.
    ///
    /// ```
    /// use backend_embedded::server::{Connection, Server};
    /// use backend_embedded::{Coordinator, Limits};
    /// use futures_util::stream;
    ///
    /// let coordinator = Coordinator::in_memory(Limits::default())?;
    /// let (_client, server) = tokio::io::duplex(64 * 1024);
    /// let connection: Box<dyn Connection> = Box::new(server);
    /// let server = Server::with_connections(coordinator, stream::iter([Ok(connection)]));
    /// assert!(server.addresses().is_empty());
    /// # Ok::<(), backend_embedded::Error>(())
    /// ```
    pub fn with_connections(
        coordinator: Coordinator,
        connections: impl Stream<Item = io::Result<Box<dyn Connection>>> + Send + 'static,
    ) -> BoundServer {
        let bound = vec![BoundListener::Custom(connections.fuse().boxed())];
        BoundServer::new(coordinator, bound, Vec::new(), Security::default())
    }
}

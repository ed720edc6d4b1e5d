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
mod call_registry;
mod clients;
mod cluster;
mod commit_wait;
mod connection;
mod decode;
mod drain;
mod election;
mod encode;
mod fragment;
mod health;
mod incoming;
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
mod security;
mod snapshot;
mod state;
mod status;
mod tls;
mod unimplemented;
mod watch;
mod watch_options;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::{
    PbClusterServer, PbKvServer, PbLeaseServer, PbMaintenanceServer, PbWatchServer,
};
use futures_util::future::join_all;
use futures_util::{Stream, StreamExt};
use tonic::service::Routes;
use tonic::transport;
use tonic_health::pb::health_server::HealthServer;

use self::access::Authenticated;
use self::bodies::LimitBodies;
use self::clients::Clients;
use self::drain::{DRAIN_LIMIT, Drain};
use self::incoming::Incoming;
use self::lifecycle::Lifecycle;
use self::listen::{BoundListener, SocketPath};
use self::metrics::{CountCalls, Metrics};
use self::only_grpc::OnlyGrpc;
use self::probes::Probed;
use self::state::State;
use self::tls::{HandshakeFailures, Handshakes};
use self::unimplemented::NameUnimplemented;
use crate::config::MAX_REQUEST_BYTES;
use crate::coordinator::Coordinator;

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

/// The largest message of those who have not said who they are, in bytes: a name and a password.
const MAX_STRANGERS_MESSAGE_BYTES: usize = 4 * 1024;

/// The most RPCs, including streams, that one connection may have open. Further calls wait in the
/// client.
pub const MAX_STREAMS_PER_CONNECTION: u32 = 4096;

/// The largest header block of a request, in bytes.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// How long a connection may be silent before it is pinged, to find dead clients.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long a client may take to answer that ping.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The time between two checks whether clients still find the server's sockets.
const SOCKET_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// How often an idle watch gets a progress notification, if it asked for them, by default (as in
/// etcd).
const PROGRESS_INTERVAL: Duration = Duration::from_secs(600);

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
        let mut server = BoundServer::new(coordinator, bound, addresses);
        server.security = security;
        Ok(server)
    }

    /// Takes connections that somebody else accepts: through a tunnel, for example, or within the
    /// process. Anyone who can open such a connection can take and break any lock. After an error the server waits for a moment before it asks
    /// for the next one.
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
        BoundServer::new(coordinator, bound, Vec::new())
    }
}

/// A server whose addresses are bound and that is ready to serve. Dropping it releases the
/// addresses.
#[derive(Debug)]
pub struct BoundServer {
    coordinator: Coordinator,
    bound: Vec<BoundListener>,
    addresses: Vec<Listen>,
    security: Security,
    metrics: Vec<MetricsListener>,
    etcd_names: bool,
    limits: ServerLimits,
    live: Arc<tokio::sync::watch::Sender<usize>>,
    progress_interval: Duration,
    drain_limit: Duration,
}

impl BoundServer {
    fn new(coordinator: Coordinator, bound: Vec<BoundListener>, addresses: Vec<Listen>) -> Self {
        BoundServer {
            coordinator,
            bound,
            addresses,
            security: Security::default(),
            metrics: Vec::new(),
            etcd_names: false,
            limits: ServerLimits::default(),
            live: Arc::new(tokio::sync::watch::Sender::new(0)),
            progress_interval: PROGRESS_INTERVAL,
            drain_limit: DRAIN_LIMIT,
        }
    }

    /// Also serves on a socket that a service manager has opened and passed on. Neither its file nor
    /// its folder is changed. Must be called within a Tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// [`ListenError::NotLoopback`] as in [`Server::bind_with`]; those of
    /// [`InheritedListener::address`].
    pub fn with_inherited(mut self, listener: InheritedListener) -> Result<Self, ListenError> {
        let address = listener.address()?;
        self.security.check(&address)?;
        self.bound.push(BoundListener::inherit(listener)?);
        self.addresses.push(address);
        Ok(self)
    }

    /// Returns the addresses that were bound, in the order given, and those that were inherited.
    pub fn addresses(&self) -> &[Listen] {
        &self.addresses
    }

    /// Returns who can use the coordinator at an address of this server.
    pub fn reach(&self, address: &Listen) -> Reach {
        self.security.reach(address)
    }

    /// Returns a receiver of the number of live connections.
    pub fn connections(&self) -> tokio::sync::watch::Receiver<usize> {
        self.live.subscribe()
    }

    /// Also answers requests for metrics and probes on these listeners, over HTTP/1.1: `/metrics` in
    /// the text format of Prometheus; `/livez`, whether the coordinator works at all; `/readyz` and
    /// `/healthz`, whether it takes writes. A probe that fails has the status 503, and the reason as
    /// its text.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// use backend_embedded::server::{Listen, MetricsListener, Server};
    /// use backend_embedded::{Coordinator, Limits};
    ///
    /// let metrics = MetricsListener::bind(&"127.0.0.1:0".parse()?)?;
    /// println!("http://{}/metrics", metrics.address());
    /// let coordinator = Coordinator::in_memory(Limits::default())?;
    /// let server = Server::bind(coordinator, vec!["127.0.0.1:0".parse()?])?;
    /// let server = server.with_metrics(vec![metrics]);
    /// # drop(server);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_metrics(mut self, listeners: Vec<MetricsListener>) -> Self {
        self.metrics = listeners;
        self
    }

    /// Also answers a request for metrics with those that etcd's own alerts and dashboards look for,
    /// under their names: `etcd_server_has_leader`, `etcd_server_is_leader`,
    /// `etcd_mvcc_db_total_size_in_bytes`, `etcd_server_quota_backend_bytes`,
    /// `etcd_disk_wal_fsync_duration_seconds`, `etcd_disk_backend_commit_duration_seconds` and
    /// `etcd_server_proposals_failed_total`. By default there are none of them.
    #[must_use]
    pub fn with_etcd_metric_names(mut self) -> Self {
        self.etcd_names = true;
        self
    }

    /// Sets what the clients may have at once.
    #[must_use]
    pub fn with_limits(mut self, limits: ServerLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how often an idle watch gets a progress notification, if it asked for them; 10 minutes
    /// by default.
    #[must_use]
    pub fn with_progress_interval(mut self, interval: Duration) -> Self {
        self.progress_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// Sets how long answers under way may take when the server ends; 5 s by default.
    #[must_use]
    pub fn with_drain_limit(mut self, limit: Duration) -> Self {
        self.drain_limit = limit;
        self
    }

    /// Serves until `shutdown` resolves, the coordinator stops, or a socket file is no longer the
    /// one that was made here, so that clients do not find the server. Then the server drains:
    ///
    /// 1. It accepts no more connections, removes its socket files, and refuses new sessions with
    ///    `UNAVAILABLE`. It is not ready any more, say its probes. Answers under way are sent, and
    ///    leases are renewed meanwhile. This takes no longer than the
    ///    [limit](Self::with_drain_limit).
    /// 2. Streams and waiting calls end with `UNAVAILABLE`, and get two seconds for that.
    /// 3. Everything still open is cut.
    ///
    /// Nobody waits for the holders of locks. The coordinator is not stopped.
    ///
    /// # Errors
    /// [`ListenError::SocketGone`] if the server ended for that reason.
    ///
    /// # Cancel safety
    /// Dropping the future cuts all connections at once.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), ListenError> {
        // No other coordinator takes the folder until all connections have ended.
        let _shutdown_guard = self.coordinator.shutdown_guard();
        let (phase, lifecycle) = Lifecycle::new();
        let coordinator = self.coordinator.clone();
        let tls = self.security.tls().cloned();
        let access = self.security.access().cloned();
        let urls = self.addresses.iter();
        let urls = urls.map(|address| client_url(address, tls.is_some()));
        let warnings = self.security.warnings(&self.addresses);
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let failures = Arc::new(HandshakeFailures::default());
        let clients = Arc::new(Clients::new(self.limits, self.live));
        let mut metrics = Metrics::new(coordinator.clone(), Arc::clone(&clients), self.etcd_names);
        metrics.add_security(tls.clone(), Arc::clone(&failures), !warnings.is_empty());
        let metrics = Arc::new(metrics);
        let state = Arc::new(State::new(
            self.coordinator,
            access.clone(),
            lifecycle.clone(),
            urls.collect(),
            warnings,
            self.progress_interval,
        ));
        let probed = Arc::new(Probed::new(
            coordinator.clone(),
            lifecycle.clone(),
            Arc::clone(&metrics),
        ));
        let listeners = self.metrics.into_iter();
        let probing = join_all(listeners.map(|it| it.serve(Arc::clone(&probed))));
        let mut probing = pin!(async {
            probing.await;
            // There are no listeners.
            std::future::pending::<()>().await;
        });
        let following = async {
            match &access {
                Some(access) => access.follow_files().await,
                None => std::future::pending().await,
            }
        };
        let sockets: Vec<_> = self
            .bound
            .iter()
            .filter_map(BoundListener::socket)
            .collect();
        let handshakes = tls.clone().map(|tls| Handshakes::new(tls, failures));
        let following_tls = async {
            match &tls {
                Some(tls) => tls.follow().await,
                None => std::future::pending().await,
            }
        };
        let incoming = Incoming::new(self.bound, handshakes, clients, lifecycle.clone());
        let mut serving = pin!(
            transport::Server::builder()
                .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
                .http2_max_header_list_size(MAX_HEADER_BYTES)
                .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
                .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
                .serve_with_incoming_shutdown(
                    CountCalls {
                        inner: OnlyGrpc(Authenticated {
                            inner: LimitBodies {
                                inner: NameUnimplemented(routes(&state)),
                                traffic: metrics.calls().traffic().clone(),
                            },
                            access: access.clone(),
                        }),
                        metrics: Arc::clone(metrics.calls()),
                    },
                    incoming,
                    async move { lifecycle.wait_for_draining().await },
                )
        );
        let mut drain = Drain {
            phase,
            calls: Arc::clone(metrics.calls()),
            limit: self.drain_limit,
        };
        let mut outcome = Ok(());
        tokio::select! {
            // The server ends only by its own shutdown: connections that cannot be accepted are
            // skipped.
            _ = &mut serving => return Ok(()),
            () = shutdown => {}
            () = &mut probing => {}
            () = following => {}
            () = following_tls => {}
            reason = coordinator.closed() => {
                tracing::info!(%reason, "the server ends");
                // No answer is worth waiting for: clients have to learn that their sessions are gone.
                drain.limit = Duration::ZERO;
            }
            error = wait_for_lost_socket(&sockets) => {
                tracing::error!(%error, "the server ends");
                // If the socket was lost together with the folder, clients have to learn that, and
                // it is the coordinator that has ended.
                coordinator.check_location();
                if coordinator.failure().is_none() {
                    outcome = Err(error);
                }
            }
        }
        tokio::select! {
            () = drain.run(serving) => {}
            // Probes are told that the server is not ready.
            () = probing => {}
        }
        outcome
    }
}

/// Waits until one of these sockets is no longer in its place.
async fn wait_for_lost_socket(sockets: &[SocketPath]) -> ListenError {
    if sockets.is_empty() {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(SOCKET_CHECK_INTERVAL).await;
        for socket in sockets {
            if !socket.is_in_place().await {
                let path = socket.path().to_path_buf();
                return ListenError::SocketGone { path };
            }
        }
    }
}

fn client_url(address: &Listen, is_encrypted: bool) -> String {
    match address {
        Listen::Tcp(address) if is_encrypted => format!("https://{address}"),
        Listen::Tcp(address) => format!("http://{address}"),
        Listen::Unix(path) | Listen::UnixOfGroup(path, _) => format!("unix://{}", path.display()),
    }
}

fn routes(state: &Arc<State>) -> Routes {
    let state = || Arc::clone(state);
    let max = MAX_MESSAGE_BYTES;
    let kv = PbKvServer::new(kv::Kv(state()));
    let watch = PbWatchServer::new(watch::Watch(state()));
    let lease = PbLeaseServer::new(lease::Lease(state()));
    let cluster = PbClusterServer::new(cluster::Cluster(state()));
    let maintenance = PbMaintenanceServer::new(maintenance::Maintenance(state()));
    let lock = proto::LockServer::new(lock::Lock(state()));
    let election = proto::ElectionServer::new(election::Election(state()));
    let auth = proto::AuthServer::new(auth::Auth(state()));
    let health = HealthServer::new(health::Health(state()));
    Routes::new(kv.max_decoding_message_size(max))
        .add_service(watch.max_decoding_message_size(max))
        .add_service(lease.max_decoding_message_size(max))
        .add_service(cluster.max_decoding_message_size(max))
        .add_service(maintenance.max_decoding_message_size(max))
        .add_service(lock.max_decoding_message_size(max))
        .add_service(election.max_decoding_message_size(max))
        .add_service(auth.max_decoding_message_size(MAX_STRANGERS_MESSAGE_BYTES))
        .add_service(health.max_decoding_message_size(MAX_STRANGERS_MESSAGE_BYTES))
        .prepare()
}

//! A server that is bound, and what it runs on until it ends.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::access::Authenticated;
use super::bodies::LimitBodies;
use super::clients::Clients;
use super::connections::{self, Incoming};
use super::deadlines::Deadlines;
use super::drain::{DRAIN_LIMIT, Drain};
use super::lifecycle::Lifecycle;
use super::limits::ServerLimits;
use super::listen::{BoundListener, InheritedListener, Listen, ListenError, SocketPath};
use super::metrics::{CountCalls, Metrics};
use super::only_grpc::OnlyGrpc;
use super::probes::{MetricsListener, Probed};
use super::routes::routes;
use super::security::{Reach, Security};
use super::state::State;
use super::tls::{HandshakeFailures, Handshakes};
use super::unimplemented::NameUnimplemented;
use crate::coordinator::Coordinator;

/// The time between two checks whether clients still find the server's sockets.
const SOCKET_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// How often an idle watch gets a progress notification, if it asked for them, by default (as in
/// etcd).
const PROGRESS_INTERVAL: Duration = Duration::from_secs(600);

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
    pub(super) fn new(
        coordinator: Coordinator,
        bound: Vec<BoundListener>,
        addresses: Vec<Listen>,
        security: Security,
    ) -> Self {
        BoundServer {
            coordinator,
            bound,
            addresses,
            security,
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
    /// [`ListenError::NotLoopback`] as in [`Server::bind_with`](super::Server::bind_with); those of
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
        let incoming = Incoming::new(self.bound, handshakes, clients);
        let service = Deadlines(CountCalls {
            inner: OnlyGrpc(Authenticated {
                inner: LimitBodies {
                    inner: NameUnimplemented(routes(&state)),
                    traffic: metrics.calls().traffic().clone(),
                },
                access: access.clone(),
            }),
            metrics: Arc::clone(metrics.calls()),
        });
        let mut serving = pin!(connections::serve(incoming, service, lifecycle));
        let mut drain = Drain {
            phase,
            calls: Arc::clone(metrics.calls()),
            limit: self.drain_limit,
        };
        let mut outcome = Ok(());
        tokio::select! {
            // The server ends only by its own shutdown.
            () = &mut serving => return Ok(()),
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

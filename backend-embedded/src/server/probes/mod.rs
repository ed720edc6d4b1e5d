//! Metrics and probes over HTTP: `/metrics`, `/livez`, `/readyz` and `/healthz`.
//!
//! A request for these must not delay the holders of locks. So there are few connections, each is cut
//! after a while, an answer is made on a thread of its own, and one is made at a time.

mod answer;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

pub(super) use self::answer::Probed;
use super::listen::{BoundListener, InheritedListener, Listen, ListenError, Prepared, SocketFile};

/// The most connections at once. A further one waits until one of them has ended.
const MAX_CONNECTIONS: usize = 16;

/// How long a connection may last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest head of a request, in bytes. It is the least that hyper takes.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// How long to wait after the system failed to accept a connection.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// The listeners for metrics and probes, bound before any lock is served. See
/// [`BoundServer::with_metrics`](super::BoundServer::with_metrics).
///
/// Anybody who reaches one can read the numbers of locks, waiters and clients, but no name, and
/// cannot change anything. So an address that others can reach is accepted. On a loopback address,
/// a request for another host name is refused, because a web page could have made it.
#[derive(Debug)]
pub struct MetricsListener {
    bound: Bound,
    address: Listen,
}

impl MetricsListener {
    /// Binds an address. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`ListenError::Io`] if the system refuses it, as it does when the port is taken;
    /// for a Unix socket also the errors of [`Server::bind`](super::Server::bind).
    pub fn bind(listen: &Listen) -> Result<Self, ListenError> {
        let io = |source| ListenError::Io {
            listen: listen.clone(),
            source,
        };
        if let Listen::Tcp(address) = listen {
            let (listener, address) = bind_tcp(*address).map_err(io)?;
            return Ok(MetricsListener {
                bound: Bound::Tcp(listener),
                address: Listen::Tcp(address),
            });
        }
        let BoundListener::Unix(listener, file) = BoundListener::new(listen)? else {
            let text = "neither a TCP address nor the path of a socket";
            return Err(io(io::Error::new(io::ErrorKind::InvalidInput, text)));
        };
        Ok(MetricsListener {
            bound: Bound::Unix {
                listener,
                _file: Some(file),
            },
            address: listen.clone(),
        })
    }

    /// Takes a socket that a service manager has opened and passed on. Must be called within a Tokio
    /// runtime.
    ///
    /// # Errors
    /// Those of [`InheritedListener::address`].
    pub fn inherit(listener: InheritedListener) -> Result<Self, ListenError> {
        let address = listener.address()?;
        let prepared = listener.prepare();
        let bound = match prepared.map_err(|source| ListenError::Inherited { source })? {
            Prepared::Tcp(listener) => Bound::Tcp(listener),
            Prepared::Unix(listener) => Bound::Unix {
                listener,
                _file: None,
            },
        };
        Ok(MetricsListener { bound, address })
    }

    /// Returns whether a web page on this machine could reach it.
    fn is_local(&self) -> bool {
        match &self.address {
            Listen::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Listen::Unix(_) | Listen::UnixOfGroup(..) => false,
        }
    }

    /// Returns the address that was bound.
    pub fn address(&self) -> &Listen {
        &self.address
    }

    /// Answers until the future is dropped.
    pub(super) async fn serve(self, probed: Arc<Probed>) {
        let is_local = self.is_local();
        let mut live = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = accept(&self.bound), if live.len() < MAX_CONNECTIONS => match accepted {
                    Ok(stream) => live.push(serve_connection(stream, &probed, is_local)),
                    Err(error) => {
                        tracing::debug!(%error, "cannot accept a connection for metrics");
                        tokio::time::sleep(ACCEPT_BACKOFF).await;
                    }
                },
                Some(()) = live.next() => {}
            }
        }
    }
}

/// A listening socket.
#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// Removed with this, if it was made here.
        _file: Option<SocketFile>,
    },
}

fn bind_tcp(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((TcpListener::from_std(listener)?, address))
}

async fn accept(bound: &Bound) -> io::Result<Either<TcpStream, UnixStream>> {
    match bound {
        Bound::Tcp(listener) => Ok(Either::Left(listener.accept().await?.0)),
        Bound::Unix { listener, .. } => Ok(Either::Right(listener.accept().await?.0)),
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    probed: &Arc<Probed>,
    is_local: bool,
) {
    let service = service_fn(|request| answer::answer(Arc::clone(probed), request, is_local));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        // So that connections that nobody uses take no place.
        .keep_alive(false)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_TIMEOUT, serving).await {
        tracing::debug!(%error, "a connection for metrics failed");
    }
}

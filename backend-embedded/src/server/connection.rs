//! Accepts connections: at most [`MAX_CONNECTIONS`] at once. Each is counted, and each ends with
//! the server.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use backend_kit::batched::Batched;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tonic::transport::server::Connected;

use super::bodies::Untaken;
use super::lifecycle::Lifecycle;
use super::listen::BoundListener;
use super::tls::{Handshakes, Identity, SecureConnection};
use super::usage::{Connections, Usage};
use crate::coordinator::Coordinator;

/// The most connections served at once. A further one takes the place of one that is idle. If there is
/// none, it is closed as soon as it is accepted, which a gRPC client reports as `UNAVAILABLE` and
/// retries.
pub const MAX_CONNECTIONS: usize = 4096;

/// How long a connection may take to send its HTTP/2 preface.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// The length of the HTTP/2 client preface in bytes.
const PREFACE_BYTES: usize = 24;

/// How long to wait after the system failed to accept a connection (no file descriptors, no
/// memory).
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// How often it is said that connections are refused.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The connections that arrive on all listeners.
pub(super) struct Incoming {
    listeners: Vec<BoundListener>,
    /// The index of the listener to poll first, so that a busy one cannot starve the others.
    next: usize,
    /// Those of all TCP listeners, if they speak TLS.
    handshakes: Option<Handshakes<Slot>>,
    live: Arc<watch::Sender<usize>>,
    connections: Connections,
    lifecycle: Lifecycle,
    coordinator: Coordinator,
    backoff: Option<Pin<Box<Sleep>>>,
    /// When it was last said that connections are refused.
    warned: Option<Instant>,
    /// Resolves when the server drains.
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Told once the listeners are closed.
    closed: Option<oneshot::Sender<()>>,
}

impl Incoming {
    pub(super) fn new(
        listeners: Vec<BoundListener>,
        handshakes: Option<Handshakes<Slot>>,
        live: Arc<watch::Sender<usize>>,
        lifecycle: Lifecycle,
        coordinator: Coordinator,
    ) -> Self {
        let draining = lifecycle.clone();
        Self {
            draining: Box::pin(async move { draining.wait_for_draining().await }),
            closed: None,
            listeners,
            next: 0,
            handshakes,
            live,
            connections: Connections::default(),
            lifecycle,
            coordinator,
            backoff: None,
            warned: None,
        }
    }

    /// Returns a future that resolves once the server drains and the listeners are closed. What serves
    /// the connections keeps this stream until the last one has ended, so whoever connects would wait
    /// for nothing until then.
    pub(super) fn wait_for_close(&mut self) -> impl Future<Output = ()> + use<> {
        let (closed, receiver) = oneshot::channel();
        self.closed = Some(closed);
        async move {
            let _ = receiver.await;
        }
    }

    /// Says that connections are refused, once a minute. The metrics count them.
    fn warn_of_refusals(&mut self) {
        let warned = self
            .warned
            .is_some_and(|at| at.elapsed() < WARNING_INTERVAL);
        if !warned {
            self.warned = Some(Instant::now());
            let limit = MAX_CONNECTIONS;
            tracing::warn!(
                limit,
                "too many connections, none of them idle: new ones are closed"
            );
        }
    }

    fn connect(&self, socket: Socket, slot: Slot) -> Connection {
        let usage = self.connections.add();
        Connection::new(socket, slot, usage, self.lifecycle.clone())
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        let count = self.listeners.len();
        for offset in 0..count {
            let index = (self.next + offset) % count;
            let accepted = match &mut self.listeners[index] {
                BoundListener::Tcp(listener) => listener
                    .poll_accept(cx)
                    .map_ok(|(stream, client)| Accepted::Tcp(stream, client)),
                BoundListener::Unix(listener, _) | BoundListener::InheritedUnix(listener, _) => {
                    listener
                        .poll_accept(cx)
                        .map_ok(|(stream, _)| Accepted::Other(Either::Left(stream)))
                }
                BoundListener::Custom(connections) => match connections.poll_next_unpin(cx) {
                    Poll::Ready(Some(accepted)) => {
                        Poll::Ready(accepted.map(|stream| Accepted::Other(Either::Right(stream))))
                    }
                    // After the last one, the server goes on with those that it has.
                    Poll::Ready(None) | Poll::Pending => Poll::Pending,
                },
            };
            if accepted.is_ready() {
                self.next = (index + 1) % count;
                return accepted;
            }
        }
        Poll::Pending
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.closed.is_some() && self.draining.as_mut().poll(cx).is_ready() {
            self.listeners.clear();
            self.handshakes = None;
            // Nobody listens if the server was dropped meanwhile.
            let _ = self.closed.take().map(|closed| closed.send(()));
        }
        loop {
            if let Some(handshakes) = &mut self.handshakes
                && let Poll::Ready(secure) = handshakes.poll_next(cx)
            {
                let usage = self.connections.add();
                let connection = Connection::secure(secure, usage, self.lifecycle.clone());
                return Poll::Ready(Some(Ok(connection)));
            }
            if let Some(backoff) = &mut self.backoff {
                ready!(backoff.as_mut().poll(cx));
                self.backoff = None;
            }
            match ready!(self.poll_accept(cx)) {
                Ok(accepted) => {
                    if let Accepted::Tcp(stream, _) = &accepted
                        && let Err(err) = stream.set_nodelay(true)
                    {
                        tracing::debug!(%err, "a connection ended before it was served");
                        continue;
                    }
                    let slot = Slot::take(&self.live).or_else(|| {
                        // The place is free once the other connection has noticed.
                        let gives_way = self.connections.cut_idlest();
                        gives_way.then(|| Slot::take_over(&self.live))
                    });
                    match (slot, accepted) {
                        (Some(slot), Accepted::Tcp(stream, client)) => {
                            if let Some(handshakes) = &mut self.handshakes {
                                handshakes.begin(stream, client, slot);
                                continue;
                            }
                            let socket = Either::Left(Either::Left(stream));
                            return Poll::Ready(Some(Ok(self.connect(socket, slot))));
                        }
                        (Some(slot), Accepted::Other(other)) => {
                            let socket = Either::Right(other);
                            return Poll::Ready(Some(Ok(self.connect(socket, slot))));
                        }
                        (None, _) => {
                            self.coordinator.figures().count_refused_connection();
                            self.warn_of_refusals();
                        }
                    }
                }
                Err(err) if err.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(err) => {
                    tracing::warn!(%err, "cannot accept a connection");
                    self.backoff = Some(Box::pin(tokio::time::sleep(ACCEPT_BACKOFF)));
                }
            }
        }
    }
}

/// One of the [`MAX_CONNECTIONS`] slots, released when dropped.
pub(super) struct Slot(Arc<watch::Sender<usize>>);

impl Slot {
    fn take(live: &Arc<watch::Sender<usize>>) -> Option<Self> {
        let taken = live.send_if_modified(|count| {
            let free = *count < MAX_CONNECTIONS;
            *count += usize::from(free);
            free
        });
        taken.then(|| Self(Arc::clone(live)))
    }

    /// Takes the slot of a connection that is about to end.
    fn take_over(live: &Arc<watch::Sender<usize>>) -> Self {
        live.send_modify(|count| *count += 1);
        Self(Arc::clone(live))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// What a listener has accepted.
enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Other(Either<UnixStream, Box<dyn backend_kit::connection::Connection>>),
}

type Socket = Either<
    Either<TcpStream, Box<TlsStream<TcpStream>>>,
    Either<UnixStream, Box<dyn backend_kit::connection::Connection>>,
>;

/// An accepted connection. Reads fail once the server is closed, if the connection gives way to
/// another one, if the client does not send its preface in time, or if it keeps others waiting by not taking its answers. Then the HTTP/2 layer drops the connection and all its streams.
pub(super) struct Connection {
    socket: Batched<Socket>,
    closed: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_closed: bool,
    preface: Option<Preface>,
    peer: Peer,
    _slot: Slot,
}

/// Who made a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// The id of the process, if the kernel knows it.
    pub(super) pid: Option<u32>,
    /// The names in the client's certificate, if it gave one.
    pub(super) identity: Option<Arc<Identity>>,
    /// The answers that the client has not taken yet.
    pub(super) untaken: Untaken,
    pub(super) usage: Arc<Usage>,
}

/// Returns the id of the process on the other side, if the kernel knows it.
fn find_pid(socket: &Socket) -> Option<u32> {
    let Either::Right(Either::Left(stream)) = socket else {
        return None;
    };
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    pid.and_then(|pid| u32::try_from(pid).ok())
}

struct Preface {
    bytes: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Connection {
    /// Takes a connection whose handshake is done.
    fn secure(secure: SecureConnection<Slot>, usage: Arc<Usage>, lifecycle: Lifecycle) -> Self {
        let SecureConnection {
            stream,
            identity,
            slot,
        } = secure;
        let mut connection = Self::new(Either::Left(Either::Right(stream)), slot, usage, lifecycle);
        connection.peer.identity = identity;
        connection
    }

    fn new(socket: Socket, slot: Slot, usage: Arc<Usage>, lifecycle: Lifecycle) -> Self {
        let closing = Arc::clone(&usage);
        Self {
            peer: Peer {
                pid: find_pid(&socket),
                identity: None,
                untaken: usage.untaken().clone(),
                usage,
            },
            socket: Batched::new(socket),
            closed: Box::pin(async move {
                tokio::select! {
                    () = lifecycle.wait_for_close() => {}
                    () = closing.wait_for_cut() => {}
                }
            }),
            is_closed: false,
            preface: Some(Preface {
                bytes: 0,
                deadline: Box::pin(tokio::time::sleep(PREFACE_TIMEOUT)),
            }),
            _slot: slot,
        }
    }
}

impl Connection {
    /// Fails once the connection is to end.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.is_closed || self.closed.as_mut().poll(cx).is_ready() {
            self.is_closed = true;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        // A client that takes no answers still answers pings.
        if self.peer.untaken.is_overdue() {
            tracing::warn!("a client does not take its answers while others wait: it is cut off");
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        if let Some(identity) = &self.peer.identity {
            tracing::debug!(client = %identity, "a client has proven who it is");
        }
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(cx)?;
        if let Some(preface) = &mut this.preface
            && preface.deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        if let Some(preface) = &mut this.preface {
            preface.bytes += buf.filled().len() - before;
            if preface.bytes >= PREFACE_BYTES {
                this.preface = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        // HTTP/2 does not read while it cannot write.
        let this = self.get_mut();
        this.check(cx)?;
        Pin::new(&mut this.socket).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(cx)?;
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_beyond_the_limit_is_counted() {
        let coordinator = Coordinator::in_memory(crate::Limits::default()).expect("a coordinator");
        let (_client, server) = tokio::io::duplex(64);
        let connection: Box<dyn backend_kit::connection::Connection> = Box::new(server);
        let connections = futures_util::stream::iter([Ok(connection)]).boxed();
        let live = Arc::new(watch::Sender::new(MAX_CONNECTIONS));
        let (_phase, lifecycle) = Lifecycle::new();
        let mut incoming = Incoming::new(
            vec![BoundListener::Custom(connections.fuse().boxed())],
            None,
            live,
            lifecycle,
            coordinator.clone(),
        );
        let accepted = std::future::poll_fn(|cx| Poll::Ready(incoming.poll_next_unpin(cx)));
        assert!(accepted.await.is_pending(), "there are too many");
        let refused = coordinator.figures().refused();
        let connections = refused.iter().find(|(reason, _)| *reason == "connections");
        assert_eq!(connections, Some(&("connections", 1)));
    }

    #[test]
    fn a_slot_is_free_again_once_its_connection_is_gone() {
        let live = Arc::new(watch::Sender::new(MAX_CONNECTIONS - 1));
        let last = Slot::take(&live).expect("one is free");
        assert!(Slot::take(&live).is_none());
        assert_eq!(*live.borrow(), MAX_CONNECTIONS);
        drop(last);
        assert!(Slot::take(&live).is_some());
    }
}

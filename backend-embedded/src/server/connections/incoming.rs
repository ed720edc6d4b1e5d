//! Accepts connections, as many as the limits allow.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use rustix::io::Errno;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep};
use tokio_util::either::Either;

use super::connection::{Connection, Socket};
use crate::server::clients::{Client, Clients, Slot};
use crate::server::listen::BoundListener;
use crate::server::log_pace::LogPace;
use crate::server::tls::Handshakes;

/// How long to wait after the system failed to accept a connection (no file descriptors, no
/// memory).
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// The connections that arrive on all listeners.
pub(in crate::server) struct Incoming {
    listeners: Vec<BoundListener>,
    /// The index of the listener to poll first, so that a busy one cannot starve the others.
    next: usize,
    /// Those of all TCP listeners, if they speak TLS.
    handshakes: Option<Handshakes<Slot>>,
    clients: Arc<Clients>,
    backoff: Option<Pin<Box<Sleep>>>,
    refusals: LogPace,
}

impl Incoming {
    pub(in crate::server) fn new(
        listeners: Vec<BoundListener>,
        handshakes: Option<Handshakes<Slot>>,
        clients: Arc<Clients>,
    ) -> Self {
        Self {
            listeners,
            next: 0,
            handshakes,
            clients,
            backoff: None,
            refusals: LogPace::default(),
        }
    }

    /// Says in the log that connections are refused.
    fn log_refusal(&mut self, client: Client, refused: u64) {
        if let Some(unlogged) = self.refusals.take_turn(refused, Instant::now()) {
            tracing::warn!(
                %client,
                unlogged,
                "too many connections, none of them idle: new ones are closed"
            );
        }
    }

    fn connect(&self, socket: Socket, slot: Slot) -> Connection {
        let usage = self.clients.add(&slot);
        Connection::new(socket, slot, usage)
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
    type Item = Connection;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(handshakes) = &mut self.handshakes
                && let Poll::Ready(secure) = handshakes.poll_next(cx)
            {
                let usage = self.clients.add(&secure.slot);
                let connection = Connection::secure(secure, usage);
                return Poll::Ready(Some(connection));
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
                    let client = accepted.client();
                    let slot = match self.clients.admit(client) {
                        Ok(slot) => slot,
                        Err(refused) => {
                            self.log_refusal(client, refused);
                            continue;
                        }
                    };
                    let socket = match accepted {
                        Accepted::Tcp(stream, address) => {
                            if let Some(handshakes) = &mut self.handshakes {
                                handshakes.begin(stream, address, slot);
                                continue;
                            }
                            Either::Left(Either::Left(stream))
                        }
                        Accepted::Other(other) => Either::Right(other),
                    };
                    return Poll::Ready(Some(self.connect(socket, slot)));
                }
                Err(err) if err.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(err) => {
                    tracing::warn!(%err, "cannot accept a connection");
                    if [Errno::MFILE, Errno::NFILE]
                        .map(|it| it.raw_os_error())
                        .map(Some)
                        .contains(&err.raw_os_error())
                    {
                        // A descriptor is free once the other connection has noticed.
                        self.clients.cut_idlest(|_| true);
                    }
                    self.backoff = Some(Box::pin(tokio::time::sleep(ACCEPT_BACKOFF)));
                }
            }
        }
    }
}

/// What a listener has accepted.
enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Other(Either<UnixStream, Box<dyn backend_kit::connection::Connection>>),
}

impl Accepted {
    /// Returns whose connection it is.
    fn client(&self) -> Client {
        match self {
            Accepted::Tcp(_, address) => Client::at(*address),
            Accepted::Other(Either::Left(stream)) => {
                let peer = stream.peer_cred();
                peer.map_or(Client::Local, |peer| Client::user(peer.uid()))
            }
            Accepted::Other(Either::Right(_)) => Client::Local,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::sync::watch;

    use super::*;
    use crate::server::ServerLimits;

    #[tokio::test]
    async fn a_connection_beyond_the_limit_is_closed_and_counted() {
        let (mut ends, sockets): (Vec<_>, Vec<_>) = (0..2)
            .map(|_| {
                let (client, server) = tokio::io::duplex(64);
                let server: Box<dyn backend_kit::connection::Connection> = Box::new(server);
                (client, Ok(server))
            })
            .unzip();
        let connections = stream::iter(sockets).boxed();
        let limits = ServerLimits::default().with_connections(1);
        let clients = Arc::new(Clients::new(limits, Arc::new(watch::Sender::new(0))));
        let mut incoming = Incoming::new(
            vec![BoundListener::Custom(connections.fuse().boxed())],
            None,
            Arc::clone(&clients),
        );
        let first = incoming.next().await.expect("one");
        let second = std::future::poll_fn(|cx| Poll::Ready(incoming.poll_next_unpin(cx)));
        assert!(second.await.is_pending(), "there are too many");
        assert_eq!(clients.refused()[0], ("connections", 1));
        let mut end = ends.pop().expect("two");
        let read = tokio::io::AsyncReadExt::read(&mut end, &mut [0]).await;
        assert_eq!(read.expect("closed"), 0);
        drop(first);
    }
}

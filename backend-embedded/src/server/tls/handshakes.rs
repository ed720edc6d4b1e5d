//! The handshakes under way on all listeners of one server.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable, BoxFuture};
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::server::TlsStream;

use super::failures::{HandshakeFailures, Reason};
use super::identity::Identity;
use super::reload::Tls;

/// The most handshakes under way. A further one ends the oldest, which is the likeliest to stand
/// still: so clients that say nothing cannot keep others out. An honest one takes milliseconds.
pub(super) const MAX_HANDSHAKES: usize = 512;

/// How long a handshake may take.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client that was refused has to read why.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// The most bytes that are read from a client that was refused.
const LINGER_BYTES: u64 = 64 * 1024;

/// A connection whose handshake is done.
pub(in crate::server) struct SecureConnection<S> {
    pub(in crate::server) stream: Box<TlsStream<TcpStream>>,
    /// Who the client is, if it gave a certificate.
    pub(in crate::server) identity: Option<Arc<Identity>>,
    /// What was given with the connection.
    pub(in crate::server) slot: S,
}

/// The outcome of the handshake with this number.
type Outcome<S> = (u64, Option<SecureConnection<S>>);

/// The handshakes under way, at most [`MAX_HANDSHAKES`]. Each keeps a value until it ends.
pub(in crate::server) struct Handshakes<S> {
    tls: Tls,
    failures: Arc<HandshakeFailures>,
    under_way: FuturesUnordered<BoxFuture<'static, Outcome<S>>>,
    /// By their numbers, so the oldest is the first.
    ends: BTreeMap<u64, AbortHandle>,
    begun: u64,
}

impl<S: Send + 'static> Handshakes<S> {
    pub(in crate::server) fn new(tls: Tls, failures: Arc<HandshakeFailures>) -> Self {
        Handshakes {
            tls,
            failures,
            under_way: FuturesUnordered::new(),
            ends: BTreeMap::new(),
            begun: 0,
        }
    }

    /// Begins a handshake with this client. It goes on when [`poll_next`](Self::poll_next) is called.
    pub(in crate::server) fn begin(&mut self, stream: TcpStream, client: SocketAddr, slot: S) {
        if self.ends.len() >= MAX_HANDSHAKES
            && let Some((_, oldest)) = self.ends.pop_first()
        {
            oldest.abort();
        }
        let number = self.begun;
        self.begun += 1;
        let (end, ended) = AbortHandle::new_pair();
        self.ends.insert(number, end);
        let tls = self.tls.clone();
        let mut report = Report {
            failures: Arc::clone(&self.failures),
            client,
            is_made: false,
        };
        self.under_way.push(Box::pin(async move {
            let handshake = shake_hands(tls, stream, slot, &mut report);
            let done = Abortable::new(handshake, ended).await;
            let done = done.unwrap_or_else(|_| {
                report.make(Reason::CrowdedOut, None);
                None
            });
            (number, done)
        }));
    }

    /// Returns a connection whose handshake is done. Those that have failed are left out.
    pub(in crate::server) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<SecureConnection<S>> {
        while let Some((number, done)) = ready!(self.under_way.poll_next_unpin(cx)) {
            self.ends.remove(&number);
            if let Some(connection) = done {
                return Poll::Ready(connection);
            }
        }
        // None is under way; `begin` is followed by another call of this.
        Poll::Pending
    }
}

/// Reports why a handshake failed.
struct Report {
    failures: Arc<HandshakeFailures>,
    client: SocketAddr,
    is_made: bool,
}

impl Report {
    /// Reports a failure. The first reason counts: a client that has been refused may be crowded out
    /// while it reads why.
    fn make(&mut self, reason: Reason, error: Option<&io::Error>) {
        if !std::mem::replace(&mut self.is_made, true) {
            self.failures.note(self.client, reason, error);
        }
    }
}

/// Makes a connection secure. Returns `None` if that fails.
async fn shake_hands<S>(
    tls: Tls,
    stream: TcpStream,
    slot: S,
    report: &mut Report,
) -> Option<SecureConnection<S>> {
    let Ok(accepted) = tokio::time::timeout(HANDSHAKE_TIMEOUT, accept(&tls, stream)).await else {
        report.make(Reason::Timeout, None);
        return None;
    };
    match accepted {
        Ok(stream) => {
            let (_, session) = stream.get_ref();
            let certificate = session.peer_certificates().and_then(|chain| chain.first());
            let identity = certificate.map(Identity::from_certificate);
            // One that was verified, and cannot be read, is not taken for none at all.
            let Ok(identity) = identity.map_or(Ok(None), |it| it.map(Some).ok_or(())) else {
                report.make(Reason::InvalidCertificate, None);
                return None;
            };
            Some(SecureConnection {
                stream: Box::new(stream),
                identity: identity.map(Arc::new),
                slot,
            })
        }
        Err(Refused {
            reason,
            error,
            stream,
        }) => {
            report.make(reason, Some(&error));
            if let Some(stream) = stream {
                let _ = tokio::time::timeout(LINGER_TIMEOUT, linger(stream)).await;
            }
            None
        }
    }
}

/// A handshake that failed.
struct Refused {
    reason: Reason,
    error: io::Error,
    stream: Option<TcpStream>,
}

async fn accept(tls: &Tls, stream: TcpStream) -> Result<TlsStream<TcpStream>, Refused> {
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), stream);
    let hello = match (&mut acceptor).await {
        Ok(hello) => hello,
        Err(error) => {
            return Err(Refused {
                reason: Reason::of(&error),
                error,
                stream: acceptor.take_io(),
            });
        }
    };
    let accepting = hello.into_stream(tls.config()).into_fallible();
    accepting.await.map_err(|(error, stream)| Refused {
        reason: match Reason::of(&error) {
            // By now the client has seen our certificate. Not every client says that it refuses it.
            Reason::Ended => Reason::RefusedByClient,
            reason => reason,
        },
        error,
        stream: Some(stream),
    })
}

/// Ends a connection so that the client can read the alert that tells it why. The system would
/// discard the alert if the connection were closed while there is something unread.
async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        let mut rest = stream.take(LINGER_BYTES);
        let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
    }
}

//! One connection: who made it, and when it ends.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use backend_kit::batched::Batched;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::server::clients::{Slot, Usage};
use crate::server::tls::{Identity, SecureConnection};

/// How long a connection may take to send its HTTP/2 preface.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// The length of the HTTP/2 client preface in bytes.
const PREFACE_BYTES: usize = 24;

pub(super) type Socket = Either<
    Either<TcpStream, Box<TlsStream<TcpStream>>>,
    Either<UnixStream, Box<dyn backend_kit::connection::Connection>>,
>;

/// An accepted connection. Reads and writes fail if the client does not send its preface in time, or
/// if it keeps others waiting by not taking its answers. Then the HTTP/2 layer drops the connection and
/// all its streams.
pub(in crate::server) struct Connection {
    socket: Batched<Socket>,
    preface: Option<Preface>,
    peer: Peer,
    _slot: Slot,
}

/// Who made a connection.
#[derive(Debug, Clone)]
pub(in crate::server) struct Peer {
    /// The id of the process, if the kernel knows it.
    pub(in crate::server) pid: Option<u32>,
    /// The names in the client's certificate, if it gave one.
    pub(in crate::server) identity: Option<Arc<Identity>>,
    pub(in crate::server) usage: Arc<Usage>,
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
    pub(super) fn secure(secure: SecureConnection<Slot>, usage: Arc<Usage>) -> Self {
        let SecureConnection {
            stream,
            identity,
            slot,
        } = secure;
        let mut connection = Self::new(Either::Left(Either::Right(stream)), slot, usage);
        if let Some(identity) = &identity {
            tracing::debug!(client = %identity, "a client has proven who it is");
        }
        connection.peer.identity = identity;
        connection
    }

    pub(super) fn new(socket: Socket, slot: Slot, usage: Arc<Usage>) -> Self {
        Self {
            peer: Peer {
                pid: find_pid(&socket),
                identity: None,
                usage,
            },
            socket: Batched::new(socket),
            preface: Some(Preface {
                bytes: 0,
                deadline: Box::pin(tokio::time::sleep(PREFACE_TIMEOUT)),
            }),
            _slot: slot,
        }
    }
}

impl Connection {
    /// Returns who made the connection.
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Fails once the client has kept others waiting for too long.
    fn check(&self) -> io::Result<()> {
        // A client that takes no answers still answers pings.
        if self.peer.usage.untaken().is_overdue() {
            tracing::warn!("a client does not take its answers while others wait: it is cut off");
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
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
        this.check()?;
        Pin::new(&mut this.socket).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A client that does not read can keep this from its end as well.
        let this = self.get_mut();
        this.check()?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

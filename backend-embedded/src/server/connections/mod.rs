//! Accepts connections and serves each of them in a task of its own.

mod connection;
mod incoming;
mod turns;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use hyper::body::Incoming as RequestBody;
use hyper::server::conn::http2;
use hyper::service::Service as HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::{Service, http};

pub(super) use self::connection::Peer;
pub(super) use self::incoming::Incoming;

use self::connection::Connection;
use self::turns::Executor;
use super::MAX_STREAMS_PER_CONNECTION;
use super::lifecycle::Lifecycle;

/// The largest header block of a request, in bytes.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// How long a connection may be silent before it is pinged, to find dead clients.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long a client may take to answer that ping.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves these connections until the server drains, and then the open ones until they have ended.
/// Dropping the future cuts all of them.
pub(super) async fn serve<S>(incoming: Incoming, service: S, lifecycle: Lifecycle)
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let mut connections = JoinSet::new();
    {
        // Dropped before the open connections are waited for: nothing new can connect by then.
        let mut incoming = pin!(incoming);
        loop {
            tokio::select! {
                () = lifecycle.wait_for_draining() => break,
                Some(_) = connections.join_next() => {}
                Some(connection) = incoming.next() => {
                    connections.spawn(serve_one(connection, service.clone(), lifecycle.clone()));
                }
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Serves a connection until it has ended or is cut: because the server is closed, or because the
/// connection gives way to another one. When the server drains, the connection takes no more calls, and
/// ends with the last one that is under way.
async fn serve_one<S>(connection: Connection, service: S, lifecycle: Lifecycle)
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let executor = Executor::default();
    let peer = connection.peer().clone();
    let usage = Arc::clone(&peer.usage);
    let calls = Calls { peer, service };
    let http = http2::Builder::new(executor.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .serve_connection(TokioIo::new(connection), calls);
    let connection = async {
        let mut http = pin!(http);
        let mut cut = pin!(async {
            tokio::select! {
                () = lifecycle.wait_for_close() => {}
                () = usage.wait_for_cut() => {}
            }
        });
        let mut is_draining = false;
        loop {
            tokio::select! {
                biased;
                ended = &mut http => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection failed");
                    }
                    break;
                }
                () = &mut cut => break,
                () = lifecycle.wait_for_draining(), if !is_draining => {
                    is_draining = true;
                    http.as_mut().graceful_shutdown();
                }
            }
        }
    };
    turns::run(connection, executor).await;
}

/// Serves the calls of one connection, and tells the services who made the calls.
struct Calls<S> {
    peer: Peer,
    service: S,
}

impl<S> HttpService<http::Request<RequestBody>> for Calls<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = S::Future;

    fn call(&self, request: http::Request<RequestBody>) -> S::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer.clone());
        // All services of the server are always ready.
        self.service.clone().call(request)
    }
}

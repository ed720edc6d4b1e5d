//! An HTTP/2 proxy in front of a coordinator, for one client process. It counts the requests, and
//! answers them itself, or not at all, while there is trouble.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use etcd_client::proto::{PbTxnOpRequest, PbTxnRequest, PbWatchRequest, PbWatchRequestUnion};
use futures_util::stream::{self, Stream, StreamExt};
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Collected, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2 as client;
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::{Code, Status};

const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
const TXN: &str = "/etcdserverpb.KV/Txn";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// The id that a client asks for in the watch of a renewal.
const RENEWAL_WATCH: i64 = 0x7475_726e;

/// The bytes before the message of a gRPC call: a flag, and the length.
const MESSAGE_HEADER: usize = 5;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// What is the matter with the coordinator, as its clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// It refuses every call, and ends the streams.
    Refuses(Code),
    /// It refuses every transaction that takes a place in a queue.
    RefusesEnqueues,
    /// It refuses every stream of watches, and ends those that there are.
    RefusesWatches,
    /// It accepts connections and calls, and answers nothing. Later it goes on with all of them.
    Hangs,
}

/// A proxy on a port of its own. A drop ends nothing: it goes with its runtime.
pub struct Proxy {
    address: SocketAddr,
    calls: Arc<Calls>,
}

/// When the calls so far came, but those that renew a session.
type Calls = Mutex<Vec<Instant>>;

impl Proxy {
    /// Starts a proxy in front of the server at this address.
    pub async fn start(server: String, trouble: watch::Receiver<Trouble>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let calls = Arc::<Calls>::default();
        let counted = calls.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (server, trouble) = (server.clone(), trouble.clone());
                tokio::spawn(serve(stream, server, trouble, counted.clone()));
            }
        });
        Proxy { address, calls }
    }

    pub fn url(&self) -> String {
        format!("etcd://{}", self.address)
    }

    /// Returns when the calls so far came, but those that renew a session.
    pub fn calls(&self) -> Vec<Instant> {
        self.calls.lock().expect("no panic").clone()
    }
}

/// Passes on the calls of one connection, until either side ends it.
async fn serve(
    stream: TcpStream,
    server: String,
    trouble: watch::Receiver<Trouble>,
    calls: Arc<Calls>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let upstream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let upstream = client::handshake(TokioExecutor::new(), TokioIo::new(upstream)).await?;
    let (upstream, upstream_connection) = upstream;
    let service = service_fn(|request: Request<Incoming>| {
        let (upstream, trouble) = (upstream.clone(), trouble.clone());
        let calls = calls.clone();
        async move { Ok::<_, Infallible>(answer(request, upstream, trouble, &calls).await) }
    });
    let builder = server::Builder::new(TokioExecutor::new());
    tokio::select! {
        ended = builder.serve_connection(TokioIo::new(stream), service) => ended?,
        ended = upstream_connection => ended?,
    }
    Ok(())
}

async fn answer(
    request: Request<Incoming>,
    mut upstream: client::SendRequest<Body>,
    mut trouble: watch::Receiver<Trouble>,
    calls: &Calls,
) -> Response<Body> {
    let at = Instant::now();
    let (parts, mut body) = request.into_parts();
    let path = parts.uri.path();
    let (message, rest) = match path {
        TXN => (body.collect().await.map(Collected::to_bytes).ok(), None),
        _ => (first_message(&mut body).await, Some(body)),
    };
    // Without one, the client has given up.
    let message = message.unwrap_or_default();
    if path != KEEP_ALIVE && !(path == WATCH && is_renewal(&message)) {
        calls.lock().expect("no panic").push(at);
    }
    let refused = |code| refused(code).into_http();
    match wait_out_silence(&mut trouble).await {
        Trouble::Refuses(code) => return refused(code),
        Trouble::RefusesEnqueues if path == TXN && takes_a_place(&decode(&message)) => {
            return refused(Code::ResourceExhausted);
        }
        Trouble::RefusesWatches if path == WATCH && !is_renewal(&message) => {
            return refused(Code::Unavailable);
        }
        _ => {}
    }
    let is_watch = path == WATCH;
    let rest = rest.map(|body| pass(body, is_watch, trouble.clone(), None));
    let message = stream::iter([Ok(Frame::data(message))]);
    let body = StreamBody::new(message.chain(stream::iter(rest).flatten())).boxed_unsync();
    let response = upstream
        .send_request(Request::from_parts(parts, body))
        .await;
    match (wait_out_silence(&mut trouble).await, response) {
        // An etcd does not say "too many requests" of a request that it has carried out.
        (Trouble::Refuses(Code::Unavailable), _) => refused(Code::Unavailable),
        (_, Ok(response)) => response.map(|body| {
            let frames = pass(body, is_watch, trouble, Some(refusal));
            StreamBody::new(frames).boxed_unsync()
        }),
        (_, Err(_)) => refused(Code::Unavailable),
    }
}

/// Returns the first message of a stream. It is small, so it comes in one frame.
async fn first_message(body: &mut Incoming) -> Option<Bytes> {
    body.frame().await?.ok()?.into_data().ok()
}

/// Waits until there is another trouble than silence, or none.
async fn wait_out_silence(trouble: &mut watch::Receiver<Trouble>) -> Trouble {
    let now = trouble.wait_for(|trouble| *trouble != Trouble::Hangs).await;
    // The test is over if there is no sender.
    now.map_or(Trouble::Refuses(Code::Unavailable), |trouble| *trouble)
}

/// Returns the answer of an etcd that refuses everything.
fn refused(code: Code) -> Status {
    Status::new(code, "etcdserver: too many requests")
}

/// Makes the end of an answer that says so.
type Refusal = fn(Code) -> HeaderMap;

fn refusal(code: Code) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let added = refused(code).add_header(&mut trailers);
    added.expect("valid headers");
    trailers
}

/// Passes on a body, and ends it when calls are refused, with these trailers if it is an answer.
fn pass(
    body: Incoming,
    is_watch: bool,
    trouble: watch::Receiver<Trouble>,
    refusal: Option<Refusal>,
) -> impl Stream<Item = Result<Frame<Bytes>, hyper::Error>> {
    stream::unfold(Some((body, trouble)), move |state| async move {
        let (mut body, mut trouble) = state?;
        loop {
            let now = *trouble.borrow_and_update();
            match now {
                Trouble::Refuses(code) => {
                    let trailers = refusal?(code);
                    return Some((Ok(Frame::trailers(trailers)), None));
                }
                Trouble::RefusesWatches if is_watch => {
                    let trailers = refusal?(Code::Unavailable);
                    return Some((Ok(Frame::trailers(trailers)), None));
                }
                Trouble::Hangs => trouble.changed().await.ok()?,
                _ => tokio::select! {
                    biased;
                    changed = trouble.changed() => changed.ok()?,
                    frame = body.frame() => {
                        let frame = frame?;
                        return Some((frame, Some((body, trouble))));
                    }
                },
            }
        }
    })
}

/// Returns whether a transaction, or one within it, puts something that lives as long as a session.
/// A client's requests that come at once share a transaction, each as one within it.
fn takes_a_place(txn: &PbTxnRequest) -> bool {
    txn.success.iter().any(|op| match &op.request {
        Some(PbTxnOpRequest::RequestPut(put)) => put.lease != 0,
        Some(PbTxnOpRequest::RequestTxn(inner)) => takes_a_place(inner),
        _ => false,
    })
}

/// Returns whether a watch belongs to a renewal, which finds out by it whether the server is etcd's
/// `grpc-proxy`.
fn is_renewal(call: &[u8]) -> bool {
    let watch: PbWatchRequest = decode(call);
    let creation = match watch.request_union {
        Some(PbWatchRequestUnion::CreateRequest(creation)) => creation,
        _ => return false,
    };
    creation.watch_id == RENEWAL_WATCH
}

fn decode<M: Message + Default>(call: &[u8]) -> M {
    let message = call.get(MESSAGE_HEADER..).unwrap_or_default();
    M::decode(message).expect("a whole message")
}

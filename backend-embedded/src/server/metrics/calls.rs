//! Counts the calls of each gRPC method, under the names of Go's gRPC, which etcd uses.

use std::array;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use lock_core::clock::Stopwatch;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::{Code, Status};

use super::methods::{CODES, SERVICES, UNARY, UNKNOWN, WAITING};
use crate::server::bodies::Traffic;
use crate::server::clients::{Clients, InUse, Purpose};
use crate::server::connections::Peer;
use crate::server::status;

/// The bounds of the buckets, in seconds: those of Go's gRPC, which end at 10 s, and two more.
const BUCKETS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0,
];

/// How the paths of the health service begin.
const HEALTH: &str = "/grpc.health.";

/// The calls that keep a session alive, or end one.
const LIVENESS: [&str; 2] = [
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.Lease/LeaseRevoke",
];

type Labels = Vec<(&'static str, &'static str)>;

/// The calls of all methods.
#[derive(Debug)]
pub(in crate::server) struct CallMetrics {
    handled: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
    methods: BTreeMap<String, Arc<Method>>,
    unknown: Arc<Method>,
    clients: Arc<Clients>,
    unanswered: Arc<AtomicI64>,
    traffic: Traffic,
}

/// The calls of one method. The handles are kept, so that a call looks up nothing else.
#[derive(Debug)]
struct Method {
    ends_by_itself: bool,
    handled: [Counter; CODES.len()],
    seconds: Histogram,
}

impl CallMetrics {
    pub(super) fn new(clients: Arc<Clients>) -> Self {
        let handled = Family::<Labels, Counter>::default();
        let seconds: Family<Labels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        let method = |service: &'static str, method: &'static str, kind: &'static str| {
            let labels = |code: Option<&'static str>| -> Labels {
                let fixed = [
                    ("grpc_type", kind),
                    ("grpc_service", service),
                    ("grpc_method", method),
                ];
                let code = code.map(|code| ("grpc_code", code));
                fixed.into_iter().chain(code).collect()
            };
            Arc::new(Method {
                ends_by_itself: kind == UNARY && !WAITING.contains(&(service, method)),
                handled: array::from_fn(|code| {
                    handled.get_or_create_owned(&labels(Some(CODES[code])))
                }),
                seconds: seconds.get_or_create_owned(&labels(None)),
            })
        };
        let mut methods = BTreeMap::new();
        for (service, unary, streams) in SERVICES {
            let unary = unary.iter().map(|name| (*name, UNARY));
            for (name, kind) in unary.chain(streams.iter().copied()) {
                methods.insert(format!("/{service}/{name}"), method(service, name, kind));
            }
        }
        CallMetrics {
            unknown: method(UNKNOWN, UNKNOWN, UNARY),
            methods,
            handled,
            seconds,
            unanswered: Arc::default(),
            traffic: Traffic::new(clients.limits()),
            clients,
        }
    }

    /// Returns the bytes of the calls that are under way.
    pub(in crate::server) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "grpc_server_handled",
            "Calls that have ended, by their status",
            self.handled.clone(),
        );
        registry.register(
            "grpc_server_handling_seconds",
            "How long calls took, with their streams",
            self.seconds.clone(),
        );
    }

    /// Returns the number of calls that are under way and end by themselves.
    pub(in crate::server) fn unanswered(&self) -> i64 {
        self.unanswered.load(Ordering::Relaxed)
    }

    pub(super) fn clients(&self) -> &Clients {
        &self.clients
    }

    /// Counts a call. Fails if there are too many, and counts that.
    fn begin<B>(&self, request: &http::Request<B>) -> Result<Call, Status> {
        let path = request.uri().path();
        let method = Arc::clone(self.methods.get(path).unwrap_or(&self.unknown));
        if method.ends_by_itself {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
        }
        let mut call = Call {
            method,
            watch: Stopwatch::start(),
            unanswered: Arc::clone(&self.unanswered),
            in_use: None,
            code: Code::Cancelled,
        };
        let purpose = match path {
            _ if LIVENESS.contains(&path) => Purpose::Liveness,
            _ if path.starts_with(HEALTH) => Purpose::Health,
            _ => Purpose::Usual,
        };
        if let Some(peer) = request.extensions().get::<Peer>() {
            call.in_use = self.clients.begin_call(&peer.usage, purpose);
            if call.in_use.is_none() {
                let refusal = status::exhausted(
                    "turnlock: too many calls are under way, of all clients or of this one; try \
                     again after a pause",
                );
                call.code = refusal.code();
                return Err(refusal);
            }
        }
        Ok(call)
    }
}

/// A call that is under way. It is counted when this is dropped.
#[derive(Debug)]
struct Call {
    method: Arc<Method>,
    watch: Stopwatch,
    /// The calls that are under way and end by themselves: neither streams nor calls that wait for
    /// others.
    unanswered: Arc<AtomicI64>,
    /// The connection is in use as long as the call is under way.
    in_use: Option<InUse>,
    /// The status; "cancelled" until there is one, because then the client has gone.
    code: Code,
}

impl Call {
    fn note_status(&mut self, headers: &http::HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.code = status.code();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.method.ends_by_itself {
            self.unanswered.fetch_sub(1, Ordering::Relaxed);
        }
        let code = self.code as usize;
        self.method.handled[code.min(CODES.len() - 1)].inc();
        let took = self.watch.elapsed().as_secs_f64();
        self.method.seconds.observe(took);
    }
}

/// The layer that counts the calls.
#[derive(Clone)]
pub(in crate::server) struct CountCalls<S> {
    pub(in crate::server) inner: S,
    pub(in crate::server) metrics: Arc<CallMetrics>,
}

impl<S, B> Service<http::Request<B>> for CountCalls<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let mut call = match self.metrics.begin(&request) {
            Ok(call) => call,
            Err(refusal) => return Box::pin(async move { Ok(refusal.into_http()) }),
        };
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            // A response without a message has its status here.
            call.note_status(response.headers());
            Ok(response.map(|body| Body::new(CountedBody { body, call })))
        })
    }
}

/// The body of a response. Its trailers have the status.
struct CountedBody {
    body: Body,
    call: Call,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            this.call.note_status(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

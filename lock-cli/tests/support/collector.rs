//! A collector of OpenTelemetry in the test's own process: it keeps the spans that it is sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::support::wait_for;

type Spans = Arc<Mutex<Vec<Exported>>>;

/// A span, and the service that made it.
#[derive(Debug, Clone)]
pub struct Exported {
    pub service: String,
    pub span: Span,
}

impl Exported {
    /// Returns an attribute that is a text or a number; an empty text if it is not there.
    pub fn attribute(&self, key: &str) -> String {
        find(&self.span.attributes, key)
    }

    /// Returns the position of this span in its trace, as `TRACEPARENT` has it.
    pub fn traceparent(&self) -> String {
        let (trace, span) = (hex(&self.span.trace_id), hex(&self.span.span_id));
        format!("00-{trace}-{span}-01")
    }
}

/// Returns the attribute of this key.
pub fn find(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|kv| kv.key == key);
    match found.and_then(|kv| kv.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A collector that serves until it is dropped.
pub struct Collector {
    address: SocketAddr,
    spans: Spans,
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let spans = Spans::default();
        let bound = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = bound.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let service = TraceServiceServer::new(Keeper(spans.clone()));
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Collector {
            address,
            spans,
            _runtime: runtime,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns what has come so far.
    pub fn spans(&self) -> Vec<Exported> {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.clone()
    }

    /// Waits for a span that is as described.
    pub fn wait_for(&self, what: &str, is_it: impl Fn(&Exported) -> bool) -> Exported {
        wait_for(what, || self.spans().into_iter().find(&is_it))
    }

    /// Waits for the only span of this name in the trace of another span.
    pub fn in_trace_of(&self, other: &Exported, name: &str) -> Exported {
        let is_it =
            |span: &Exported| span.span.name == name && span.span.trace_id == other.span.trace_id;
        self.wait_for(name, is_it)
    }
}

struct Keeper(Spans);

#[tonic::async_trait]
impl TraceService for Keeper {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for of_resource in request.into_inner().resource_spans {
            let resource = of_resource.resource.unwrap_or_default();
            let service = find(&resource.attributes, "service.name");
            let of_scopes = of_resource.scope_spans.into_iter();
            spans.extend(
                of_scopes
                    .flat_map(|scope| scope.spans)
                    .map(|span| Exported {
                        service: service.clone(),
                        span,
                    }),
            );
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

//! The memory of requests and answers that are under way. A client can announce much and send
//! nothing, or ask for much and take nothing. So memory is taken as data comes, and all of it
//! together is bounded.

mod answers;
mod requests;
mod untaken;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::Body as HttpBody;
use tonic::body::Body;
use tonic::codegen::{Service, StdError, http};

pub(super) use self::answers::AnswerBudget;
use self::answers::{Answers, ReservedBody};
use self::requests::{RequestBudget, Requests, WholeMessages};
pub(super) use self::untaken::Untaken;
use super::connections::Peer;
use super::limits::ServerLimits;
use super::metrics::is_unary;

/// The most bytes that a request or an answer has without being counted. The requests and answers
/// of locks are shorter, so they never wait for others.
const UNCOUNTED_BYTES: usize = 4 * 1024;

/// The bytes of all requests and answers that are under way.
#[derive(Debug, Clone)]
pub(super) struct Traffic {
    requests: Arc<Requests>,
    answers: Arc<Answers>,
}

impl Traffic {
    pub(super) fn new(limits: &ServerLimits) -> Self {
        Traffic {
            requests: Arc::new(Requests::new(limits.request_bytes)),
            answers: Arc::new(Answers::new(limits.answer_bytes)),
        }
    }

    /// Returns the bytes of requests that have come in and are not answered yet, and the most that
    /// there may be.
    pub(super) fn request_bytes(&self) -> (usize, usize) {
        self.requests.bytes()
    }

    /// Returns how many requests were refused because there was no room for them, or for their
    /// answers.
    pub(super) fn refused(&self) -> [(&'static str, u64); 2] {
        [
            ("request_bytes", self.requests.refused()),
            ("answer_bytes", self.answers.refused()),
        ]
    }

    /// Returns the bytes of answers that clients have not taken yet, and the most that there may be.
    pub(super) fn answer_bytes(&self) -> (usize, usize) {
        self.answers.bytes()
    }
}

/// The layer that counts and bounds the bytes under way.
#[derive(Clone)]
pub(super) struct LimitBodies<S> {
    pub(super) inner: S,
    pub(super) traffic: Traffic,
}

impl<S, B> Service<http::Request<B>> for LimitBodies<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<StdError>,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let is_unary = is_unary(request.uri().path());
        let budget = RequestBudget::new(Arc::clone(&self.traffic.requests));
        let mut request = request.map(|body| {
            let body = WholeMessages::new(body, budget.clone(), is_unary);
            Body::new(body)
        });
        let untaken = request
            .extensions()
            .get()
            .map(|peer: &Peer| peer.usage.untaken());
        let untaken = untaken.cloned().unwrap_or_default();
        let answer = AnswerBudget::new(Arc::clone(&self.traffic.answers), untaken);
        request.extensions_mut().insert(answer.clone());
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            // The request was read, and is not needed any more.
            drop(budget);
            Ok(response.map(|body| match is_unary && answer.is_empty() {
                true => body,
                false => Body::new(ReservedBody::new(body, answer)),
            }))
        })
    }
}

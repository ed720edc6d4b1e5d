//! `tower` middleware that puts a fence in front of an HTTP service.
//!
//! A client sends the portable form of its token in the header `Fencing-Token`. `turnlock run`
//! passes that form to its command:
//!
//! ```sh
//! turnlock run printer -c 'curl --fail -H "Fencing-Token: $TURNLOCK_FENCING_TOKEN" -d @page http://printer/'
//! ```
//!
//! | Request | Response |
//! |---|---|
//! | a safe method (GET, HEAD, OPTIONS, TRACE) | the service's |
//! | an admitted token | the service's, after earlier requests of the same lock; the service finds the [`FencingToken`] among the request's extensions |
//! | no token | 428 Precondition Required |
//! | a malformed token, or two tokens | 400 Bad Request |
//! | a reader's token | 403 Forbidden |
//! | a stale token | 412 Precondition Failed |
//! | a token of a lock for which the register has no room | 503 Service Unavailable |
//!
//! The check covers the work that the service does before it responds, not work that it leaves for
//! later. A client can claim any token: the fence orders the writes of clients that are allowed to
//! write, and does not authenticate anybody. The example `http` of this crate is a whole server.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use crate::error::{Error, ErrorKind};
use crate::register::Register;
use crate::token::FencingToken;

/// The header that carries the token.
pub const HEADER: &str = "fencing-token";

/// Puts a fence in front of a service. Services made by one layer, or by layers with clones of one
/// register, share the tokens that they have seen.
#[derive(Debug, Clone, Default)]
pub struct FenceLayer {
    register: Register,
}

impl FenceLayer {
    /// Returns a layer that uses this register.
    pub fn new(register: Register) -> Self {
        FenceLayer { register }
    }
}

impl<S> Layer<S> for FenceLayer {
    type Service = FenceService<S>;

    fn layer(&self, inner: S) -> FenceService<S> {
        FenceService {
            inner,
            register: self.register.clone(),
        }
    }
}

/// A service behind a fence: see [`FenceLayer`].
#[derive(Debug, Clone)]
pub struct FenceService<S> {
    inner: S,
    register: Register,
}

impl<S, B, R> Service<Request<B>> for FenceService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: From<String>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The service that `poll_ready` was called on handles this request.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let register = self.register.clone();
        Box::pin(async move {
            if request.method().is_safe() {
                return inner.call(request).await;
            }
            let token = match parse_token(&request) {
                Ok(token) => token,
                Err((status, why)) => return Ok(refusal(status, why)),
            };
            let entered = match register.enter(&token).await {
                Ok(entered) => entered,
                Err(error) => return Ok(refusal(to_status(&error), error.to_string())),
            };
            request.extensions_mut().insert(token);
            let answer = inner.call(request).await;
            drop(entered);
            answer
        })
    }
}

fn parse_token<B>(request: &Request<B>) -> Result<FencingToken, (StatusCode, String)> {
    let mut values = request.headers().get_all(HEADER).iter();
    let Some(value) = values.next() else {
        let why = format!("a write needs the header {HEADER} with the token of the lock");
        return Err((StatusCode::PRECONDITION_REQUIRED, why));
    };
    if values.next().is_some() {
        let why = format!("there is more than one header {HEADER}");
        return Err((StatusCode::BAD_REQUEST, why));
    }
    String::from_utf8_lossy(value.as_bytes())
        .parse()
        .map_err(|error: Error| (StatusCode::BAD_REQUEST, error.to_string()))
}

fn to_status(error: &Error) -> StatusCode {
    match error.kind() {
        ErrorKind::Stale { .. } => StatusCode::PRECONDITION_FAILED,
        ErrorKind::Shared => StatusCode::FORBIDDEN,
        ErrorKind::Full => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn refusal<R: From<String>>(status: StatusCode, why: String) -> Response<R> {
    let mut response = Response::new(R::from(why + "\n"));
    *response.status_mut() = status;
    response
}

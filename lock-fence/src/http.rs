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
//! | a token of a lock for which the register has no room | 503 Service Unavailable, with `Retry-After` |
//!
//! The check covers the work that the service does before it responds, not work that it leaves for
//! later. A client can claim any token: the fence orders the writes of clients that are allowed to
//! write, and does not authenticate anybody. The example `http` of this crate is a whole server.
//!
//! A service that takes locks itself answers with [`lock_refusal`] when it cannot get one: see the
//! example `axum`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use crate::error::{Error, ErrorKind};
use crate::register::Register;
use crate::token::FencingToken;

/// The header that carries the token.
pub const HEADER: &str = "fencing-token";

/// When a client should come back if nobody knows better.
const DEFAULT_PAUSE: Duration = Duration::from_secs(1);

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
                Err((status, why)) => return Ok(refusal(status, None, why)),
            };
            let entered = match register.enter(&token).await {
                Ok(entered) => entered,
                Err(error) => {
                    let (status, pause) = to_status(&error);
                    return Ok(refusal(status, pause, error.to_string()));
                }
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

fn to_status(error: &Error) -> (StatusCode, Option<Duration>) {
    match error.kind() {
        ErrorKind::Stale { .. } => (StatusCode::PRECONDITION_FAILED, None),
        ErrorKind::Shared => (StatusCode::FORBIDDEN, None),
        ErrorKind::Full => (StatusCode::SERVICE_UNAVAILABLE, Some(DEFAULT_PAUSE)),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, None),
    }
}

/// Returns the response of a service that could not do its work because an operation on a lock failed
/// with this error. The body is the text of the error.
///
/// | Kind of error | Status |
/// |---|---|
/// | `Exhausted` | 429 Too Many Requests, with `Retry-After` |
/// | `Unreachable` | 503 Service Unavailable, with `Retry-After` |
/// | `SessionLost`, `Evicted` | 503 Service Unavailable, with `Retry-After`: the next request acquires the lock again |
/// | `InvalidName`, `InvalidArgument` | 400 Bad Request |
/// | `Refused` | 403 Forbidden |
/// | `Unsupported` | 501 Not Implemented |
/// | any other | 500 Internal Server Error |
///
/// `Retry-After` is [`Error::retry_after`](lock_core::Error::retry_after) in whole seconds, rounded
/// up, or one second if that is not known. A lock that others hold is no error: a service that does
/// not wait for it usually answers with 409 Conflict or 423 Locked.
///
/// # Examples
/// ```
/// use http::Response;
/// use lock_core::{Error, ErrorKind};
/// use std::time::Duration;
///
/// let error = Error::new(ErrorKind::Exhausted, "too many leases")
///     .with_retry_after(Duration::from_millis(1500));
/// let response: Response<String> = lock_fence::http::lock_refusal(&error);
/// assert_eq!(response.status(), 429);
/// assert_eq!(response.headers()["retry-after"], "2");
/// ```
pub fn lock_refusal<R: From<String>>(error: &lock_core::Error) -> Response<R> {
    use lock_core::ErrorKind as Kind;
    let (status, is_passing) = match error.kind() {
        Kind::Exhausted => (StatusCode::TOO_MANY_REQUESTS, true),
        Kind::Unreachable | Kind::SessionLost(_) | Kind::Evicted => {
            (StatusCode::SERVICE_UNAVAILABLE, true)
        }
        Kind::InvalidName | Kind::InvalidArgument => (StatusCode::BAD_REQUEST, false),
        Kind::Refused => (StatusCode::FORBIDDEN, false),
        Kind::Unsupported => (StatusCode::NOT_IMPLEMENTED, false),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, false),
    };
    let pause = is_passing.then(|| error.retry_after().unwrap_or(DEFAULT_PAUSE));
    refusal(status, pause, error.to_string())
}

fn refusal<R: From<String>>(
    status: StatusCode,
    retry_after: Option<Duration>,
    why: String,
) -> Response<R> {
    let mut response = Response::new(R::from(why + "\n"));
    *response.status_mut() = status;
    if let Some(pause) = retry_after {
        let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

#[cfg(test)]
mod tests {
    use lock_core::{Error, ErrorKind};

    use super::*;

    fn answered(error: &Error) -> (u16, Option<String>) {
        let response: Response<String> = lock_refusal(error);
        let pause = response.headers().get(RETRY_AFTER);
        let pause = pause.map(|pause| pause.to_str().expect("visible").to_owned());
        (response.status().as_u16(), pause)
    }

    #[test]
    fn what_may_pass_says_when_to_come_back() {
        for (kind, status) in [
            (ErrorKind::Exhausted, 429),
            (ErrorKind::Unreachable, 503),
            (ErrorKind::Evicted, 503),
        ] {
            let error = Error::new(kind, "for a test");
            assert_eq!(answered(&error), (status, Some("1".into())), "{kind:?}");
            let error = error.with_retry_after(Duration::from_millis(2001));
            assert_eq!(answered(&error), (status, Some("3".into())), "{kind:?}");
        }
    }

    #[test]
    fn what_does_not_pass_says_so() {
        for (kind, status) in [
            (ErrorKind::InvalidName, 400),
            (ErrorKind::Refused, 403),
            (ErrorKind::Unsupported, 501),
            (ErrorKind::Internal, 500),
        ] {
            let error = Error::new(kind, "for a test").with_retry_after(Duration::from_secs(1));
            assert_eq!(answered(&error), (status, None), "{kind:?}");
        }
    }
}

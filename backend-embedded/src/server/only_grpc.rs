//! Turns away requests that are not gRPC, such as those of a browser, before they can be taken for
//! calls.

use std::future::{Ready, ready};
use std::task::{Context, Poll};

use futures_util::future::Either;
use tonic::body::Body;
use tonic::codegen::http::header::{ALLOW, CONTENT_TYPE};
use tonic::codegen::http::{HeaderMap, HeaderValue, Method, StatusCode};
use tonic::codegen::{Service, http};

/// The content type of gRPC, before a suffix or parameters.
const GRPC: &str = "application/grpc";

/// The layer that passes gRPC on, and answers anything else with the status of HTTP that gRPC asks
/// for.
#[derive(Clone)]
pub(super) struct OnlyGrpc<S>(pub(super) S);

impl<S, B> Service<http::Request<B>> for OnlyGrpc<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Either<Ready<Result<Self::Response, Self::Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let refused = if request.method() != Method::POST {
            StatusCode::METHOD_NOT_ALLOWED
        } else if !has_grpc_content(request.headers()) {
            StatusCode::UNSUPPORTED_MEDIA_TYPE
        } else {
            return Either::Right(self.0.call(request));
        };
        let mut response = http::Response::new(Body::empty());
        *response.status_mut() = refused;
        if refused == StatusCode::METHOD_NOT_ALLOWED {
            let allowed = HeaderValue::from_static("POST");
            response.headers_mut().insert(ALLOW, allowed);
        }
        Either::Left(ready(Ok(response)))
    }
}

fn has_grpc_content(headers: &HeaderMap) -> bool {
    let content = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let suffix = content.and_then(|kind| kind.strip_prefix(GRPC));
    // `application/grpc-web` is another protocol.
    suffix.is_some_and(|suffix| suffix.is_empty() || suffix.starts_with(['+', ';']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for (kind, is_grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpcx", false),
            ("text/html", false),
            ("", false),
        ] {
            let headers = [(CONTENT_TYPE, HeaderValue::from_static(kind))];
            assert_eq!(
                has_grpc_content(&headers.into_iter().collect()),
                is_grpc,
                "{kind}"
            );
        }
        assert!(!has_grpc_content(&HeaderMap::new()));
    }
}

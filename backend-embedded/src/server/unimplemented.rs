//! Adds the name of the RPC to every `UNIMPLEMENTED` response without a message: of unknown
//! services, unknown methods, and methods that this server does not implement.

use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::{Code, Status};

/// Returns the status of a method that this server does not implement. [`NameUnimplemented`] adds
/// the name.
pub(super) fn unimplemented() -> Status {
    Status::unimplemented("")
}

/// The layer that adds the names.
#[derive(Clone)]
pub(super) struct NameUnimplemented<S>(pub(super) S);

impl<S, B> Service<http::Request<B>> for NameUnimplemented<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let uri = request.uri().clone();
        let response = self.0.call(request);
        Box::pin(async move {
            let response = response.await?;
            #[cfg(simulation)]
            let response = with_fixed_date(response);
            if !is_unnamed_unimplemented(response.headers()) {
                return Ok(response);
            }
            let name = uri.path().trim_start_matches('/');
            let hint = match name.starts_with("etcdserverpb.Auth/") {
                true => {
                    ": users and rights are kept in files, see `turnlock rules --help` and the \
                     options --rules and --users of `turnlock serve`"
                }
                false => "",
            };
            let text = format!("turnlock does not implement {name}{hint}");
            Ok(Status::unimplemented(text).into_http())
        })
    }
}

fn is_unnamed_unimplemented(headers: &http::HeaderMap) -> bool {
    Status::from_header_map(headers)
        .is_some_and(|status| status.code() == Code::Unimplemented && status.message().is_empty())
}

/// Sets the header in which hyper would write the real time, whose length varies on the wire.
#[cfg(simulation)]
fn with_fixed_date<B>(mut response: http::Response<B>) -> http::Response<B> {
    let date = http::HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT");
    response.headers_mut().insert(http::header::DATE, date);
    response
}

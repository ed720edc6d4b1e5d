//! The layer around all services that finds out who sent a request. A request without credentials
//! gets no further, whatever it asks for.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::Either;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};

use super::Access;
use super::caller::{Caller, Credentials};
use super::methods::{Need, need_of};
use super::subject::Subject;
use crate::server::connections::Peer;
use crate::server::status;

/// The headers in which etcd's clients send a token, the first one that is there counts (as in etcd).
const TOKEN_HEADERS: [&str; 2] = ["token", "authorization"];

/// The layer. Without rules it does nothing.
#[derive(Debug, Clone)]
pub(in crate::server) struct Authenticated<S> {
    pub(in crate::server) inner: S,
    pub(in crate::server) access: Option<Access>,
}

impl<S, B> Service<http::Request<B>> for Authenticated<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, Self::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        if let Some(access) = &self.access {
            let need = need_of(request.uri().path());
            if need != Need::Nothing {
                let caller = identify(access, &request);
                let caller = caller.and_then(|caller| match need {
                    Need::Admin if !caller.is_admin() => Err(status::permission_denied()),
                    _ => Ok(caller),
                });
                match caller {
                    Ok(caller) => {
                        request.extensions_mut().insert(Arc::new(caller));
                    }
                    Err(status) => return Either::Right(ready(Ok(status.into_http()))),
                }
            }
        }
        Either::Left(self.inner.call(request))
    }
}

/// Finds out who sent a request: whom a token stands for, if there is one, or else whom the client's
/// certificate names (as in etcd). A token that is not known is not made up for by a certificate.
fn identify<B>(access: &Access, request: &http::Request<B>) -> Result<Caller, Status> {
    let headers = request.headers();
    let token = TOKEN_HEADERS.iter().find_map(|name| headers.get(*name));
    let Some(token) = token else {
        let peer = request.extensions().get::<Peer>();
        let identity = peer.and_then(|peer| peer.identity.as_ref());
        let subject = identity.map(|identity| Subject::of_certificate(identity));
        let subject = subject.ok_or_else(status::no_credentials)?;
        return Ok(Caller::new(
            access.clone(),
            Credentials::Certificate(subject),
        ));
    };
    let session = token
        .to_str()
        .ok()
        .and_then(|token| access.0.tokens.find(token));
    let session = session.ok_or_else(status::invalid_token)?;
    Ok(Caller::new(access.clone(), Credentials::Token(session)))
}

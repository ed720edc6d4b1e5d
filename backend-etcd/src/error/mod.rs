//! What a failed request means: for the caller, and for the connection it went over.

mod status;
mod texts;

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use backend_kit::causes::causes;
use backend_kit::tls;
use lock_core::{Effect, Error, ErrorKind, LossReason};
use tonic::Status;

pub(crate) use self::status::{is_over_quota, is_overload};
pub(crate) use self::texts::{Meaning, is_lease_gone, parse_cancel_reason};

/// What the URL can say against a fault of TLS.
const REMEDIES: tls::Remedies = tls::Remedies {
    plain_scheme: "etcd://",
    other_name: "use that name in the URL, or give it in the parameter server_name",
};

/// A failed request.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) scope: Scope,
}

/// What a failure says about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Nothing. Only the request failed.
    Request,
    /// The connection works, but another member may do better.
    Member,
    /// The connection is broken.
    Connection,
    /// The connection had been broken before. The request was never sent.
    NeverSent,
    /// The token of the connection is out of date. The server refused the request for it.
    Token,
}

/// Returns what an error of the client library means. `address` is that of the member asked.
pub(crate) fn from_client(address: &str, error: etcd_client::Error) -> Failure {
    match error {
        etcd_client::Error::GRpcStatus(status) => status::from_status(address, status),
        other => Failure {
            error: Error::new(
                ErrorKind::Unreachable,
                format!("the connection to the coordinator at {address} failed"),
            )
            .with_source(other)
            .with_effect(Effect::Unknown),
            scope: Scope::Connection,
        },
    }
}

/// Returns the failure of a request that was not answered in time.
pub(crate) fn timeout(address: &str, waited: Duration) -> Failure {
    Failure {
        error: Error::new(
            ErrorKind::Unreachable,
            format!(
                "the coordinator at {address} did not answer within {waited:?}: check that it \
                 runs and is not overloaded"
            ),
        )
        .with_effect(Effect::Unknown),
        scope: Scope::Connection,
    }
}

/// Returns the failure of a stream that the server closed without a reason.
pub(crate) fn end_of_stream(address: &str) -> Failure {
    Failure {
        error: Error::new(
            ErrorKind::Unreachable,
            format!("the coordinator at {address} closed a stream"),
        )
        .with_effect(Effect::Unknown),
        scope: Scope::Connection,
    }
}

/// Returns the error for an address to which no connection could be made.
pub(crate) fn no_connection(
    address: &str,
    source: impl Into<Box<dyn StdError + Send + Sync>>,
) -> Error {
    let source = source.into();
    // A dialer knows best why it could not open a socket.
    if let Some(error) = causes(&*source).find_map(|e| e.downcast_ref::<Error>()) {
        return error.clone();
    }
    if let Some((kind, text)) = tls::explain(&*source, REMEDIES) {
        return Error::new(kind, format!("the coordinator at {address} {text}"))
            .with_source(source);
    }
    let hint = match io_kind(&*source) {
        Some(
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof,
        ) => "it closed the connection, so check whether it speaks TLS (etcds://) or not (etcd://)",
        _ => "check that it runs and that the address is right",
    };
    Error::new(
        ErrorKind::Unreachable,
        format!("cannot connect to the coordinator at {address}: {hint}"),
    )
    .with_source(source)
}

/// Adds a hint to the error of a connection on which the server has never answered.
pub(crate) fn add_hint(error: Error, hint: &str) -> Error {
    Error::new(error.kind(), format!("{error}; {hint}"))
        .with_effect(error.effect())
        .with_source(error)
}

/// Returns the error of a request or a stream whose token was out of date although the connection
/// has credentials. It is worth a retry: the next connection gets a new token, and the outcome
/// there shows whether the token or the permission is the cause.
pub(crate) fn stale_token(source: Error) -> Error {
    let why = "the token ended, or the permissions changed, before the request arrived";
    Error::new(ErrorKind::Exhausted, format!("{source}; {why}"))
        .with_effect(source.effect())
        .with_source(source)
}

/// Returns the error for a session whose lease the coordinator does not know any more.
pub(crate) fn session_gone() -> Error {
    Error::session_lost(LossReason::SessionGone)
}

/// Returns the error for an answer that no etcd gives.
pub(crate) fn protocol(what: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("an answer of the coordinator breaks the protocol: {what}"),
    )
    .with_effect(Effect::Unknown)
}

fn from_transport(address: &str, never_sent: bool, status: Status) -> Failure {
    if never_sent {
        return Failure {
            error: no_connection(address, status),
            scope: Scope::NeverSent,
        };
    }
    let error = match tls::explain(&status, REMEDIES) {
        Some((kind, text)) => Error::new(kind, format!("the coordinator at {address} {text}")),
        None => Error::new(
            ErrorKind::Unreachable,
            format!("the connection to the coordinator at {address} broke"),
        ),
    };
    Failure {
        error: error.with_source(status).with_effect(Effect::Unknown),
        scope: Scope::Connection,
    }
}

/// Returns whether the request failed because no connection could be made for it.
fn is_connect_error(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|e| e.is::<tonic::ConnectError>())
}

fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    causes(error).find_map(|e| e.downcast_ref::<io::Error>().map(io::Error::kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_dialer_reaches_the_caller() {
        let reason = Error::new(ErrorKind::Configuration, "the folder is read-only");
        let mut status = Status::unavailable("connect error");
        let reason = Box::new(io::Error::other(reason));
        status.set_source(std::sync::Arc::new(tonic::ConnectError(reason)));
        let failed = from_client("/s", etcd_client::Error::GRpcStatus(status)).error;
        assert_eq!(failed.kind(), ErrorKind::Configuration);
        assert_eq!(failed.to_string(), "the folder is read-only");
        assert!(!failed.is_retryable());
    }

    #[test]
    fn a_request_that_was_never_sent_had_no_effect() {
        let refusal = io::Error::from(io::ErrorKind::ConnectionRefused);
        let mut status = Status::unavailable("tcp connect error");
        status.set_source(std::sync::Arc::new(tonic::ConnectError(refusal.into())));
        let failed = from_client("h:1", etcd_client::Error::GRpcStatus(status));
        assert_eq!(failed.scope, Scope::NeverSent);
        assert_eq!(failed.error.effect(), Effect::None);

        let mut status = Status::unknown("transport error");
        status.set_source(std::sync::Arc::new(io::Error::from(
            io::ErrorKind::ConnectionReset,
        )));
        let failed = from_client("h:1", etcd_client::Error::GRpcStatus(status));
        assert_eq!(failed.scope, Scope::Connection);
        assert_eq!(failed.error.effect(), Effect::Unknown);
        assert!(failed.error.is_retryable());
    }
}

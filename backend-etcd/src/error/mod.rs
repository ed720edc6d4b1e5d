//! What a failed request means: for the caller, and for the connection it went over.

mod causes;
mod texts;
mod tls;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use lock_core::{Effect, Error, ErrorKind, LossReason};
use tonic::{Code, Status};

use self::causes::causes;
pub(crate) use self::texts::{Meaning, is_lease_gone, parse_cancel_reason};

/// The longest part of a server's message that is shown, in characters: a hostile server must not
/// flood a log.
const MAX_SHOWN_CHARS: usize = 300;

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
        etcd_client::Error::GRpcStatus(status) => from_status(address, status),
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
                "the coordinator at {address} did not answer within {waited:?}: check that it runs and is not overloaded"
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
    if let Some((kind, text)) = tls::explain(&*source) {
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

/// Returns the error for those whose stream ended because its token was out of date. It makes them
/// look again by a request, whose outcome shows whether the token or the permission is the cause.
pub(crate) fn stale_token(source: Error) -> Error {
    Error::new(
        ErrorKind::Exhausted,
        "the token of a stream to the coordinator is out of date",
    )
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

/// A server's error answer as the source of an error. Displays only the message: the rest of a
/// status is for programs.
#[derive(Debug)]
struct Answer(Status);

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(shorten(self.0.message()))
    }
}

impl StdError for Answer {}

fn from_status(address: &str, status: Status) -> Failure {
    // Only errors made on this side have a source.
    if let Some(source) = status.source() {
        return from_transport(address, is_connect_error(source), status);
    }
    let meaning = texts::parse_status(status.code(), status.message());
    if let Some(reason) = loss(meaning) {
        // That the store is gone says nothing about what it did before.
        let (effect, scope) = match reason {
            LossReason::StoreGone => (Effect::Unknown, Scope::Connection),
            _ => (Effect::None, Scope::Request),
        };
        let error = Error::session_lost(reason)
            .with_source(status)
            .with_effect(effect);
        return Failure { error, scope };
    }
    let (kind, effect, scope) = classify(status.code(), meaning);
    let said = shorten(detail(&status).unwrap_or(status.message()));
    let (verb, remedy) = (verb(kind), remedy(kind, meaning));
    Failure {
        error: Error::new(
            kind,
            format!("the coordinator at {address} {verb}: it says {said:?}{remedy}"),
        )
        .with_source(Answer(status))
        .with_effect(effect),
        scope,
    }
}

/// Returns why the session is lost, if a server's error says so.
fn loss(meaning: Option<Meaning>) -> Option<LossReason> {
    match meaning? {
        Meaning::LeaseGone => Some(LossReason::SessionGone),
        Meaning::StoreGone => Some(LossReason::StoreGone),
        _ => None,
    }
}

fn classify(code: Code, meaning: Option<Meaning>) -> (ErrorKind, Effect, Scope) {
    use Effect::{None, Unknown};
    match (code, meaning) {
        (_, Some(Meaning::NoLeader)) => (ErrorKind::Exhausted, None, Scope::Member),
        (Code::Unavailable, _) => (ErrorKind::Unreachable, Unknown, Scope::Member),
        (_, Some(Meaning::ProposalDropped)) => (ErrorKind::Unreachable, Unknown, Scope::Member),
        (Code::Cancelled | Code::DeadlineExceeded, _) => {
            (ErrorKind::Unreachable, Unknown, Scope::Member)
        }
        (_, Some(Meaning::Stopping)) => (ErrorKind::Unreachable, Unknown, Scope::Connection),
        (Code::Unauthenticated, _) | (_, Some(Meaning::StaleToken)) => {
            (ErrorKind::Refused, None, Scope::Token)
        }
        (Code::ResourceExhausted, _) => (ErrorKind::Exhausted, None, Scope::Request),
        (Code::PermissionDenied, _) => (ErrorKind::Refused, None, Scope::Request),
        (Code::InvalidArgument, Some(Meaning::NoCredentials | Meaning::WrongCredentials)) => {
            (ErrorKind::Refused, None, Scope::Request)
        }
        (_, Some(Meaning::NoUsers)) => (ErrorKind::Configuration, None, Scope::Request),
        (Code::InvalidArgument, _) => (ErrorKind::InvalidArgument, None, Scope::Request),
        (Code::Unimplemented, _) => (ErrorKind::Unsupported, None, Scope::Request),
        _ => (ErrorKind::Internal, Unknown, Scope::Request),
    }
}

/// Returns the text of the embedded coordinator's own, if the status has one.
fn detail(status: &Status) -> Option<&str> {
    status.metadata().get(texts::DETAIL_KEY)?.to_str().ok()
}

fn verb(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Refused => "refused the request",
        ErrorKind::Exhausted => "cannot serve the request now",
        ErrorKind::Unreachable => "is out of service",
        ErrorKind::Unsupported => {
            "does not support the request: is it an etcd of version 3.4 or later?"
        }
        ErrorKind::InvalidArgument => "does not accept the request",
        ErrorKind::Configuration => "has no users",
        _ => "failed",
    }
}

fn remedy(kind: ErrorKind, meaning: Option<Meaning>) -> &'static str {
    match (kind, meaning) {
        (ErrorKind::Refused, Some(Meaning::NoCredentials)) => {
            "; give the parameters user and password_file"
        }
        (ErrorKind::Refused, Some(Meaning::WrongCredentials)) => {
            "; check the user and the password"
        }
        (ErrorKind::Refused, Some(Meaning::PermissionDenied)) => {
            "; let the user read and write the keys of the namespace"
        }
        (ErrorKind::Configuration, _) => {
            "; leave the parameter user out, or enable authentication there"
        }
        _ => "",
    }
}

fn from_transport(address: &str, never_sent: bool, status: Status) -> Failure {
    if never_sent {
        return Failure {
            error: no_connection(address, status),
            scope: Scope::NeverSent,
        };
    }
    let error = match tls::explain(&status) {
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

/// Whether the request failed because no connection could be made for it.
fn is_connect_error(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|e| e.is::<tonic::ConnectError>())
}

fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    causes(error).find_map(|e| e.downcast_ref::<io::Error>().map(io::Error::kind))
}

fn shorten(message: &str) -> &str {
    match message.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => &message[..end],
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(code: Code, message: &str) -> Failure {
        from_client(
            "h:1",
            etcd_client::Error::GRpcStatus(Status::new(code, message)),
        )
    }

    #[test]
    fn codes_become_kinds_effects_and_scopes() {
        use Effect::{None, Unknown};
        let cases = [
            (
                Code::Unavailable,
                "etcdserver: no leader",
                ErrorKind::Exhausted,
                None,
                Scope::Member,
            ),
            (
                Code::Unavailable,
                "etcdserver: request timed out",
                ErrorKind::Unreachable,
                Unknown,
                Scope::Member,
            ),
            (
                Code::NotFound,
                "etcdserver: requested lease not found",
                ErrorKind::SessionLost(LossReason::SessionGone),
                None,
                Scope::Request,
            ),
            (
                Code::Unavailable,
                "turnlock: the store is gone from its place",
                ErrorKind::SessionLost(LossReason::StoreGone),
                Unknown,
                Scope::Connection,
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                ErrorKind::Exhausted,
                None,
                Scope::Request,
            ),
            (
                Code::PermissionDenied,
                "etcdserver: permission denied",
                ErrorKind::Refused,
                None,
                Scope::Request,
            ),
            (
                Code::InvalidArgument,
                "etcdserver: user name is empty",
                ErrorKind::Refused,
                None,
                Scope::Request,
            ),
            (
                Code::InvalidArgument,
                "etcdserver: request is too large",
                ErrorKind::InvalidArgument,
                None,
                Scope::Request,
            ),
            (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
                ErrorKind::Refused,
                None,
                Scope::Request,
            ),
            (
                Code::FailedPrecondition,
                "etcdserver: authentication is not enabled",
                ErrorKind::Configuration,
                None,
                Scope::Request,
            ),
            (
                Code::Unauthenticated,
                "etcdserver: invalid auth token",
                ErrorKind::Refused,
                None,
                Scope::Token,
            ),
            (
                Code::Unknown,
                "auth: revision in header is old",
                ErrorKind::Refused,
                None,
                Scope::Token,
            ),
            (
                Code::Unimplemented,
                "unknown service",
                ErrorKind::Unsupported,
                None,
                Scope::Request,
            ),
            (
                Code::Unknown,
                "context canceled",
                ErrorKind::Unreachable,
                Unknown,
                Scope::Connection,
            ),
            (
                Code::Unknown,
                "raft proposal dropped",
                ErrorKind::Unreachable,
                Unknown,
                Scope::Member,
            ),
            (
                Code::DataLoss,
                "etcdserver: corrupt",
                ErrorKind::Internal,
                Unknown,
                Scope::Request,
            ),
        ];
        for (code, message, kind, effect, scope) in cases {
            let failure = mapped(code, message);
            let error = &failure.error;
            assert_eq!(
                (error.kind(), error.effect(), failure.scope),
                (kind, effect, scope),
                "{message}"
            );
            assert!(
                error.source().is_some(),
                "{message}: the source must be kept"
            );
        }
    }

    #[test]
    fn the_message_of_a_server_is_quoted_shortened_and_escaped() {
        let error = mapped(Code::DataLoss, &format!("\u{1b}[31m{}", "x".repeat(9999))).error;
        let text = error.to_string();
        assert!(text.len() < 500 && !text.contains('\u{1b}'), "{text}");
        assert!(text.contains("h:1"), "{text}");
    }

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
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let mut status = Status::unavailable("tcp connect error");
        status.set_source(std::sync::Arc::new(tonic::ConnectError(refused.into())));
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

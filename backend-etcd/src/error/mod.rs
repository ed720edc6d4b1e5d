//! What a failed request means: for the caller, and for the connection it went over.

mod causes;
mod tls;

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use lock_core::{Effect, Error, ErrorKind, LossReason};
use tonic::{Code, Status};

use self::causes::causes;

/// Longest part of a server's message that is shown.
const SHOWN: usize = 300;

/// A failed request.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) scope: Scope,
}

/// What the failure says about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Nothing: the request alone failed.
    Request,
    /// It works, but another member may do better.
    Member,
    /// It is broken.
    Connection,
    /// It had been broken before: the request was never sent.
    NeverSent,
    /// The token that it was made with has lapsed: the request was turned away.
    Token,
}

/// What a client's error means. `address` is the member asked.
pub(crate) fn failure(address: &str, error: etcd_client::Error) -> Failure {
    match error {
        etcd_client::Error::GRpcStatus(status) => of_status(address, status),
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

/// No answer came in time.
pub(crate) fn silence(address: &str, waited: Duration) -> Failure {
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

/// A stream was closed by the server without a reason.
pub(crate) fn ended(address: &str) -> Failure {
    Failure {
        error: Error::new(
            ErrorKind::Unreachable,
            format!("the coordinator at {address} ended a stream"),
        )
        .with_effect(Effect::Unknown),
        scope: Scope::Connection,
    }
}

/// Nobody could be connected to at this address.
pub(crate) fn no_connection(
    address: &str,
    source: impl Into<Box<dyn StdError + Send + Sync>>,
) -> Error {
    let source = source.into();
    // Whoever opens the sockets knows best why there is none.
    if let Some(told) = causes(&*source).find_map(|e| e.downcast_ref::<Error>()) {
        return told.clone();
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
        ) => "it broke off, so check whether it speaks TLS (etcds://) or not (etcd://)",
        _ => "check that it runs and that the address is right",
    };
    Error::new(
        ErrorKind::Unreachable,
        format!("cannot connect to the coordinator at {address}: {hint}"),
    )
    .with_source(source)
}

/// A failure of a connection on which nothing was ever answered may have this cause, too.
pub(crate) fn at_first_contact(error: Error, hint: &str) -> Error {
    Error::new(error.kind(), format!("{error}; {hint}"))
        .with_effect(error.effect())
        .with_source(error)
}

/// What those on a stream are told when its token lapsed: look again, by a request of its own,
/// which tells whether it is the token or the permission.
pub(crate) fn token_lapsed(source: Error) -> Error {
    Error::new(
        ErrorKind::Exhausted,
        "the token of a stream to the coordinator lapsed",
    )
    .with_source(source)
}

/// The coordinator says that our lease is gone.
pub(crate) fn session_gone() -> Error {
    Error::session_lost(LossReason::SessionGone)
}

/// What the embedded coordinator's server says when its folder is not in its place any more.
const STORE_GONE: &str = "turnlock: the store is gone from its place";

/// Where the embedded coordinator's server puts its own words into the trailing metadata.
const DETAIL_KEY: &str = "turnlock-detail";

/// An answer that no etcd gives.
pub(crate) fn protocol(what: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("an answer of the coordinator breaks the protocol: {what}"),
    )
    .with_effect(Effect::Unknown)
}

/// A server's error answer. Shown as its text alone: the rest of a status is for programs.
#[derive(Debug)]
struct Answer(Status);

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(shorten(self.0.message()))
    }
}

impl std::error::Error for Answer {}

fn of_status(address: &str, status: Status) -> Failure {
    // Only errors made on this side have a source.
    if let Some(source) = status.source() {
        return of_transport(address, never_sent(source), status);
    }
    let message = status.message();
    // The embedded coordinator's own words say more than the text that etcd has for it.
    let detail = status
        .metadata()
        .get(DETAIL_KEY)
        .and_then(|detail| detail.to_str().ok());
    let said = shorten(detail.unwrap_or(message));
    use Effect::{None, Unknown};
    let (kind, effect, scope) = match status.code() {
        Code::NotFound if message.contains("requested lease not found") => {
            return Failure {
                error: session_gone().with_source(status),
                scope: Scope::Request,
            };
        }
        Code::Unavailable if message == STORE_GONE => {
            let reason = LossReason::StoreGone;
            return Failure {
                error: Error::session_lost(reason)
                    .with_source(status)
                    .with_effect(Unknown),
                scope: Scope::Connection,
            };
        }
        Code::Unavailable if message.contains("no leader") => {
            (ErrorKind::Exhausted, None, Scope::Member)
        }
        Code::Unavailable => (ErrorKind::Unreachable, Unknown, Scope::Member),
        // etcd has no code for a proposal that its own raft turned away for want of a leader.
        Code::Unknown if message.contains("proposal dropped") => {
            (ErrorKind::Unreachable, Unknown, Scope::Member)
        }
        // "context canceled" and the like: what a server says that is being stopped.
        Code::Cancelled | Code::DeadlineExceeded => {
            (ErrorKind::Unreachable, Unknown, Scope::Member)
        }
        Code::Unknown
            if ["context", "stopped", "Service was not ready"]
                .iter()
                .any(|word| message.contains(word)) =>
        {
            (ErrorKind::Unreachable, Unknown, Scope::Connection)
        }
        _ if is_of_token(&status) => (ErrorKind::Refused, None, Scope::Token),
        Code::ResourceExhausted => (ErrorKind::Exhausted, None, Scope::Request),
        Code::PermissionDenied => (ErrorKind::Refused, None, Scope::Request),
        // What a server with authentication says to a request without credentials, and to wrong
        // ones.
        Code::InvalidArgument
            if ["user name is empty", "authentication failed"]
                .iter()
                .any(|words| message.contains(words)) =>
        {
            (ErrorKind::Refused, None, Scope::Request)
        }
        Code::FailedPrecondition if message.contains("authentication is not enabled") => {
            (ErrorKind::Configuration, None, Scope::Request)
        }
        Code::InvalidArgument => (ErrorKind::InvalidArgument, None, Scope::Request),
        Code::Unimplemented => (ErrorKind::Unsupported, None, Scope::Request),
        _ => (ErrorKind::Internal, Unknown, Scope::Request),
    };
    let verb = match kind {
        ErrorKind::Refused => "refuses us",
        ErrorKind::Exhausted => "cannot serve now",
        ErrorKind::Unreachable => "is out of service",
        ErrorKind::Unsupported => {
            "does not do what was asked; is it an etcd of version 3.4 or later?"
        }
        ErrorKind::InvalidArgument => "does not take the request",
        ErrorKind::Configuration => "knows no users",
        _ => "failed",
    };
    let remedy = match kind {
        ErrorKind::Refused if message.contains("user name is empty") => {
            "; give the parameters user and password_file"
        }
        ErrorKind::Refused if message.contains("authentication failed") => {
            "; check the user and the password"
        }
        ErrorKind::Refused if message.contains("permission denied") => {
            "; let the user read and write the keys of the namespace"
        }
        ErrorKind::Configuration => {
            "; leave the parameter user out, or enable authentication there"
        }
        _ => "",
    };
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

fn of_transport(address: &str, never_sent: bool, status: Status) -> Failure {
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

/// Whether it is the token that was turned away, or the state of the permissions that it was made
/// for, not the user. Some servers have no code for that.
fn is_of_token(status: &Status) -> bool {
    status.code() == Code::Unauthenticated
        || [
            "invalid auth token",
            "auth store is old",
            "revision in header is old",
        ]
        .iter()
        .any(|words| status.message().contains(words))
}

/// Whether the request failed because a connection could not be made for it.
fn never_sent(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|e| e.is::<tonic::ConnectError>())
}

fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    causes(error).find_map(|e| e.downcast_ref::<io::Error>().map(io::Error::kind))
}

/// A hostile server must not flood a log.
fn shorten(message: &str) -> &str {
    match message.char_indices().nth(SHOWN) {
        Some((end, _)) => &message[..end],
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(code: Code, message: &str) -> Failure {
        failure(
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
                STORE_GONE,
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
    fn a_servers_words_are_quoted_cut_and_escaped() {
        let error = mapped(Code::DataLoss, &format!("\u{1b}[31m{}", "x".repeat(9999))).error;
        let text = error.to_string();
        assert!(text.len() < 500 && !text.contains('\u{1b}'), "{text}");
        assert!(text.contains("h:1"), "{text}");
    }

    #[test]
    fn what_a_dialer_knows_reaches_the_caller() {
        let told = Error::new(ErrorKind::Configuration, "the folder is read-only");
        let mut status = Status::unavailable("connect error");
        let told = Box::new(io::Error::other(told));
        status.set_source(std::sync::Arc::new(tonic::ConnectError(told)));
        let failed = failure("/s", etcd_client::Error::GRpcStatus(status)).error;
        assert_eq!(failed.kind(), ErrorKind::Configuration);
        assert_eq!(failed.to_string(), "the folder is read-only");
        assert!(!failed.is_retryable());
    }

    #[test]
    fn what_was_never_sent_had_no_effect() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let mut status = Status::unavailable("tcp connect error");
        status.set_source(std::sync::Arc::new(tonic::ConnectError(refused.into())));
        let failed = failure("h:1", etcd_client::Error::GRpcStatus(status));
        assert_eq!(failed.scope, Scope::NeverSent);
        assert_eq!(failed.error.effect(), Effect::None);

        let mut status = Status::unknown("transport error");
        status.set_source(std::sync::Arc::new(io::Error::from(
            io::ErrorKind::ConnectionReset,
        )));
        let failed = failure("h:1", etcd_client::Error::GRpcStatus(status));
        assert_eq!(failed.scope, Scope::Connection);
        assert_eq!(failed.error.effect(), Effect::Unknown);
        assert!(failed.error.is_retryable());
    }
}

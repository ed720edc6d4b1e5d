//! What a status of the server means, by its code and its text.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use backend_kit::causes::causes;
use lock_core::{Effect, Error, ErrorKind, LossReason};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::texts::{self, Meaning};
use super::{Failure, Scope};

/// The longest part of a server's message that is shown, in characters: a hostile server must not
/// flood a log.
const MAX_SHOWN_CHARS: usize = 300;

/// The key of the metadata that says when to try again, in milliseconds (gRPC's proposal A6).
const PUSHBACK_KEY: &str = "grpc-retry-pushback-ms";

/// The longest that a server can make us wait between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(60);

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

/// Returns the failure that a status of the server stands for.
pub(super) fn from_status(address: &str, status: Status) -> Failure {
    // Only errors made on this side have a source.
    if let Some(source) = status.source() {
        return super::from_transport(address, super::is_connect_error(source), status);
    }
    let meaning = parse(&status);
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
    let error = Error::new(
        kind,
        format!("the coordinator at {address} {verb}: it says {said:?}{remedy}"),
    );
    let error = match read_pause(&status) {
        Some(pause) => error.with_retry_after(pause.min(MAX_PAUSE)),
        None => error,
    };
    Failure {
        error: error.with_source(Answer(status)).with_effect(effect),
        scope,
    }
}

/// Returns how long the server asks its clients to wait. Ours says it in both of these ways; a proxy
/// may know only one of them.
fn read_pause(status: &Status) -> Option<Duration> {
    let pushback = status.metadata().get(PUSHBACK_KEY);
    let pushback = pushback.and_then(|value| value.to_str().ok()?.parse().ok());
    let details = || status.get_details_retry_info()?.retry_delay;
    // A negative number says that the same request would be refused again.
    pushback.map(Duration::from_millis).or_else(details)
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
        (_, Some(Meaning::DiskFull)) => (ErrorKind::Exhausted, None, Scope::Request),
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
        (_, Some(Meaning::OverQuota)) => (ErrorKind::Exhausted, Unknown, Scope::Request),
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

/// Returns whether a server refused a request only because it has too much to do.
pub(crate) fn is_overload(error: &Error) -> bool {
    meaning_of(error) == Some(Meaning::Overloaded)
}

/// Returns whether an etcd answered so because its store has reached its quota. The request may have
/// been carried out; no copy of it is under way.
pub(crate) fn is_over_quota(error: &Error) -> bool {
    meaning_of(error) == Some(Meaning::OverQuota)
}

/// Returns what the answer means that an error was made of.
fn meaning_of(error: &Error) -> Option<Meaning> {
    let Answer(status) = causes(error).find_map(|cause| cause.downcast_ref())?;
    parse(status)
}

/// Returns what a status means. The embedded coordinator has etcd's text for its own quota, which it
/// checks before it does anything.
fn parse(status: &Status) -> Option<Meaning> {
    match texts::parse_status(status.code(), status.message()) {
        Some(Meaning::OverQuota) if detail(status).is_some() => Some(Meaning::DiskFull),
        meaning => meaning,
    }
}

/// Returns the text that only the embedded coordinator adds to a status.
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
        from_status("h:1", Status::new(code, message))
    }

    #[test]
    fn the_server_says_when_to_try_again() {
        use tonic_types::ErrorDetails;
        let pushed_back = |value: &'static str| {
            let mut status = Status::resource_exhausted("too much");
            let value = value.parse().expect("visible");
            status.metadata_mut().insert(PUSHBACK_KEY, value);
            from_status("h:1", status).error.retry_after()
        };
        assert_eq!(pushed_back("1500"), Some(Duration::from_millis(1500)));
        assert_eq!(pushed_back("86400000"), Some(MAX_PAUSE));
        assert_eq!(pushed_back("-1"), None);
        assert_eq!(pushed_back("soon"), None);
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(2)));
        let status = Status::with_error_details(Code::Unavailable, "later", details);
        let asked = from_status("h:1", status).error.retry_after();
        assert_eq!(asked, Some(Duration::from_secs(2)));
        let nothing = mapped(Code::Unavailable, "etcdserver: request timed out");
        assert_eq!(nothing.error.retry_after(), None);
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
                Code::Unavailable,
                "etcdserver: mvcc: database space exceeded",
                ErrorKind::Exhausted,
                None,
                Scope::Request,
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                ErrorKind::Exhausted,
                Unknown,
                Scope::Request,
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: too many requests",
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
    fn an_overloaded_server_is_known_by_its_word() {
        let too_much = mapped(Code::ResourceExhausted, "etcdserver: too many requests").error;
        assert!(is_overload(&too_much));
        let full = "etcdserver: mvcc: database space exceeded";
        let full = mapped(Code::ResourceExhausted, full).error;
        assert!(!is_overload(&full) && is_over_quota(&full));
        let lost = mapped(Code::NotFound, "etcdserver: requested lease not found");
        assert!(!is_overload(&lost.error));
    }

    #[test]
    fn the_quota_of_the_embedded_coordinator_is_not_taken_for_that_of_an_etcd() {
        let mut status = Status::resource_exhausted("etcdserver: mvcc: database space exceeded");
        let detail = "the store may have 1 GiB".parse().expect("visible");
        status.metadata_mut().insert(texts::DETAIL_KEY, detail);
        let full = from_status("h:1", status).error;
        assert_eq!(full.effect(), Effect::None);
        assert!(!is_over_quota(&full));
    }

    #[test]
    fn the_message_of_a_server_is_quoted_shortened_and_escaped() {
        let error = mapped(Code::DataLoss, &format!("\u{1b}[31m{}", "x".repeat(9999))).error;
        let text = error.to_string();
        assert!(text.len() < 500 && !text.contains('\u{1b}'), "{text}");
        assert!(text.contains("h:1"), "{text}");
    }
}

//! Errors in etcd's words, because its clients compare the texts.

use std::time::Duration;

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::Error;

/// The key of the trailing metadata that carries the coordinator's own error text, where etcd's
/// text says less.
pub const DETAIL_KEY: &str = "turnlock-detail";

pub(super) const EMPTY_KEY: &str = "etcdserver: key is not provided";
pub(super) const KEY_NOT_FOUND: &str = "etcdserver: key not found";
pub(super) const VALUE_PROVIDED: &str = "etcdserver: value is provided";
pub(super) const LEASE_PROVIDED: &str = "etcdserver: lease is provided";
pub(super) const TOO_MANY_OPS: &str = "etcdserver: too many operations in txn request";
pub(super) const DUPLICATE_KEY: &str = "etcdserver: duplicate key given in txn request";
pub(super) const INVALID_SORT: &str = "etcdserver: invalid sort option";
pub(super) const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
pub(super) const FUTURE_REVISION: &str = "etcdserver: mvcc: required revision is a future revision";
pub(super) const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
pub(super) const LEASE_NOT_FOUND: &str = "etcdserver: requested lease not found";
pub(super) const LEASE_EXISTS: &str = "etcdserver: lease already exists";
pub(super) const LEASE_TTL_TOO_LARGE: &str = "etcdserver: too large lease TTL";
pub(super) const REQUEST_TOO_LARGE: &str = "etcdserver: request is too large";
pub(super) const TOO_MANY_REQUESTS: &str = "etcdserver: too many requests";
pub(super) const PERMISSION_DENIED: &str = "etcdserver: permission denied";
pub(super) const STILL_FULL: &str =
    "turnlock: the store is still full; this alarm ends by itself when there is room";
pub(super) const BAD_TRANSFEREE: &str = "etcdserver: bad leader transferee";
pub(super) const AUTH_NOT_ENABLED: &str = "etcdserver: authentication is not enabled";
pub(super) const AUTH_FAILED: &str =
    "etcdserver: authentication failed, invalid user ID or password";
const INVALID_TOKEN: &str = "etcdserver: invalid auth token";
/// The reason of a watch that is cancelled for want of rights, as etcd writes it.
pub(super) const WATCH_DENIED: &str =
    "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
pub(super) const STOPPED: &str = "etcdserver: server stopped";
/// Not one of etcd's texts: its clients treat it as any unavailable server. Our clients know by it
/// that their sessions are gone.
pub(super) const DISPLACED: &str = "turnlock: the store is gone from its place";

/// The key of the trailing metadata that tells a client when to try again, in milliseconds (gRPC's
/// proposal A6). A negative number tells it not to.
const PUSHBACK_KEY: &str = "grpc-retry-pushback-ms";

/// How soon a client may try again where something was short, or the server was ending.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether a refused request may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// After this time.
    After(Duration),
    /// Not as it is: it would be refused again.
    Never,
}

/// Adds to a status when the request may be tried again: for programs that read `RetryInfo`, and for
/// those that read the pushback.
fn with_retry(status: Status, retry: Retry) -> Status {
    let (pushback, details) = match retry {
        Retry::After(pause) => (
            i64::try_from(pause.as_millis()).unwrap_or(i64::MAX),
            ErrorDetails::with_retry_info(Some(pause)),
        ),
        Retry::Never => (-1, ErrorDetails::new()),
    };
    let mut metadata = status.metadata().clone();
    metadata.insert(PUSHBACK_KEY, pushback.into());
    Status::with_error_details_and_metadata(status.code(), status.message(), details, metadata)
}

/// Returns the status of a request for which there is too little left of a resource now.
pub(super) fn exhausted(text: impl Into<String>) -> Status {
    with_retry(Status::resource_exhausted(text), Retry::After(PAUSE))
}

/// Returns the status of a request that exceeds a limit by itself.
pub(super) fn too_large(text: impl Into<String>) -> Status {
    with_retry(Status::resource_exhausted(text), Retry::Never)
}

/// Returns the status of a server, or a coordinator, that is ending.
pub(super) fn stop_status() -> Status {
    with_retry(Status::unavailable(STOPPED), Retry::After(PAUSE))
}

/// Returns the status of a request that needs more rights.
pub(super) fn permission_denied() -> Status {
    Status::permission_denied(PERMISSION_DENIED)
}

/// Returns the status of a request whose token has expired or was never given out. Clients then show
/// their password again.
pub(super) fn invalid_token() -> Status {
    Status::unauthenticated(INVALID_TOKEN)
}

/// Returns the status of a request that does not say who it is from.
pub(super) fn no_credentials() -> Status {
    let detail =
        "the request has no credentials: use a user and its password, or a client certificate";
    with_detail(invalid_token(), detail)
}

fn with_detail(mut status: Status, detail: &str) -> Status {
    if let Ok(detail) = MetadataValue::try_from(detail) {
        status.metadata_mut().insert(DETAIL_KEY, detail);
    }
    status
}

impl From<Error> for Status {
    fn from(err: Error) -> Self {
        let (code, text) = match &err {
            Error::Compacted { .. } => (Code::OutOfRange, COMPACTED),
            Error::FutureRevision { .. } => (Code::OutOfRange, FUTURE_REVISION),
            // etcd knows no invalid ids: a negative one is never found.
            Error::LeaseNotFound { .. } | Error::InvalidLeaseId { .. } => {
                (Code::NotFound, LEASE_NOT_FOUND)
            }
            Error::LeaseExists { .. } => (Code::FailedPrecondition, LEASE_EXISTS),
            Error::LeaseTtlTooLarge { .. } => (Code::OutOfRange, LEASE_TTL_TOO_LARGE),
            Error::KeyNotFound => (Code::InvalidArgument, KEY_NOT_FOUND),
            Error::EmptyKey => (Code::InvalidArgument, EMPTY_KEY),
            Error::DuplicateKey { .. } => (Code::InvalidArgument, DUPLICATE_KEY),
            Error::TooManyOps { .. } => (Code::InvalidArgument, TOO_MANY_OPS),
            Error::RequestTooLarge { .. } => (Code::InvalidArgument, REQUEST_TOO_LARGE),
            Error::QuotaExceeded { .. } => (Code::ResourceExhausted, NO_SPACE),
            // No limit of ours, and nothing that the client can do less of: the disk is at fault.
            Error::NoSpace { .. } => (Code::Unavailable, NO_SPACE),
            Error::Overloaded => (Code::ResourceExhausted, TOO_MANY_REQUESTS),
            Error::PermissionDenied => (Code::PermissionDenied, PERMISSION_DENIED),
            Error::Stopped { .. } => (Code::Unavailable, STOPPED),
            Error::Displaced { .. } => (Code::Unavailable, DISPLACED),
            // etcd does not have these limits, so it has no text for them.
            Error::TooManyLeases { .. }
            | Error::TooManyWatches { .. }
            | Error::TooManyRangeWatches { .. }
            | Error::QueueFull { .. }
            | Error::SlowWatcher { .. }
            | Error::SnapshotUnderWay => return exhausted(format!("turnlock: {err}")),
            Error::TooManyLeaseKeys { .. }
            | Error::TooManyKeys { .. }
            | Error::AnswerTooLarge { .. } => return too_large(format!("turnlock: {err}")),
            _ => return Self::internal(format!("turnlock: {err}")),
        };
        let status = with_detail(Self::new(code, text), &err.to_string());
        match code {
            Code::ResourceExhausted | Code::Unavailable => with_retry(status, Retry::After(PAUSE)),
            _ => status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coordinators_own_words_travel_along() {
        let err = Error::LeaseNotFound { id: 7 };
        let detail = err.to_string();
        let status = Status::from(err);
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(status.message(), LEASE_NOT_FOUND);
        assert_eq!(
            status
                .metadata()
                .get(DETAIL_KEY)
                .and_then(|value| value.to_str().ok()),
            Some(detail.as_str())
        );
    }

    fn no_space() -> Error {
        let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
        Error::NoSpace {
            path: "store".into(),
            source: source.into(),
        }
    }

    #[test]
    fn a_full_disk_is_no_limit_of_ours() {
        let full = Status::from(no_space());
        assert_eq!((full.code(), full.message()), (Code::Unavailable, NO_SPACE));
        let limit = Status::from(Error::QuotaExceeded { limit: 1 });
        assert_eq!(limit.code(), Code::ResourceExhausted);
    }

    #[test]
    fn a_refusal_says_when_to_try_again() {
        let pushback = |status: &Status| {
            let value = status.metadata().get(PUSHBACK_KEY)?;
            value.to_str().ok().map(str::to_owned)
        };
        for err in [
            Error::Overloaded,
            Error::QuotaExceeded { limit: 1 },
            Error::TooManyLeases { limit: 1 },
            Error::Stopped { reason: "".into() },
            no_space(),
        ] {
            let status = Status::from(err);
            assert_eq!(pushback(&status).as_deref(), Some("1000"), "{status:?}");
            let info = status.get_details_retry_info().expect("there is one");
            assert_eq!(info.retry_delay, Some(PAUSE));
        }
        let never = Status::from(Error::TooManyKeys { limit: 1 });
        assert_eq!(pushback(&never).as_deref(), Some("-1"));
        assert!(never.get_details_retry_info().is_none());
        let other = Status::from(Error::EmptyKey);
        assert_eq!(pushback(&other), None);
    }
}

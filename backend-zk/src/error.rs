//! What an error of the client library, or an error code of a server, means. ZooKeeper has a code
//! for each error, so no text is ever parsed.

use std::time::Duration;

use lock_core::{Effect, Error, ErrorKind, LossReason};
use zookeeper_client::Error as ZkError;

/// Returns what an error of the client library means. `cluster` has the servers' addresses for the
/// message.
pub(crate) fn from_zk_error(cluster: &str, error: ZkError) -> Error {
    use Effect::{None, Unknown};
    use ErrorKind::{Exhausted, Internal, InvalidArgument, Refused, Unreachable, Unsupported};
    let (kind, effect, text) = match &error {
        ZkError::SessionExpired => return session_gone().with_source(error),
        ZkError::ClientClosed => return Error::session_lost(LossReason::Closed).with_source(error),
        ZkError::NoHosts => (
            Unreachable,
            None,
            "cannot be reached: check that it runs, that the addresses are right, and whether it \
             speaks TLS (zks://) or not (zk://). With TLS, check the certificates, too: the CA in \
             the parameter ca must have issued those of the servers, for these hosts, and the \
             servers may want a client certificate, in the parameters cert and key",
        ),
        ZkError::ConnectionLoss => (Unreachable, Unknown, "closed the connection"),
        ZkError::Timeout => (Unreachable, Unknown, "did not answer in time"),
        ZkError::Custom(_) => (Unreachable, Unknown, "could not be reached"),
        // The request came over a connection that the session no longer used.
        ZkError::SessionMoved => (Unreachable, None, "has the session on another connection"),
        ZkError::NotReadOnly => (Exhausted, None, "has no quorum: the server is read-only"),
        ZkError::Throttled => (Exhausted, None, "is overloaded"),
        ZkError::QuotaExceeded => (
            Exhausted,
            None,
            "has no room left in its quota for this path",
        ),
        ZkError::AuthFailed => (
            Refused,
            None,
            "does not accept the credentials: check the user and the password",
        ),
        ZkError::NoAuth => (
            Refused,
            None,
            "refused the request: check the ACL of the path, and the user",
        ),
        ZkError::InvalidAcl => (
            Refused,
            None,
            "has no identity for this client that could own nodes: check the user, or that the \
             server accepts the client certificate",
        ),
        ZkError::NoChildrenForEphemerals => (
            InvalidArgument,
            None,
            "has an ephemeral node in the path of this lock: choose another name",
        ),
        ZkError::BadArguments(_) => (InvalidArgument, None, "does not accept the request"),
        ZkError::Unimplemented => (
            Unsupported,
            None,
            "does not support the request: use version 3.5 or later",
        ),
        ZkError::NoNode | ZkError::NodeExists | ZkError::NotEmpty | ZkError::BadVersion => (
            Internal,
            None,
            "gave an answer that this request cannot have",
        ),
        _ => (Internal, Unknown, "failed"),
    };
    Error::new(kind, format!("ZooKeeper at {cluster} {text}"))
        .with_effect(effect)
        .with_source(error)
}

/// Returns the error of an enqueue that met the node of an earlier attempt of itself. The next
/// attempt finds that node.
pub(crate) fn executed_meanwhile_error(source: Error) -> Error {
    let text = "an earlier attempt of the same request was executed meanwhile";
    Error::new(ErrorKind::Unreachable, text)
        .with_effect(Effect::Unknown)
        .with_source(source)
}

/// Returns the error of a request that was not answered in time.
pub(crate) fn timeout(cluster: &str, waited: Duration) -> Error {
    Error::new(
        ErrorKind::Unreachable,
        format!(
            "ZooKeeper at {cluster} did not answer within {waited:?}: check that it runs and is \
             not overloaded"
        ),
    )
    .with_effect(Effect::Unknown)
}

/// Returns the error for a session that the servers do not know any more.
pub(crate) fn session_gone() -> Error {
    Error::session_lost(LossReason::SessionGone)
}

/// Returns the error for an answer that no ZooKeeper gives.
pub(crate) fn protocol(what: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("an answer of ZooKeeper breaks the protocol: {what}"),
    )
    .with_effect(Effect::Unknown)
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn codes_become_kinds_and_effects() {
        use Effect::{None, Unknown};
        let cases = [
            (ZkError::ConnectionLoss, ErrorKind::Unreachable, Unknown),
            (ZkError::NoHosts, ErrorKind::Unreachable, None),
            (ZkError::SessionMoved, ErrorKind::Unreachable, None),
            (ZkError::Throttled, ErrorKind::Exhausted, None),
            (ZkError::NoAuth, ErrorKind::Refused, None),
            (ZkError::AuthFailed, ErrorKind::Refused, None),
            (ZkError::Unimplemented, ErrorKind::Unsupported, None),
            (
                ZkError::UnexpectedErrorCode(-1),
                ErrorKind::Internal,
                Unknown,
            ),
            (
                ZkError::SessionExpired,
                ErrorKind::SessionLost(LossReason::SessionGone),
                None,
            ),
        ];
        for (error, kind, effect) in cases {
            let text = error.to_string();
            let error = from_zk_error("h:2181", error);
            assert_eq!((error.kind(), error.effect()), (kind, effect), "{text}");
            assert!(error.source().is_some(), "{text}: the source must be kept");
            assert!(
                !error.to_string().contains(&text),
                "{error} repeats its source"
            );
        }
    }
}

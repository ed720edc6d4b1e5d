//! What a failure of the client library, or an error code of the server's, means.

use std::time::Duration;

use lock_core::{Effect, Error, ErrorKind, LossReason};
use zookeeper_client::Error as ZkError;

/// What an error says. `cluster` is the servers' addresses, for the message.
pub(crate) fn of(cluster: &str, error: ZkError) -> Error {
    use Effect::{None, Unknown};
    use ErrorKind::{Exhausted, Internal, InvalidArgument, Refused, Unreachable, Unsupported};
    let (kind, effect, text) = match &error {
        ZkError::SessionExpired => return session_gone().with_source(error),
        ZkError::ClientClosed => return Error::session_lost(LossReason::Closed).with_source(error),
        ZkError::NoHosts => (
            Unreachable,
            None,
            "cannot be reached: check that it runs, that the addresses are right, whether it speaks TLS (zks://) or not (zk://), and with TLS the certificates: ca must have issued the servers', for these hosts, and they may want ours, by the parameters cert and key",
        ),
        ZkError::ConnectionLoss => (Unreachable, Unknown, "broke the connection"),
        ZkError::Timeout => (Unreachable, Unknown, "did not answer in time"),
        ZkError::Custom(_) => (Unreachable, Unknown, "could not be talked to"),
        // The request came over a connection that the session had left.
        ZkError::SessionMoved => (Unreachable, None, "saw the session on another connection"),
        ZkError::NotReadOnly => (Exhausted, None, "has no quorum: the server is read-only"),
        ZkError::Throttled => (Exhausted, None, "is overloaded"),
        ZkError::QuotaExceeded => (
            Exhausted,
            None,
            "has a quota on this path, which is used up",
        ),
        ZkError::AuthFailed => (
            Refused,
            None,
            "does not take our credentials: check the user and the password",
        ),
        ZkError::NoAuth => (
            Refused,
            None,
            "refuses us: check the ACL of the path, and the user",
        ),
        ZkError::InvalidAcl => (
            Refused,
            None,
            "knows no identity of ours that nodes could belong to: check the user, or that the server takes the client certificate",
        ),
        ZkError::NoChildrenForEphemerals => (
            InvalidArgument,
            None,
            "has an ephemeral node on the way to this lock: choose another name",
        ),
        ZkError::BadArguments(_) => (InvalidArgument, None, "does not take the request"),
        ZkError::Unimplemented => (
            Unsupported,
            None,
            "does not do what was asked: use version 3.5 or later",
        ),
        ZkError::NoNode | ZkError::NodeExists | ZkError::NotEmpty | ZkError::BadVersion => (
            Internal,
            None,
            "answered what this request cannot be answered",
        ),
        _ => (Internal, Unknown, "failed"),
    };
    Error::new(kind, format!("ZooKeeper at {cluster} {text}"))
        .with_effect(effect)
        .with_source(error)
}

/// An enqueue met the node of an earlier try of itself: tried once more, it finds that.
pub(crate) fn twin(source: Error) -> Error {
    let text = "an earlier try of the same request has come through meanwhile";
    Error::new(ErrorKind::Unreachable, text)
        .with_effect(Effect::Unknown)
        .with_source(source)
}

/// No answer came in time.
pub(crate) fn silence(cluster: &str, waited: Duration) -> Error {
    Error::new(
        ErrorKind::Unreachable,
        format!(
            "ZooKeeper at {cluster} did not answer within {waited:?}: check that it runs and is not overloaded"
        ),
    )
    .with_effect(Effect::Unknown)
}

/// The server says that our session is gone.
pub(crate) fn session_gone() -> Error {
    Error::session_lost(LossReason::SessionGone)
}

/// An answer that no ZooKeeper gives.
pub(crate) fn protocol(what: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("an answer of ZooKeeper's breaks the protocol: {what}"),
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
            let error = of("h:2181", error);
            assert_eq!((error.kind(), error.effect()), (kind, effect), "{text}");
            assert!(error.source().is_some(), "{text}: the source must be kept");
            assert!(
                !error.to_string().contains(&text),
                "{error} repeats its source"
            );
        }
    }
}

//! The texts by which etcd and its clients say what no code says.
//!
//! etcd has one gRPC code for several errors, and none for some. Only an English text tells those
//! apart. This file is the one place that knows these texts, and where each was seen. Where it says
//! "3.4.0 to 3.7.1", the source of the first and the last release of 3.4, 3.5, 3.6 and 3.7 has the
//! text.

use tonic::Code;

/// What an error of a server, or of a client library, means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The lease does not exist any more.
    LeaseGone,
    /// The embedded coordinator's folder is not in its place any more.
    StoreGone,
    /// The disk of the embedded coordinator is full, or its store has reached its quota. The coordinator
    /// did nothing.
    DiskFull,
    /// The store of an etcd has reached its quota. Etcd checks the quota before it takes a request up,
    /// and once more when it carries the request out. After the second check it reports this error,
    /// although the request is done (`quotaApplierV3` in etcd 3.4.0 to 3.7.1).
    OverQuota,
    /// The server has too much to do, whatever the request is: it did nothing.
    Overloaded,
    /// The member has no leader: it did nothing.
    NoLeader,
    /// The member's raft turned a proposal away because it has no leader.
    ProposalDropped,
    /// The server, or the connection, is being stopped.
    Stopping,
    /// The token, or the state of the permissions that it was made for, is out of date.
    StaleToken,
    /// The request has no credentials, and the server wants some.
    NoCredentials,
    /// The user or the password is wrong.
    WrongCredentials,
    /// The server has no users, and the client gave one.
    NoUsers,
    /// The user lacks a permission.
    PermissionDenied,
}

/// What a text means, the text itself, the codes that it comes with (any if none is given), and the
/// versions whose source has it.
type Row = (Meaning, &'static str, &'static [Code], &'static str);

/// The rows of the table. The first one that fits counts. A text is a part of the whole message.
#[rustfmt::skip]
const TABLE: [Row; 17] = [
    (Meaning::LeaseGone, "requested lease not found", &[Code::NotFound], "etcd 3.4.0 to 3.7.1"),
    (Meaning::StoreGone, STORE_GONE, &[Code::Unavailable], "backend-embedded 0.1.0"),
    (Meaning::DiskFull, "database space exceeded", &[Code::Unavailable], "backend-embedded 0.1.0"),
    (Meaning::OverQuota,
        "database space exceeded", &[Code::ResourceExhausted], "etcd 3.4.0 to 3.7.1"),
    (Meaning::Overloaded, "too many requests", &[Code::ResourceExhausted], "etcd 3.4.0 to 3.7.1"),
    (Meaning::NoLeader, "no leader", &[Code::Unavailable], "etcd 3.4.0 to 3.7.1"),
    // In 3.6 and later it comes from raft's own module.
    (Meaning::ProposalDropped, "proposal dropped", &[Code::Unknown], "etcd 3.4.0 to 3.5.33"),
    // "context canceled" and "context deadline exceeded" are texts of Go's standard library.
    (Meaning::Stopping, "context", &[Code::Unknown], "etcd 3.4.23"),
    // "raft: stopped" and "etcdserver: server stopped".
    (Meaning::Stopping, "stopped", &[Code::Unknown], "etcd 3.4.0 to 3.7.1"),
    (Meaning::Stopping, "Service was not ready", &[Code::Unknown], "tonic-build 0.14.9"),
    (Meaning::StaleToken, "invalid auth token", &[], "etcd 3.4.0 to 3.7.1"),
    (Meaning::StaleToken, "auth store is old", &[], "etcd 3.4.19 to 3.4.45, 3.5.2 to 3.7.1"),
    // The releases without the row above send this with the code `Unknown`.
    (Meaning::StaleToken, "revision in header is old", &[], "etcd 3.4.0 to 3.7.1"),
    (Meaning::NoCredentials, "user name is empty", &[], "etcd 3.4.0 to 3.7.1"),
    (Meaning::WrongCredentials, "authentication failed", &[], "etcd 3.4.0 to 3.7.1"),
    (Meaning::NoUsers,
        "authentication is not enabled", &[Code::FailedPrecondition], "etcd 3.4.0 to 3.7.1"),
    (Meaning::PermissionDenied, "permission denied", &[], "etcd 3.4.0 to 3.7.1"),
];

/// The text of the embedded coordinator's server when its folder is not in its place any more.
const STORE_GONE: &str = "turnlock: the store is gone from its place";

/// The trailing metadata in which the embedded coordinator's server sends a text of its own. It
/// says more than the text that etcd has for the same error.
pub(super) const DETAIL_KEY: &str = "turnlock-detail";

/// The whole text of etcd-client 0.21.1 for a renewal that is answered without a time to live.
const CLIENT_LEASE_GONE: &str = "lease not found";

/// Returns what a server's error means, by its code and its message.
pub(super) fn parse_status(code: Code, message: &str) -> Option<Meaning> {
    parse(message, |codes| codes.is_empty() || codes.contains(&code))
}

/// Returns what the reason of a cancelled watch means. It comes without a code.
pub(crate) fn parse_cancel_reason(reason: &str) -> Option<Meaning> {
    parse(reason, <[Code]>::is_empty)
}

/// Returns whether the client library says of a renewal that the lease is gone.
pub(crate) fn is_lease_gone(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::LeaseKeepAliveError(text) if text == CLIENT_LEASE_GONE)
}

fn parse(message: &str, fits: impl Fn(&[Code]) -> bool) -> Option<Meaning> {
    let mut rows = TABLE.iter();
    let row = rows.find(|(_, text, codes, _)| fits(codes) && message.contains(text))?;
    Some(row.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole messages, as the servers send them.
    const MESSAGES: [(Code, &str, Option<Meaning>); 21] = {
        use Meaning::*;
        [
            (
                Code::NotFound,
                "etcdserver: requested lease not found",
                Some(LeaseGone),
            ),
            (
                Code::Unavailable,
                "turnlock: the store is gone from its place",
                Some(StoreGone),
            ),
            (
                Code::Unavailable,
                "etcdserver: mvcc: database space exceeded",
                Some(DiskFull),
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                Some(OverQuota),
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: too many requests",
                Some(Overloaded),
            ),
            (Code::Unavailable, "etcdserver: no leader", Some(NoLeader)),
            (
                Code::Unknown,
                "raft proposal dropped",
                Some(ProposalDropped),
            ),
            (Code::Unknown, "context canceled", Some(Stopping)),
            (Code::Unknown, "context deadline exceeded", Some(Stopping)),
            (Code::Unknown, "raft: stopped", Some(Stopping)),
            (Code::Unknown, "etcdserver: server stopped", Some(Stopping)),
            (
                Code::Unknown,
                "Service was not ready: transport error",
                Some(Stopping),
            ),
            (
                Code::Unauthenticated,
                "etcdserver: invalid auth token",
                Some(StaleToken),
            ),
            (
                Code::InvalidArgument,
                "etcdserver: revision of auth store is old",
                Some(StaleToken),
            ),
            (
                Code::Unknown,
                "auth: revision in header is old",
                Some(StaleToken),
            ),
            (
                Code::InvalidArgument,
                "etcdserver: user name is empty",
                Some(NoCredentials),
            ),
            (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
                Some(WrongCredentials),
            ),
            (
                Code::FailedPrecondition,
                "etcdserver: authentication is not enabled",
                Some(NoUsers),
            ),
            (
                Code::PermissionDenied,
                "etcdserver: permission denied",
                Some(PermissionDenied),
            ),
            // What a code says by itself, and a text with a code that it does not come with.
            (Code::Unavailable, "etcdserver: request timed out", None),
            (Code::Unavailable, "context canceled", None),
        ]
    };

    #[test]
    fn each_message_has_its_meaning_and_each_row_a_message() {
        for (code, message, meaning) in MESSAGES {
            assert_eq!(parse_status(code, message), meaning, "{message}");
        }
        for (meaning, text, codes, seen_in) in TABLE {
            let covers = |(code, message, expected): &(Code, &str, Option<Meaning>)| {
                message.contains(text)
                    && (codes.is_empty() || codes.contains(code))
                    && *expected == Some(meaning)
            };
            assert!(MESSAGES.iter().any(covers), "no message has {text:?}");
            assert!(
                seen_in.contains(|c: char| c.is_ascii_digit()),
                "{text:?} is of no version"
            );
        }
    }

    #[test]
    fn the_reason_of_a_cancelled_watch_has_no_code() {
        let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        assert_eq!(parse_cancel_reason(denied), Some(Meaning::PermissionDenied));
        let token = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
        assert_eq!(parse_cancel_reason(token), Some(Meaning::StaleToken));
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(parse_cancel_reason(compacted), None);
        assert_eq!(parse_cancel_reason("etcdserver: no leader"), None);
    }

    #[test]
    fn the_client_says_that_a_lease_is_gone() {
        let error = |text: &str| etcd_client::Error::LeaseKeepAliveError(text.to_owned());
        assert!(is_lease_gone(&error("lease not found")));
        assert!(!is_lease_gone(&error("the stream was closed")));
    }
}

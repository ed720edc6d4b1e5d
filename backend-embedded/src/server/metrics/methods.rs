//! The methods of the gRPC services, as the metrics name them.

/// The name of what this server does not know.
pub(super) const UNKNOWN: &str = "unknown";

/// The service, its methods of one request and one response, and its methods with streams, each
/// with its type.
type Service = (
    &'static str,
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
);

const BOTH: &str = "bidi_stream";
const FROM_SERVER: &str = "server_stream";

/// All services.
pub(super) const SERVICES: [Service; 9] = [
    (
        "etcdserverpb.KV",
        &["Range", "Put", "DeleteRange", "Txn", "Compact"],
        &[],
    ),
    ("etcdserverpb.Watch", &[], &[("Watch", BOTH)]),
    (
        "etcdserverpb.Lease",
        &[
            "LeaseGrant",
            "LeaseRevoke",
            "LeaseTimeToLive",
            "LeaseLeases",
        ],
        &[("LeaseKeepAlive", BOTH)],
    ),
    (
        "etcdserverpb.Cluster",
        &[
            "MemberAdd",
            "MemberRemove",
            "MemberUpdate",
            "MemberList",
            "MemberPromote",
        ],
        &[],
    ),
    (
        "etcdserverpb.Maintenance",
        &[
            "Alarm",
            "Status",
            "Defragment",
            "Hash",
            "HashKV",
            "MoveLeader",
            "Downgrade",
        ],
        &[("Snapshot", FROM_SERVER)],
    ),
    ("etcdserverpb.Auth", &["Authenticate", "AuthStatus"], &[]),
    ("v3lockpb.Lock", &["Lock", "Unlock"], &[]),
    (
        "v3electionpb.Election",
        &["Campaign", "Proclaim", "Leader", "Resign"],
        &[("Observe", FROM_SERVER)],
    ),
    (
        "grpc.health.v1.Health",
        &["Check"],
        &[("Watch", FROM_SERVER)],
    ),
];

/// The methods without streams whose calls wait for other clients.
pub(super) const WAITING: [(&str, &str); 2] = [
    ("v3lockpb.Lock", "Lock"),
    ("v3electionpb.Election", "Campaign"),
];

/// The type of a method without streams.
pub(super) const UNARY: &str = "unary";

/// The status codes by number, as Go's gRPC writes them.
pub(super) const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Returns whether a call of this path has one request and one answer. A method that is not known
/// counts as one of those.
pub(in crate::server) fn is_unary(path: &str) -> bool {
    let mut parts = path.split('/').skip(1);
    let (service, method) = (parts.next(), parts.next());
    let known = SERVICES.iter().find(|(name, _, _)| Some(*name) == service);
    !known.is_some_and(|(_, _, streams)| streams.iter().any(|(name, _)| Some(*name) == method))
}

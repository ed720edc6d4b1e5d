//! What each method of the protos needs before its request is read.

/// What a method needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: it shows nothing of the store.
    Nothing,
    /// Credentials. What the request does to the store is decided on where it is applied.
    Credentials,
    /// The right to maintain the store.
    Admin,
}

/// Returns what the method with this path needs. One that is not named here needs all that there is.
pub(super) fn need_of(path: &str) -> Need {
    match path {
        // How else to get a token; and load balancers have no credentials.
        "/etcdserverpb.Auth/Authenticate"
        | "/grpc.health.v1.Health/Check"
        | "/grpc.health.v1.Health/Watch" => Need::Nothing,
        "/etcdserverpb.KV/Range"
        | "/etcdserverpb.KV/RangeStream"
        | "/etcdserverpb.KV/Put"
        | "/etcdserverpb.KV/DeleteRange"
        | "/etcdserverpb.KV/Txn"
        | "/etcdserverpb.KV/Compact"
        | "/etcdserverpb.Watch/Watch"
        | "/etcdserverpb.Lease/LeaseGrant"
        | "/etcdserverpb.Lease/LeaseRevoke"
        | "/etcdserverpb.Lease/LeaseKeepAlive"
        | "/etcdserverpb.Lease/LeaseTimeToLive"
        | "/etcdserverpb.Lease/LeaseLeases"
        | "/v3lockpb.Lock/Lock"
        | "/v3lockpb.Lock/Unlock"
        | "/v3electionpb.Election/Campaign"
        | "/v3electionpb.Election/Proclaim"
        | "/v3electionpb.Election/Leader"
        | "/v3electionpb.Election/Observe"
        | "/v3electionpb.Election/Resign"
        // Clients ask for these two to find the server and its version.
        | "/etcdserverpb.Cluster/MemberList"
        | "/etcdserverpb.Maintenance/Status"
        | "/etcdserverpb.Auth/AuthStatus" => Need::Credentials,
        _ => Need::Admin,
    }
}

//! The rows about leases.

use super::{limited, same};
use crate::probe::Probe;

pub const LEASE: &[Probe] = &[
    same(
        "Lease.LeaseGrant",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Lease.LeaseGrant ID: $L TTL: 60",
        ],
    ),
    same(
        "LeaseGrantRequest.TTL",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Lease.LeaseGrant TTL: 9000000001",
            "Lease.LeaseTimeToLive ID: $L",
        ],
    ),
    limited(
        "LeaseGrantRequest.ID",
        "ids are positive",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Lease.LeaseGrant TTL: 60",
            "Lease.LeaseGrant ID: -$L TTL: 60",
            "Lease.LeaseRevoke ID: -$L",
        ],
    ),
    same(
        "Lease.LeaseRevoke",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "KV.Put key: '$Ka' value: 'v' lease: $L",
            "Lease.LeaseRevoke ID: $L",
            "KV.Range key: '$K' range_end: '$K~'",
        ],
    ),
    same(
        "LeaseRevokeRequest.ID",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Lease.LeaseRevoke ID: $L",
            "Lease.LeaseRevoke ID: $L",
            "Lease.LeaseRevoke",
        ],
    ),
    same(
        "Lease.LeaseKeepAlive",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "2 Lease.LeaseKeepAlive ID: $L ; ID: $L",
        ],
    ),
    same("LeaseKeepAliveRequest.ID", &["Lease.LeaseKeepAlive ID: $L"]),
    same(
        "Lease.LeaseTimeToLive",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Lease.LeaseTimeToLive ID: $L",
        ],
    ),
    same(
        "LeaseTimeToLiveRequest.ID",
        &["Lease.LeaseTimeToLive ID: $L"],
    ),
    same(
        "LeaseTimeToLiveRequest.keys",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "KV.Put key: '$Ka' value: 'v' lease: $L",
            "KV.Put key: '$Kb' value: 'v' lease: $L",
            "Lease.LeaseTimeToLive ID: $L keys: true",
        ],
    ),
    same(
        "Lease.LeaseLeases",
        &["Lease.LeaseGrant ID: $L TTL: 60", "Lease.LeaseLeases"],
    ),
];

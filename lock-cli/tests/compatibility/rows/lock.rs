//! The rows about locks.

use super::{limited, same};
use crate::probe::Probe;

pub const LOCK: &[Probe] = &[
    same(
        "Lock.Lock",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Lock.Lock name: '$K' lease: $L",
            "Lock.Lock name: '$K' lease: $L",
        ],
    ),
    same(
        "LockRequest.name",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Lock.Lock name: '$K' lease: $L",
            "KV.Range key: '$K/$H'",
        ],
    ),
    limited(
        "LockRequest.lease",
        "an unknown lease is `NOT_FOUND`, and not `UNKNOWN`",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Lock.Lock name: '$K' lease: $L",
            "Lease.LeaseTimeToLive ID: $L keys: true",
            "Lock.Lock name: '$K' lease: 7",
        ],
    ),
    same(
        "Lock.Unlock",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Lock.Lock name: '$K' lease: $L",
            "Lock.Unlock key: '$K/$H'",
            "KV.Range key: '$K/$H'",
        ],
    ),
    limited(
        "UnlockRequest.key",
        "one that is empty is `INVALID_ARGUMENT`, and not `UNKNOWN`",
        &["Lock.Unlock key: '$K/$H'", "Lock.Unlock"],
    ),
];

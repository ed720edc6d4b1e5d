//! The rows of the page, in the order of the protos. What each says is checked by its requests.

use crate::probe::{Probe, Verdict};

const fn row(
    name: &'static str,
    verdict: Verdict,
    reason: &'static str,
    steps: &'static [&'static str],
) -> Probe {
    Probe {
        name,
        verdict,
        reason,
        steps,
    }
}

const fn same(name: &'static str, steps: &'static [&'static str]) -> Probe {
    row(name, Verdict::AsEtcd, "", steps)
}

const fn limited(
    name: &'static str,
    reason: &'static str,
    steps: &'static [&'static str],
) -> Probe {
    row(name, Verdict::Limited, reason, steps)
}

const fn refused(
    name: &'static str,
    reason: &'static str,
    steps: &'static [&'static str],
) -> Probe {
    row(name, Verdict::Refused, reason, steps)
}

/// Returns all rows.
pub fn all() -> Vec<Probe> {
    let parts = [KV, WATCH, LEASE, CLUSTER, MAINTENANCE, AUTH, ELECTION, LOCK];
    parts.concat()
}

const KV: &[Probe] = &[
    same(
        "KV.Range",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Range key: '$K' range_end: '$K~'",
        ],
    ),
    same(
        "RangeRequest.key",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Range key: '$Ka'",
            "KV.Range key: '$Kb'",
            "KV.Range",
        ],
    ),
    same(
        "RangeRequest.range_end",
        &[
            "KV.Put key: '$Ka' value: '3'",
            "KV.Put key: '$Kb' value: '1'",
            "KV.Put key: '$Kc' value: '2'",
            "KV.Range key: '$K' range_end: '$K~'",
            "KV.Range key: '$Kb' range_end: '$Ka'",
            "KV.Range key: '$Kb' range_end: '$Kc'",
        ],
    ),
    same(
        "RangeRequest.limit",
        &[
            "KV.Put key: '$Ka' value: '3'",
            "KV.Put key: '$Kb' value: '1'",
            "KV.Put key: '$Kc' value: '2'",
            "KV.Range key: '$K' range_end: '$K~' limit: 2",
            "KV.Range key: '$K' range_end: '$K~' limit: -1",
        ],
    ),
    limited(
        "RangeRequest.revision",
        "as far back as the [history](limits.md) goes",
        &[
            "KV.Put key: '$Ka' value: 'old'",
            "KV.Put key: '$Ka' value: 'new'",
            "KV.Range key: '$Ka' revision: $2",
            "KV.Range key: '$Ka' revision: $9",
            "KV.Range key: '$Ka' revision: $1",
            "KV.Range key: '$Ka' revision: 1",
        ],
    ),
    same(
        "RangeRequest.sort_order",
        &[
            "KV.Put key: '$Ka' value: '3'",
            "KV.Put key: '$Kb' value: '1'",
            "KV.Put key: '$Kc' value: '2'",
            "KV.Range key: '$K' range_end: '$K~' sort_order: DESCEND",
            "KV.Range key: '$K' range_end: '$K~' sort_order: ASCEND",
        ],
    ),
    same(
        "RangeRequest.sort_target",
        &[
            "KV.Put key: '$Kb' value: '1'",
            "KV.Put key: '$Ka' value: '2'",
            "KV.Put key: '$Ka' value: '3'",
            "KV.Range key: '$K' range_end: '$K~' sort_order: ASCEND sort_target: VERSION",
            "KV.Range key: '$K' range_end: '$K~' sort_order: ASCEND sort_target: CREATE",
            "KV.Range key: '$K' range_end: '$K~' sort_order: ASCEND sort_target: MOD",
            "KV.Range key: '$K' range_end: '$K~' sort_order: ASCEND sort_target: VALUE",
        ],
    ),
    same(
        "RangeRequest.serializable",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Range key: '$K' range_end: '$K~' serializable: true",
        ],
    ),
    same(
        "RangeRequest.keys_only",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Range key: '$K' range_end: '$K~' keys_only: true",
        ],
    ),
    same(
        "RangeRequest.count_only",
        &[
            "KV.Put key: '$Ka' value: '3'",
            "KV.Put key: '$Kb' value: '1'",
            "KV.Put key: '$Kc' value: '2'",
            "KV.Range key: '$K' range_end: '$K~' count_only: true",
        ],
    ),
    same(
        "RangeRequest.min_mod_revision",
        &[
            "KV.Put key: '$Ka' value: '3'",
            "KV.Put key: '$Kb' value: '1'",
            "KV.Put key: '$Kc' value: '2'",
            "KV.Put key: '$Ka' value: 'again'",
            "KV.Range key: '$K' range_end: '$K~' min_mod_revision: $2",
            "KV.Range key: '$K' range_end: '$K~' min_mod_revision: -1",
        ],
    ),
    same(
        "RangeRequest.max_mod_revision",
        &[
            "KV.Put key: '$Ka' value: '3'",
            "KV.Put key: '$Kb' value: '1'",
            "KV.Put key: '$Kc' value: '2'",
            "KV.Put key: '$Ka' value: 'again'",
            "KV.Range key: '$K' range_end: '$K~' max_mod_revision: $2",
            "KV.Range key: '$K' range_end: '$K~' max_mod_revision: -1",
        ],
    ),
    same(
        "RangeRequest.min_create_revision",
        &[
            "KV.Put key: '$Ka' value: '3'",
            "KV.Put key: '$Kb' value: '1'",
            "KV.Put key: '$Kc' value: '2'",
            "KV.Put key: '$Ka' value: 'again'",
            "KV.Range key: '$K' range_end: '$K~' min_create_revision: $2",
            "KV.Range key: '$K' range_end: '$K~' min_create_revision: -1",
        ],
    ),
    same(
        "RangeRequest.max_create_revision",
        &[
            "KV.Put key: '$Ka' value: '3'",
            "KV.Put key: '$Kb' value: '1'",
            "KV.Put key: '$Kc' value: '2'",
            "KV.Put key: '$Ka' value: 'again'",
            "KV.Range key: '$K' range_end: '$K~' max_create_revision: $2",
            "KV.Range key: '$K' range_end: '$K~' max_create_revision: -1",
        ],
    ),
    refused(
        "KV.RangeStream",
        "etcd 3.7 has it",
        &["KV.RangeStream key: '$K'"],
    ),
    same(
        "KV.Put",
        &["KV.Put key: '$Ka' value: 'v'", "KV.Range key: '$Ka'"],
    ),
    same(
        "PutRequest.key",
        &["KV.Put key: '$Ka' value: 'v'", "KV.Put"],
    ),
    same(
        "PutRequest.value",
        &[
            "KV.Put key: '$Ka' value: '1'",
            "KV.Put key: '$Ka' value: '2'",
            "KV.Range key: '$Ka'",
        ],
    ),
    same(
        "PutRequest.lease",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "KV.Put key: '$Ka' value: 'v' lease: $L",
            "KV.Put key: '$Ka' value: 'v' lease: 7",
            "KV.Range key: '$Ka'",
            "Lease.LeaseTimeToLive ID: $L keys: true",
        ],
    ),
    same(
        "PutRequest.prev_kv",
        &[
            "KV.Put key: '$Ka' value: '1'",
            "KV.Put key: '$Ka' value: '2' prev_kv: true",
            "KV.Put key: '$Kb' value: '2' prev_kv: true",
        ],
    ),
    same(
        "PutRequest.ignore_value",
        &[
            "KV.Put key: '$Ka' value: '1'",
            "KV.Put key: '$Ka' ignore_value: true",
            "KV.Put key: '$Kb' ignore_value: true",
            "KV.Put key: '$Ka' value: 'v' ignore_value: true",
            "KV.Range key: '$Ka'",
        ],
    ),
    same(
        "PutRequest.ignore_lease",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "KV.Put key: '$Ka' value: '1' lease: $L",
            "KV.Put key: '$Ka' value: '2' ignore_lease: true",
            "KV.Put key: '$Kb' value: '2' ignore_lease: true",
            "KV.Put key: '$Ka' value: '2' ignore_lease: true lease: $L",
            "KV.Range key: '$Ka'",
        ],
    ),
    same(
        "KV.DeleteRange",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.DeleteRange key: '$Ka'",
            "KV.Range key: '$Ka'",
        ],
    ),
    same(
        "DeleteRangeRequest.key",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.DeleteRange key: '$Kb'",
            "KV.DeleteRange",
        ],
    ),
    same(
        "DeleteRangeRequest.range_end",
        &[
            "KV.Put key: '$Ka' value: '3'",
            "KV.Put key: '$Kb' value: '1'",
            "KV.Put key: '$Kc' value: '2'",
            "KV.DeleteRange key: '$K' range_end: '$Kc'",
            "KV.Range key: '$K' range_end: '$K~'",
        ],
    ),
    same(
        "DeleteRangeRequest.prev_kv",
        &[
            "KV.Put key: '$Ka' value: '3'",
            "KV.Put key: '$Kb' value: '1'",
            "KV.Put key: '$Kc' value: '2'",
            "KV.DeleteRange key: '$K' range_end: '$K~' prev_kv: true",
        ],
    ),
    same(
        "KV.Txn",
        &[
            "KV.Txn success { request_put { key: '$Ka' value: 'v' } } success { request_range { key: '$Ka' } }",
            "KV.Txn",
        ],
    ),
    same(
        "TxnRequest.compare",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Txn compare { key: '$Ka' target: VALUE value: 'v' } success { request_range { key: '$Ka' } }",
            "KV.Txn compare { }",
        ],
    ),
    same(
        "Compare.result",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Txn compare { key: '$Ka' result: EQUAL target: VALUE value: 'u' } success { request_range { key: '$Ka' } }",
            "KV.Txn compare { key: '$Ka' result: GREATER target: VALUE value: 'u' } success { request_range { key: '$Ka' } }",
            "KV.Txn compare { key: '$Ka' result: LESS target: VALUE value: 'u' } success { request_range { key: '$Ka' } }",
            "KV.Txn compare { key: '$Ka' result: NOT_EQUAL target: VALUE value: 'u' } success { request_range { key: '$Ka' } }",
        ],
    ),
    same(
        "Compare.target",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Txn compare { key: '$Ka' target: VERSION } success { request_range { key: '$Ka' } }",
            "KV.Txn compare { key: '$Ka' target: CREATE } success { request_range { key: '$Ka' } }",
            "KV.Txn compare { key: '$Ka' target: MOD } success { request_range { key: '$Ka' } }",
            "KV.Txn compare { key: '$Ka' target: VALUE } success { request_range { key: '$Ka' } }",
            "KV.Txn compare { key: '$Ka' target: LEASE } success { request_range { key: '$Ka' } }",
        ],
    ),
    same(
        "Compare.key",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Txn compare { key: '$Ka' target: VERSION version: 1 }",
            "KV.Txn compare { key: '$Kb' target: VERSION version: 0 }",
        ],
    ),
    same(
        "Compare.version",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Txn compare { key: '$Ka' target: VERSION version: 1 } success { request_range { key: '$Ka' } }",
            "KV.Txn compare { key: '$Ka' target: VERSION version: -1 } success { request_range { key: '$Ka' } }",
        ],
    ),
    same(
        "Compare.create_revision",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Txn compare { key: '$Ka' target: CREATE create_revision: $1 } success { request_range { key: '$Ka' } }",
        ],
    ),
    same(
        "Compare.mod_revision",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Txn compare { key: '$Ka' target: MOD mod_revision: $2 } success { request_range { key: '$Ka' } }",
        ],
    ),
    same(
        "Compare.value",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Txn compare { key: '$Ka' target: VALUE value: 'v' } success { request_range { key: '$Ka' } }",
        ],
    ),
    same(
        "Compare.lease",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "KV.Put key: '$Ka' value: 'v' lease: $L",
            "KV.Txn compare { key: '$Ka' target: LEASE lease: $L } success { request_range { key: '$Ka' } }",
        ],
    ),
    same(
        "Compare.range_end",
        &[
            "KV.Put key: '$Ka' value: '3'",
            "KV.Put key: '$Kb' value: '1'",
            "KV.Put key: '$Kc' value: '2'",
            "KV.Txn compare { key: '$K' range_end: '$K~' target: VERSION version: 1 }",
            "KV.Txn compare { key: '$K' range_end: '$K~' target: VALUE value: '1' }",
        ],
    ),
    same(
        "TxnRequest.success",
        &[
            "KV.Txn success { request_put { key: '$Ka' } } success { request_put { key: '$Ka' } }",
            "KV.Txn success { request_put { key: '$Ka' } } success { request_delete_range { key: '$Kb' } }",
            "KV.Range key: '$K' range_end: '$K~'",
        ],
    ),
    same(
        "RequestOp.request_range",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Txn success { request_range { key: '$Ka' } }",
            "KV.Txn success { request_range { } }",
        ],
    ),
    same(
        "RequestOp.request_put",
        &[
            "KV.Txn success { request_put { key: '$Ka' value: '1' } } success { request_put { key: '$Kb' prev_kv: true } }",
            "KV.Range key: '$K' range_end: '$K~'",
        ],
    ),
    same(
        "RequestOp.request_delete_range",
        &[
            "KV.Put key: '$Ka' value: '3'",
            "KV.Put key: '$Kb' value: '1'",
            "KV.Put key: '$Kc' value: '2'",
            "KV.Txn success { request_delete_range { key: '$K' range_end: '$Kc' prev_kv: true } }",
            "KV.Range key: '$K' range_end: '$K~'",
        ],
    ),
    same(
        "RequestOp.request_txn",
        &[
            "KV.Txn success { request_txn { compare { key: '$Ka' target: VERSION version: 0 } success { request_put { key: '$Ka' } } } }",
            "KV.Range key: '$K' range_end: '$K~'",
        ],
    ),
    same(
        "TxnRequest.failure",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Txn compare { key: '$Ka' target: VERSION version: 0 } failure { request_delete_range { key: '$Ka' } }",
            "KV.Range key: '$K' range_end: '$K~'",
        ],
    ),
    same(
        "KV.Compact",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Compact revision: $1",
            "KV.Compact revision: $1",
        ],
    ),
    same(
        "CompactionRequest.revision",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Compact revision: $9",
            "KV.Compact",
        ],
    ),
    same(
        "CompactionRequest.physical",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Compact revision: $1 physical: true",
        ],
    ),
];

const WATCH: &[Probe] = &[
    same(
        "Watch.Watch",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 }",
        ],
    ),
    same(
        "WatchRequest.create_request",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "2 Watch.Watch create_request { key: '$Ka' start_revision: $1 }",
            "Watch.Watch create_request { key: '$Ka' }",
        ],
    ),
    same(
        "WatchCreateRequest.key",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "2 Watch.Watch create_request { key: '$Ka' start_revision: $1 }",
            "Watch.Watch create_request { start_revision: $1 }",
        ],
    ),
    same(
        "WatchCreateRequest.range_end",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 }",
            "Watch.Watch create_request { key: '$Kb' range_end: '$Ka' }",
        ],
    ),
    limited(
        "WatchCreateRequest.start_revision",
        "as far back as the [history](limits.md) goes; of what was before a restart, the last change of each key",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "KV.Put key: '$Kb' value: 'v'",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $2 }",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: 1 }",
        ],
    ),
    same(
        "WatchCreateRequest.progress_notify",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 progress_notify: true }",
        ],
    ),
    same(
        "WatchCreateRequest.filters",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 filters: NODELETE }",
            "KV.DeleteRange key: '$Ka'",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 filters: NOPUT }",
        ],
    ),
    same(
        "WatchCreateRequest.prev_kv",
        &[
            "KV.Put key: '$Ka' value: '1'",
            "KV.Put key: '$Ka' value: '2'",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $2 prev_kv: true }",
        ],
    ),
    same(
        "WatchCreateRequest.watch_id",
        &[
            "1 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 watch_id: 7 }",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 watch_id: 7 } ; create_request { key: '$Kb' watch_id: 7 }",
        ],
    ),
    same(
        "WatchCreateRequest.fragment",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 fragment: true }",
        ],
    ),
    same(
        "WatchRequest.cancel_request",
        &[
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 watch_id: 7 } ; cancel_request { watch_id: 7 }",
        ],
    ),
    same(
        "WatchCancelRequest.watch_id",
        &[
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 watch_id: 7 } ; cancel_request { watch_id: 8 } ; cancel_request { watch_id: 7 }",
        ],
    ),
    same(
        "WatchRequest.progress_request",
        &[
            "2 Watch.Watch create_request { key: '$K' range_end: '$K~' start_revision: $1 watch_id: 7 } ; progress_request { }",
        ],
    ),
];

const LEASE: &[Probe] = &[
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

const CLUSTER: &[Probe] = &[
    refused(
        "Cluster.MemberAdd",
        "there is one member",
        &["Cluster.MemberAdd peerURLs: ':'"],
    ),
    refused(
        "Cluster.MemberRemove",
        "there is one member",
        &["Cluster.MemberRemove ID: 1"],
    ),
    refused(
        "Cluster.MemberUpdate",
        "there is one member",
        &["Cluster.MemberUpdate ID: 1 peerURLs: ':'"],
    ),
    limited(
        "Cluster.MemberList",
        "one member, without addresses for other members",
        &["Cluster.MemberList?"],
    ),
    limited(
        "MemberListRequest.linearizable",
        "ignored",
        &["Cluster.MemberList? linearizable: true"],
    ),
    refused(
        "Cluster.MemberPromote",
        "there is one member",
        &["Cluster.MemberPromote ID: 1"],
    ),
];

const MAINTENANCE: &[Probe] = &[
    limited(
        "Maintenance.Alarm",
        "NOSPACE is reported while the store is full; alarms cannot be set",
        &[
            "Maintenance.Alarm action: DEACTIVATE",
            "Maintenance.Alarm action: ACTIVATE alarm: CORRUPT memberID: $M",
            "Maintenance.Alarm action: DEACTIVATE alarm: CORRUPT memberID: $M",
            "Maintenance.Alarm action: GET",
        ],
    ),
    limited(
        "AlarmRequest.action",
        "NOSPACE is reported while the store is full; alarms cannot be set",
        &[
            "Maintenance.Alarm action: ACTIVATE alarm: CORRUPT memberID: $M",
            "Maintenance.Alarm action: DEACTIVATE alarm: CORRUPT memberID: $M",
            "Maintenance.Alarm",
        ],
    ),
    limited(
        "AlarmRequest.memberID",
        "NOSPACE is reported while the store is full; alarms cannot be set",
        &[
            "Maintenance.Alarm action: ACTIVATE alarm: CORRUPT memberID: $M",
            "Maintenance.Alarm action: DEACTIVATE alarm: CORRUPT memberID: $M",
            "Maintenance.Alarm",
        ],
    ),
    limited(
        "AlarmRequest.alarm",
        "NOSPACE is reported while the store is full; alarms cannot be set",
        &[
            "Maintenance.Alarm action: ACTIVATE alarm: CORRUPT memberID: $M",
            "Maintenance.Alarm action: DEACTIVATE alarm: CORRUPT memberID: $M",
            "Maintenance.Alarm",
        ],
    ),
    limited(
        "Maintenance.Status",
        "the revision stands in for the raft index; the version also names Turnlock's",
        &["Maintenance.Status"],
    ),
    same("Maintenance.Defragment", &["Maintenance.Defragment"]),
    limited(
        "Maintenance.Hash",
        "the hash covers our own file format",
        &["Maintenance.Hash"],
    ),
    limited(
        "Maintenance.HashKV",
        "another hash than that of etcd",
        &["KV.Put key: '$Ka' value: 'v'", "Maintenance.HashKV"],
    ),
    limited(
        "HashKVRequest.revision",
        "another hash than that of etcd",
        &[
            "KV.Put key: '$Ka' value: 'v'",
            "Maintenance.HashKV revision: $1",
        ],
    ),
    limited(
        "Maintenance.Snapshot",
        "a file for `turnlock restore`, in another format",
        &["Maintenance.Snapshot?"],
    ),
    same(
        "Maintenance.MoveLeader",
        &["Maintenance.MoveLeader targetID: $M"],
    ),
    same(
        "MoveLeaderRequest.targetID",
        &[
            "Maintenance.MoveLeader targetID: $M",
            "Maintenance.MoveLeader targetID: 1",
        ],
    ),
    refused(
        "Maintenance.Downgrade",
        "etcd 3.5 has it",
        &["Maintenance.Downgrade"],
    ),
];

const AUTH: &[Probe] = &[
    refused(
        "Auth.AuthEnable",
        "users and their rights are kept in files",
        &["Auth.AuthEnable"],
    ),
    refused(
        "Auth.AuthDisable",
        "users and their rights are kept in files",
        &["Auth.AuthDisable"],
    ),
    limited(
        "Auth.AuthStatus",
        "as in etcd 3.5, which introduced it",
        &["Auth.AuthStatus"],
    ),
    same(
        "Auth.Authenticate",
        &["Auth.Authenticate name: 'root' password: 'p'"],
    ),
    same(
        "AuthenticateRequest.name",
        &["Auth.Authenticate name: 'root' password: 'p'"],
    ),
    same(
        "AuthenticateRequest.password",
        &["Auth.Authenticate name: 'root' password: 'p'"],
    ),
    refused(
        "Auth.UserAdd",
        "users and their rights are kept in files",
        &["Auth.UserAdd"],
    ),
    refused(
        "Auth.UserGet",
        "users and their rights are kept in files",
        &["Auth.UserGet"],
    ),
    refused(
        "Auth.UserList",
        "users and their rights are kept in files",
        &["Auth.UserList"],
    ),
    refused(
        "Auth.UserDelete",
        "users and their rights are kept in files",
        &["Auth.UserDelete"],
    ),
    refused(
        "Auth.UserChangePassword",
        "users and their rights are kept in files",
        &["Auth.UserChangePassword"],
    ),
    refused(
        "Auth.UserGrantRole",
        "users and their rights are kept in files",
        &["Auth.UserGrantRole"],
    ),
    refused(
        "Auth.UserRevokeRole",
        "users and their rights are kept in files",
        &["Auth.UserRevokeRole"],
    ),
    refused(
        "Auth.RoleAdd",
        "users and their rights are kept in files",
        &["Auth.RoleAdd"],
    ),
    refused(
        "Auth.RoleGet",
        "users and their rights are kept in files",
        &["Auth.RoleGet"],
    ),
    refused(
        "Auth.RoleList",
        "users and their rights are kept in files",
        &["Auth.RoleList"],
    ),
    refused(
        "Auth.RoleDelete",
        "users and their rights are kept in files",
        &["Auth.RoleDelete"],
    ),
    refused(
        "Auth.RoleGrantPermission",
        "users and their rights are kept in files",
        &["Auth.RoleGrantPermission"],
    ),
    refused(
        "Auth.RoleRevokePermission",
        "users and their rights are kept in files",
        &["Auth.RoleRevokePermission"],
    ),
];

const ELECTION: &[Probe] = &[
    same(
        "Election.Campaign",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
        ],
    ),
    same(
        "CampaignRequest.name",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Leader name: '$K'",
        ],
    ),
    limited(
        "CampaignRequest.lease",
        "an unknown lease is `NOT_FOUND`, and not `UNKNOWN`",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Lease.LeaseTimeToLive ID: $L keys: true",
            "Election.Campaign name: '$Kb' lease: 7",
        ],
    ),
    same(
        "CampaignRequest.value",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "KV.Range key: '$K/$H'",
        ],
    ),
    same(
        "Election.Proclaim",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Proclaim leader { name: '$K' key: '$K/$H' rev: $1 lease: $L } value: 'still'",
            "KV.Range key: '$K/$H'",
        ],
    ),
    same(
        "ProclaimRequest.leader",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Proclaim leader { name: '$K' key: '$K/$H' rev: $1 lease: $L } value: 'still'",
            "Election.Proclaim value: 'still'",
        ],
    ),
    same(
        "LeaderKey.name",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Proclaim leader { name: '$K' key: '$K/$H' rev: $1 lease: $L } value: 'still'",
        ],
    ),
    same(
        "LeaderKey.key",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Proclaim leader { name: '$K' key: '$K/0' rev: $1 lease: $L } value: 'still'",
        ],
    ),
    same(
        "LeaderKey.rev",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Proclaim leader { name: '$K' key: '$K/$H' rev: $2 lease: $L } value: 'still'",
        ],
    ),
    limited(
        "LeaderKey.lease",
        "an unknown lease is `NOT_FOUND`, and not `UNKNOWN`",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Proclaim leader { name: '$K' key: '$K/$H' rev: $1 lease: 7 } value: 'still'",
        ],
    ),
    same(
        "ProclaimRequest.value",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Proclaim leader { name: '$K' key: '$K/$H' rev: $1 lease: $L } value: 'still'",
            "Election.Leader name: '$K'",
        ],
    ),
    same(
        "Election.Leader",
        &[
            "Election.Leader name: '$K'",
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Leader name: '$K'",
        ],
    ),
    same("LeaderRequest.name", &["Election.Leader name: '$K'"]),
    same(
        "Election.Observe",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "1 Election.Observe name: '$K'",
        ],
    ),
    same(
        "Election.Resign",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Resign leader { name: '$K' key: '$K/$H' rev: $1 lease: $L }",
            "Election.Leader name: '$K'",
        ],
    ),
    same(
        "ResignRequest.leader",
        &[
            "Lease.LeaseGrant ID: $L TTL: 60",
            "Election.Campaign name: '$K' lease: $L value: 'me'",
            "Election.Resign leader { name: '$K' key: '$K/$H' rev: $2 lease: $L }",
            "Election.Resign",
        ],
    ),
];

const LOCK: &[Probe] = &[
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

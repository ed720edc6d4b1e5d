//! The rows about keys and transactions.

use super::{limited, refused, same};
use crate::probe::Probe;

pub const KV: &[Probe] = &[
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

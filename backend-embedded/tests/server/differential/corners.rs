//! Cases that random requests seldom produce.

use etcd_client::proto::{
    PbCompactionRequest, PbCompare, PbDeleteRequest, PbLeaseGrantRequest, PbLeaseRevokeRequest,
    PbLeaseTimeToLiveRequest, PbPutRequest, PbRangeRequest, PbTargetUnion, PbTxnOpRequest,
    PbTxnRequest, PbTxnRequestOp,
};

use super::ask::Ask;

fn put(key: &str, value: &str) -> PbPutRequest {
    PbPutRequest {
        key: key.into(),
        value: value.into(),
        ..PbPutRequest::default()
    }
}

fn range(key: &str, range_end: &str) -> PbRangeRequest {
    PbRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..PbRangeRequest::default()
    }
}

fn delete(key: &str, range_end: &str) -> PbDeleteRequest {
    PbDeleteRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: true,
    }
}

fn op(request: PbTxnOpRequest) -> PbTxnRequestOp {
    PbTxnRequestOp {
        request: Some(request),
    }
}

fn put_op(key: &str) -> PbTxnRequestOp {
    op(PbTxnOpRequest::RequestPut(put(key, "")))
}

fn then(success: Vec<PbTxnRequestOp>) -> Ask {
    Ask::Txn(PbTxnRequest {
        success,
        ..PbTxnRequest::default()
    })
}

fn compare(key: &str, range_end: &str, result: i32, union: PbTargetUnion) -> Ask {
    let target = match &union {
        PbTargetUnion::Version(_) => 0,
        PbTargetUnion::CreateRevision(_) => 1,
        PbTargetUnion::ModRevision(_) => 2,
        PbTargetUnion::Value(_) => 3,
        PbTargetUnion::Lease(_) => 4,
    };
    Ask::Txn(PbTxnRequest {
        compare: vec![PbCompare {
            result,
            target,
            key: key.into(),
            range_end: range_end.into(),
            target_union: Some(union),
        }],
        ..PbTxnRequest::default()
    })
}

/// Returns all cases, to be sent in this order.
pub fn all() -> Vec<Ask> {
    let mut asks = vec![
        Ask::Leases,
        Ask::Range(range("", "")),
        Ask::Range(range("absent", "")),
        Ask::Put(put("", "v")),
        Ask::Put(put("a", "1")),
        Ask::Put(put("b", "2")),
        Ask::Put(put("a/b", "3")),
        Ask::Range(range("\0", "\0")),
        Ask::Range(range("b", "\0")),
        Ask::Range(range("b", "a")),
        Ask::Range(range("a", "a")),
        Ask::Range(PbRangeRequest {
            limit: -1,
            ..range("a", "z")
        }),
        Ask::Range(PbRangeRequest {
            limit: 3,
            ..range("a", "z")
        }),
        Ask::Range(PbRangeRequest {
            limit: 2,
            count_only: true,
            ..range("a", "z")
        }),
        Ask::Range(PbRangeRequest {
            limit: 2,
            keys_only: true,
            ..range("a", "z")
        }),
        Ask::Range(PbRangeRequest {
            revision: -1,
            ..range("a", "z")
        }),
        Ask::Range(PbRangeRequest {
            revision: 4,
            ..range("a", "z")
        }),
        Ask::Range(PbRangeRequest {
            revision: 5,
            ..range("a", "z")
        }),
        Ask::Range(PbRangeRequest {
            min_mod_revision: -1,
            ..range("a", "z")
        }),
        Ask::Range(PbRangeRequest {
            max_mod_revision: -1,
            ..range("a", "z")
        }),
        Ask::Range(PbRangeRequest {
            max_create_revision: -1,
            ..range("a", "z")
        }),
        Ask::Range(PbRangeRequest {
            min_create_revision: 3,
            max_mod_revision: 3,
            ..range("a", "z")
        }),
        Ask::Range(PbRangeRequest {
            min_mod_revision: 9,
            count_only: true,
            ..range("a", "z")
        }),
        Ask::Range(PbRangeRequest {
            serializable: true,
            ..range("a", "")
        }),
        Ask::Delete(delete("", "")),
        Ask::Delete(delete("b", "a")),
        Ask::Delete(delete("absent", "")),
        Ask::Put(PbPutRequest {
            ignore_value: true,
            ..put("a", "x")
        }),
        Ask::Put(PbPutRequest {
            ignore_value: true,
            ..put("absent", "")
        }),
        Ask::Put(PbPutRequest {
            ignore_lease: true,
            ..put("absent", "x")
        }),
        Ask::Put(PbPutRequest {
            ignore_lease: true,
            lease: 1,
            ..put("a", "x")
        }),
        Ask::Put(PbPutRequest {
            ignore_value: true,
            lease: 404,
            ..put("absent", "")
        }),
        Ask::Put(PbPutRequest {
            lease: 404,
            ..put("a", "x")
        }),
        Ask::Put(PbPutRequest {
            lease: -1,
            ..put("a", "x")
        }),
        Ask::Put(PbPutRequest {
            ignore_value: true,
            prev_kv: true,
            ..put("a", "")
        }),
        Ask::Put(PbPutRequest {
            value: vec![b'v'; 1600 * 1024],
            ..put("a", "")
        }),
        Ask::Txn(PbTxnRequest::default()),
        then(vec![PbTxnRequestOp { request: None }]),
        then(
            (0..129)
                .map(|number| put_op(&format!("n{number}")))
                .collect(),
        ),
        then(
            (0..128)
                .map(|number| put_op(&format!("n{number}")))
                .collect(),
        ),
        Ask::Delete(delete("n", "o")),
        then(vec![put_op("x"), put_op("x")]),
        then(vec![
            put_op("x"),
            op(PbTxnOpRequest::RequestDeleteRange(delete("w", "y"))),
        ]),
        then(vec![
            op(PbTxnOpRequest::RequestDeleteRange(delete("w", "y"))),
            put_op("y"),
        ]),
        then(vec![
            op(PbTxnOpRequest::RequestDeleteRange(delete("a", "b"))),
            op(PbTxnOpRequest::RequestDeleteRange(delete("a", "z"))),
            op(PbTxnOpRequest::RequestRange(range("a", "z"))),
        ]),
        then(vec![op(PbTxnOpRequest::RequestRange(PbRangeRequest {
            revision: 9999,
            ..range("a", "")
        }))]),
        then(vec![op(PbTxnOpRequest::RequestPut(PbPutRequest {
            lease: 404,
            ..put("a", "")
        }))]),
        then(vec![op(PbTxnOpRequest::RequestPut(PbPutRequest {
            ignore_value: true,
            ..put("absent", "")
        }))]),
        then(vec![op(PbTxnOpRequest::RequestPut(PbPutRequest {
            ignore_lease: true,
            ..put("absent", "x")
        }))]),
        // A key put by the transaction itself has no value to keep.
        then(vec![
            put_op("made"),
            op(PbTxnOpRequest::RequestTxn(PbTxnRequest {
                success: vec![op(PbTxnOpRequest::RequestPut(PbPutRequest {
                    ignore_value: true,
                    ..put("made2", "")
                }))],
                ..PbTxnRequest::default()
            })),
        ]),
        Ask::Range(range("made", "made3")),
        Ask::Compact(PbCompactionRequest {
            revision: 9999,
            physical: false,
        }),
        Ask::Compact(PbCompactionRequest {
            revision: 5,
            physical: true,
        }),
        Ask::Compact(PbCompactionRequest {
            revision: 5,
            physical: false,
        }),
        Ask::Compact(PbCompactionRequest {
            revision: 4,
            physical: false,
        }),
        Ask::Compact(PbCompactionRequest {
            revision: 0,
            physical: false,
        }),
        Ask::Compact(PbCompactionRequest {
            revision: -1,
            physical: false,
        }),
        Ask::Range(PbRangeRequest {
            revision: 2,
            ..range("a", "z")
        }),
        then(vec![op(PbTxnOpRequest::RequestRange(PbRangeRequest {
            revision: 2,
            ..range("a", "")
        }))]),
        Ask::Grant(PbLeaseGrantRequest {
            id: 5,
            ttl: 9_000_000_001,
        }),
        Ask::Grant(PbLeaseGrantRequest { id: 5, ttl: 3600 }),
        Ask::Grant(PbLeaseGrantRequest { id: 5, ttl: 3600 }),
        Ask::Put(PbPutRequest {
            lease: 5,
            ..put("leased/1", "")
        }),
        Ask::Put(PbPutRequest {
            lease: 5,
            ..put("leased/2", "")
        }),
        Ask::Put(PbPutRequest {
            ignore_lease: true,
            ..put("leased/1", "kept")
        }),
        Ask::Put(put("leased/2", "let go")),
        Ask::TimeToLive(PbLeaseTimeToLiveRequest { id: 5, keys: true }),
        Ask::TimeToLive(PbLeaseTimeToLiveRequest { id: 5, keys: false }),
        Ask::TimeToLive(PbLeaseTimeToLiveRequest { id: 6, keys: true }),
        Ask::TimeToLive(PbLeaseTimeToLiveRequest { id: -6, keys: true }),
        Ask::Leases,
        Ask::Revoke(PbLeaseRevokeRequest { id: 5 }),
        Ask::Revoke(PbLeaseRevokeRequest { id: 5 }),
        Ask::Revoke(PbLeaseRevokeRequest { id: 0 }),
        Ask::Range(range("leased/", "leased0")),
        Ask::Put(put("c", "7")),
    ];
    for result in 0..4 {
        for (key, end) in [
            ("c", ""),
            ("absent", ""),
            ("a", "z"),
            ("y", "z"),
            ("z", "a"),
        ] {
            for union in [
                PbTargetUnion::Version(1),
                PbTargetUnion::Version(-1),
                PbTargetUnion::CreateRevision(0),
                PbTargetUnion::ModRevision(i64::MAX),
                PbTargetUnion::ModRevision(i64::MIN),
                PbTargetUnion::Value("7".into()),
                PbTargetUnion::Value(Vec::new()),
                PbTargetUnion::Lease(0),
                PbTargetUnion::Lease(-1),
            ] {
                asks.push(compare(key, end, result, union));
            }
        }
    }
    asks
}

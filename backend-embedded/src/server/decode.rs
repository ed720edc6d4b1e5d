//! Decodes etcd's requests into the coordinator's types. A fault that the coordinator's types
//! cannot express is checked here, in etcd's order.

use bytes::Bytes;
use etcd_client::proto::{
    PbCompare, PbCompareTarget, PbDeleteRequest, PbPutRequest, PbRangeRequest, PbTargetUnion,
    PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp,
};
use tonic::Status;

use super::status;
use crate::config::MAX_TXN_OPS;
use crate::machine::op::{
    Compare, CompareOp, CompareTarget, Delete, KeyRange, Op, Put, Range, Revision, SortOrder,
    SortTarget, Txn,
};

/// Converts a number. A negative one means "none" wherever etcd accepts it.
pub(super) fn to_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Decodes a key range by etcd's convention: without an end it is one key; an end of one zero byte
/// means "to the last key".
pub(super) fn key_range(key: Vec<u8>, range_end: Vec<u8>) -> KeyRange {
    match range_end.as_slice() {
        [] => KeyRange::One(key.into()),
        [0] => KeyRange::Span {
            start: key.into(),
            end: None,
        },
        _ => KeyRange::Span {
            start: key.into(),
            end: Some(range_end.into()),
        },
    }
}

fn parse_key_range(key: Vec<u8>, range_end: Vec<u8>) -> Result<KeyRange, Status> {
    if key.is_empty() {
        return Err(Status::invalid_argument(status::EMPTY_KEY));
    }
    Ok(key_range(key, range_end))
}

/// Decodes a range outside of a transaction. A negative revision means "now".
pub(super) fn range(request: PbRangeRequest) -> Result<Range, Status> {
    let invalid_sort = || Status::invalid_argument(status::INVALID_SORT);
    Ok(Range {
        keys: parse_key_range(request.key, request.range_end)?,
        sort_order: match request.sort_order {
            0 => SortOrder::None,
            1 => SortOrder::Ascend,
            2 => SortOrder::Descend,
            _ => return Err(invalid_sort()),
        },
        sort_target: match request.sort_target {
            0 => SortTarget::Key,
            1 => SortTarget::Version,
            2 => SortTarget::Create,
            3 => SortTarget::Mod,
            4 => SortTarget::Value,
            _ => return Err(invalid_sort()),
        },
        revision: to_u64(request.revision),
        limit: usize::try_from(request.limit).unwrap_or(0),
        min_mod_revision: to_u64(request.min_mod_revision),
        max_mod_revision: to_upper_bound(request.max_mod_revision),
        min_create_revision: to_u64(request.min_create_revision),
        max_create_revision: to_upper_bound(request.max_create_revision),
        keys_only: request.keys_only,
        count_only: request.count_only,
    })
}

/// Converts an upper bound. A negative one excludes everything. So does 1, because the first write
/// makes revision 2.
fn to_upper_bound(revision: i64) -> Revision {
    u64::try_from(revision).unwrap_or(1)
}

/// Decodes a put, in a transaction or outside of one.
pub(super) fn put(request: PbPutRequest) -> Result<Put, Status> {
    if request.key.is_empty() {
        return Err(Status::invalid_argument(status::EMPTY_KEY));
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Status::invalid_argument(status::VALUE_PROVIDED));
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Status::invalid_argument(status::LEASE_PROVIDED));
    }
    Ok(Put {
        key: request.key.into(),
        value: (!request.ignore_value).then(|| request.value.into()),
        lease: (!request.ignore_lease).then_some(request.lease),
        prev_kv: request.prev_kv,
    })
}

/// Decodes a delete, in a transaction or outside of one.
pub(super) fn delete(request: PbDeleteRequest) -> Result<Delete, Status> {
    Ok(Delete {
        keys: parse_key_range(request.key, request.range_end)?,
        prev_kv: request.prev_kv,
    })
}

/// Makes the delete of one key.
pub(super) fn delete_key(key: Vec<u8>) -> Result<Delete, Status> {
    Ok(Delete {
        keys: parse_key_range(key, Vec::new())?,
        prev_kv: false,
    })
}

/// Decodes a transaction.
pub(super) fn txn(request: PbTxnRequest) -> Result<Txn, Status> {
    nested_txn(request, MAX_TXN_OPS)
}

/// Decodes a transaction that may hold `max_ops` operations. As in etcd, a nested transaction may
/// hold what the levels above leave over.
fn nested_txn(request: PbTxnRequest, max_ops: usize) -> Result<Txn, Status> {
    let ops = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let Some(left) = max_ops.checked_sub(ops) else {
        return Err(Status::invalid_argument(status::TOO_MANY_OPS));
    };
    let branch = |ops: Vec<PbTxnRequestOp>| -> Result<Vec<Op>, Status> {
        ops.into_iter().map(|op| txn_op(op, left)).collect()
    };
    Ok(Txn {
        compare: request
            .compare
            .into_iter()
            .map(compare)
            .collect::<Result<_, _>>()?,
        then: branch(request.success)?,
        or_else: branch(request.failure)?,
    })
}

fn txn_op(op: PbTxnRequestOp, max_ops: usize) -> Result<Op, Status> {
    match op.request {
        Some(PbTxnOpRequest::RequestRange(request)) => range(request).map(Op::Range),
        Some(PbTxnOpRequest::RequestPut(request)) => put(request).map(Op::Put),
        Some(PbTxnOpRequest::RequestDeleteRange(request)) => delete(request).map(Op::Delete),
        Some(PbTxnOpRequest::RequestTxn(request)) => nested_txn(request, max_ops).map(Op::Txn),
        // An operation without content is a key that is not found, as in etcd.
        None => Err(Status::invalid_argument(status::KEY_NOT_FOUND)),
    }
}

fn compare(request: PbCompare) -> Result<Compare, Status> {
    let unknown = |what: &str, number: i32| {
        Status::invalid_argument(format!("turnlock: unknown compare {what} {number}"))
    };
    let keys = parse_key_range(request.key, request.range_end)?;
    let op = match request.result {
        0 => CompareOp::Equal,
        1 => CompareOp::Greater,
        2 => CompareOp::Less,
        3 => CompareOp::NotEqual,
        other => return Err(unknown("result", other)),
    };
    let target =
        PbCompareTarget::try_from(request.target).map_err(|_| unknown("target", request.target))?;
    // As in etcd, `target` decides. A union of another kind, or none, counts as zero.
    let (op, target) = match (target, request.target_union) {
        (PbCompareTarget::Version, union) => {
            let number = match union {
                Some(PbTargetUnion::Version(number)) => number,
                _ => 0,
            };
            let (op, number) = to_unsigned_compare(op, number);
            (op, CompareTarget::Version(number))
        }
        (PbCompareTarget::Create, union) => {
            let number = match union {
                Some(PbTargetUnion::CreateRevision(number)) => number,
                _ => 0,
            };
            let (op, number) = to_unsigned_compare(op, number);
            (op, CompareTarget::Create(number))
        }
        (PbCompareTarget::Mod, union) => {
            let number = match union {
                Some(PbTargetUnion::ModRevision(number)) => number,
                _ => 0,
            };
            let (op, number) = to_unsigned_compare(op, number);
            (op, CompareTarget::Mod(number))
        }
        (PbCompareTarget::Value, Some(PbTargetUnion::Value(value))) => {
            (op, CompareTarget::Value(value.into()))
        }
        (PbCompareTarget::Value, _) => (op, CompareTarget::Value(Bytes::new())),
        (PbCompareTarget::Lease, Some(PbTargetUnion::Lease(id))) => (op, CompareTarget::Lease(id)),
        (PbCompareTarget::Lease, _) => (op, CompareTarget::Lease(0)),
    };
    Ok(Compare { keys, op, target })
}

/// Converts a comparison with a number that may be negative. Every revision and version is above
/// any negative number, and none is `u64::MAX`.
fn to_unsigned_compare(op: CompareOp, number: i64) -> (CompareOp, u64) {
    match (u64::try_from(number), op) {
        (Ok(number), op) => (op, number),
        (Err(_), CompareOp::Equal | CompareOp::Less) => (CompareOp::Equal, u64::MAX),
        (Err(_), CompareOp::NotEqual | CompareOp::Greater) => (CompareOp::NotEqual, u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_end_follows_etcds_convention() {
        let start = || Bytes::from_static(b"k");
        assert_eq!(key_range(b"k".to_vec(), vec![]), KeyRange::One(start()));
        assert_eq!(
            key_range(b"k".to_vec(), vec![0]),
            KeyRange::Span {
                start: start(),
                end: None
            }
        );
        assert_eq!(
            key_range(b"k".to_vec(), vec![0, 0]),
            KeyRange::Span {
                start: start(),
                end: Some(Bytes::from_static(&[0, 0]))
            }
        );
    }

    #[test]
    fn comparing_with_a_negative_number_keeps_its_meaning() {
        let holds = |op, number: i64, value: u64| {
            let (op, number) = to_unsigned_compare(op, number);
            match op {
                CompareOp::Equal => value == number,
                CompareOp::NotEqual => value != number,
                CompareOp::Greater => value > number,
                CompareOp::Less => value < number,
            }
        };
        for value in [0, 1, 1 << 62] {
            assert!(!holds(CompareOp::Equal, -1, value));
            assert!(!holds(CompareOp::Less, -1, value));
            assert!(holds(CompareOp::NotEqual, -1, value));
            assert!(holds(CompareOp::Greater, -1, value));
        }
        assert!(holds(CompareOp::Equal, 3, 3));
        assert!(!holds(CompareOp::Equal, 3, 4));
    }

    #[test]
    fn nesting_uses_up_the_operations_of_the_levels_above() {
        let puts = |count: usize| -> Vec<PbTxnRequestOp> {
            (0..count)
                .map(|number| PbTxnRequestOp {
                    request: Some(PbTxnOpRequest::RequestPut(PbPutRequest {
                        key: number.to_string().into_bytes(),
                        ..PbPutRequest::default()
                    })),
                })
                .collect()
        };
        let nested = |outer: usize, inner: usize| {
            let mut ops = puts(outer - 1);
            ops.push(PbTxnRequestOp {
                request: Some(PbTxnOpRequest::RequestTxn(PbTxnRequest {
                    success: puts(inner),
                    ..PbTxnRequest::default()
                })),
            });
            txn(PbTxnRequest {
                success: ops,
                ..PbTxnRequest::default()
            })
        };
        assert!(nested(100, 28).is_ok());
        let err = nested(100, 29).expect_err("129 operations along the path");
        assert_eq!(err.message(), status::TOO_MANY_OPS);
    }
}

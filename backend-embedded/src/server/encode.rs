//! Encodes the coordinator's results as etcd's messages.

use std::sync::Arc;

use etcd_client::proto::{
    PbDeleteResponse, PbEvent, PbKeyValue, PbPutResponse, PbRangeResponse, PbResponseHeader,
    PbResponseOp, PbTxnOpResponse, PbTxnResponse,
};

use crate::machine::op::{Event, KeyValue, OpResult, RangeResult, TxnResult};

/// Converts a number. etcd's are signed; ours never come near the end of either range.
pub(super) fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Encodes a key.
pub(super) fn key_value(kv: &KeyValue) -> PbKeyValue {
    PbKeyValue {
        key: kv.key.to_vec(),
        create_revision: to_i64(kv.create_revision),
        mod_revision: to_i64(kv.mod_revision),
        version: to_i64(kv.version),
        value: kv.value.to_vec(),
        lease: kv.lease,
    }
}

fn key_values(kvs: &[Arc<KeyValue>]) -> Vec<PbKeyValue> {
    kvs.iter().map(|kv| key_value(kv)).collect()
}

/// What each key and each result of an answer takes up besides keys and values, about.
const OVERHEAD: usize = 100;

/// Returns about how many bytes these keys and values take up in an answer.
pub(super) fn bytes_of<'a>(kvs: impl IntoIterator<Item = &'a Arc<KeyValue>>) -> usize {
    kvs.into_iter().map(|kv| kv.size() + OVERHEAD).sum()
}

/// Returns about how many bytes the result of a transaction takes up in an answer.
pub(super) fn bytes_of_txn(result: &TxnResult) -> usize {
    let bytes_of = |result: &OpResult| match result {
        OpResult::Range(found) => bytes_of(&found.kvs),
        OpResult::Put(prev) => bytes_of(prev),
        OpResult::Delete { prev_kvs, .. } => bytes_of(prev_kvs),
        OpResult::Txn(nested) => bytes_of_txn(nested),
    };
    let each = result
        .results
        .iter()
        .map(|result| bytes_of(result) + OVERHEAD);
    each.sum()
}

/// Encodes a change, with the state before it if there is one.
pub(super) fn event(event: &Event, prev: Option<&KeyValue>) -> PbEvent {
    PbEvent {
        r#type: i32::from(event.deleted),
        kv: Some(key_value(&event.kv)),
        prev_kv: prev.map(key_value),
    }
}

/// Encodes the result of a range.
pub(super) fn range(header: Option<PbResponseHeader>, result: &RangeResult) -> PbRangeResponse {
    PbRangeResponse {
        header,
        kvs: key_values(&result.kvs),
        more: result.more,
        count: to_i64(result.count),
    }
}

/// Encodes the result of a put.
pub(super) fn put(header: Option<PbResponseHeader>, prev: Option<&KeyValue>) -> PbPutResponse {
    PbPutResponse {
        header,
        prev_kv: prev.map(key_value),
    }
}

/// Encodes the result of a delete.
pub(super) fn delete(
    header: Option<PbResponseHeader>,
    deleted: u64,
    prev_kvs: &[Arc<KeyValue>],
) -> PbDeleteResponse {
    PbDeleteResponse {
        header,
        deleted: to_i64(deleted),
        prev_kvs: key_values(prev_kvs),
    }
}

/// Encodes the result of a transaction that left the store at `header.revision`.
pub(super) fn txn(header: PbResponseHeader, result: &TxnResult) -> PbTxnResponse {
    let changes = result.results.iter().any(is_change);
    let mut progress = TxnProgress {
        before: header.revision - i64::from(changes),
        changed: false,
    };
    PbTxnResponse {
        header: Some(header),
        succeeded: result.succeeded,
        responses: progress.responses(&result.results),
    }
}

fn is_change(result: &OpResult) -> bool {
    match result {
        OpResult::Range(_) => false,
        OpResult::Put(_) => true,
        OpResult::Delete { deleted, .. } => *deleted > 0,
        OpResult::Txn(txn) => txn.results.iter().any(is_change),
    }
}

/// The header of each operation's result. It holds only the revision as that operation saw it,
/// which is the transaction's own from its first change on. The header of a nested transaction is
/// empty.
struct TxnProgress {
    before: i64,
    changed: bool,
}

impl TxnProgress {
    fn responses(&mut self, results: &[OpResult]) -> Vec<PbResponseOp> {
        results
            .iter()
            .map(|result| PbResponseOp {
                response: Some(self.response(result)),
            })
            .collect()
    }

    fn response(&mut self, result: &OpResult) -> PbTxnOpResponse {
        if !matches!(result, OpResult::Txn(_)) {
            self.changed |= is_change(result);
        }
        let header = Some(PbResponseHeader {
            revision: self.before + i64::from(self.changed),
            ..PbResponseHeader::default()
        });
        match result {
            OpResult::Range(found) => PbTxnOpResponse::ResponseRange(range(header, found)),
            OpResult::Put(prev) => PbTxnOpResponse::ResponsePut(put(header, prev.as_deref())),
            OpResult::Delete { deleted, prev_kvs } => {
                PbTxnOpResponse::ResponseDeleteRange(delete(header, *deleted, prev_kvs))
            }
            OpResult::Txn(txn) => PbTxnOpResponse::ResponseTxn(PbTxnResponse {
                header: Some(PbResponseHeader::default()),
                succeeded: txn.succeeded,
                responses: self.responses(&txn.results),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_returns_the_revision_that_it_saw() {
        let result = TxnResult {
            succeeded: true,
            results: vec![
                OpResult::Range(RangeResult::default()),
                OpResult::Delete {
                    deleted: 0,
                    prev_kvs: vec![],
                },
                OpResult::Txn(TxnResult {
                    succeeded: false,
                    results: vec![OpResult::Put(None)],
                }),
                OpResult::Range(RangeResult::default()),
            ],
        };
        let header = PbResponseHeader {
            revision: 9,
            ..PbResponseHeader::default()
        };
        let response = txn(header, &result);
        let revision = |header: &Option<PbResponseHeader>| header.as_ref().map(|it| it.revision);
        let seen: Vec<_> = response
            .responses
            .iter()
            .map(|op| match op.response.as_ref().expect("a response") {
                PbTxnOpResponse::ResponseRange(it) => revision(&it.header),
                PbTxnOpResponse::ResponsePut(it) => revision(&it.header),
                PbTxnOpResponse::ResponseDeleteRange(it) => revision(&it.header),
                PbTxnOpResponse::ResponseTxn(it) => revision(&it.header),
            })
            .collect();
        assert_eq!(seen, [Some(8), Some(8), Some(0), Some(9)]);
    }
}

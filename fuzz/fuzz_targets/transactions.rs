//! Transactions: as they come over the wire, what the state machine makes of them, and the answers. An
//! input is a row of messages. They are applied to a store one after the other.

#![no_main]

use backend_embedded::Limits;
use backend_embedded::machine::{Changes, Machine};
use backend_embedded::server::models::{decode_txn, encode_txn};
use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbPutRequest, PbRangeRequest, PbTargetUnion, PbTxnOpRequest,
    PbTxnRequest, PbTxnRequestOp,
};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use turnlock_fuzz::{memory, pieces};

fuzz_target!(init: turnlock_fuzz::begin(seeds), |input: &[u8]| {
    memory::limit(input, 0, || {
        let mut machine = Machine::new(Limits::default());
        for piece in pieces::split(input) {
            let Ok(request) = PbTxnRequest::decode(piece) else {
                continue;
            };
            let Ok(txn) = decode_txn(request) else {
                continue;
            };
            apply(&mut machine, &txn);
        }
    });
});

fn apply(machine: &mut Machine, txn: &backend_embedded::machine::op::Txn) {
    let (revision, keys) = (machine.revision(), machine.key_count());
    let mut changes = Changes::default();
    match machine.txn(txn, &mut changes) {
        Ok(result) => {
            let is_later = u64::from(!changes.events.is_empty());
            assert_eq!(machine.revision(), revision + is_later);
            let answer = encode_txn(machine.revision(), &result);
            assert_eq!(answer.encode_to_vec().len(), answer.encoded_len());
        }
        Err(_) => {
            assert!(changes.is_empty(), "what is refused changes nothing");
            assert_eq!((machine.revision(), machine.key_count()), (revision, keys));
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let key = || b"a/1".to_vec();
    let put = PbTxnOpRequest::RequestPut(PbPutRequest {
        key: key(),
        value: b"value".to_vec(),
        prev_kv: true,
        ..PbPutRequest::default()
    });
    let range = PbTxnOpRequest::RequestRange(PbRangeRequest {
        key: b"a/".to_vec(),
        range_end: b"a0".to_vec(),
        limit: 2,
        sort_order: 2,
        sort_target: 2,
        max_create_revision: 7,
        ..PbRangeRequest::default()
    });
    let delete = PbTxnOpRequest::RequestDeleteRange(PbDeleteRequest {
        key: vec![0],
        range_end: vec![0],
        prev_kv: true,
    });
    let compare = PbCompare {
        result: 0,
        target: 1,
        key: key(),
        range_end: Vec::new(),
        target_union: Some(PbTargetUnion::CreateRevision(0)),
    };
    let txn = |success: Vec<PbTxnOpRequest>, failure: Vec<PbTxnOpRequest>| {
        let ops = |ops: Vec<PbTxnOpRequest>| {
            let ops = ops.into_iter().map(Some);
            ops.map(|request| PbTxnRequestOp { request }).collect()
        };
        PbTxnRequest {
            compare: vec![compare.clone()],
            success: ops(success),
            failure: ops(failure),
        }
    };
    let inner = PbTxnOpRequest::RequestTxn(txn(vec![range.clone()], vec![delete.clone()]));
    let rows = [
        vec![txn(vec![put.clone(), range.clone()], vec![])],
        vec![
            txn(vec![put], vec![range]),
            txn(vec![], vec![inner, delete]),
        ],
    ];
    rows.iter()
        .map(|row| pieces::join(row.iter().map(PbTxnRequest::encode_to_vec)))
        .collect()
}

//! Random requests, dense enough to affect each other.

use etcd_client::proto::{
    PbCompactionRequest, PbCompare, PbDeleteRequest, PbLeaseGrantRequest, PbLeaseRevokeRequest,
    PbLeaseTimeToLiveRequest, PbPutRequest, PbRangeRequest, PbTargetUnion, PbTxnOpRequest,
    PbTxnRequest, PbTxnRequestOp,
};
use fastrand::Rng;

use super::ask::Ask;

const KEYS: [&[u8]; 9] = [
    b"a",
    b"a/1",
    b"a/2",
    b"a\xff",
    b"ab",
    b"b",
    b"b/1",
    b"\xff",
    b"\xff\xff",
];

const VALUES: [&[u8]; 4] = [b"", b"0", b"1", b"\0\xff"];

/// The leases that exist at times, and one that never does.
const LEASES: [i64; 4] = [101, 102, 103, 404];

/// A source of requests.
pub struct Requests {
    rng: Rng,
    compactions: bool,
    revision: i64,
}

impl Requests {
    pub fn new(seed: u64, compactions: bool) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            compactions,
            revision: 1,
        }
    }

    /// Notes that the servers have reached `revision`.
    pub fn note_revision(&mut self, revision: i64) {
        self.revision = self.revision.max(revision);
    }

    pub fn next(&mut self) -> Ask {
        match self.rng.u32(..100) {
            0..25 => Ask::Put(self.put()),
            25..45 => Ask::Range(self.range()),
            45..55 => Ask::Delete(self.delete()),
            55..85 => Ask::Txn(self.txn(2)),
            85..89 => Ask::Grant(PbLeaseGrantRequest {
                id: self.rng.i64(101..=103),
                ttl: self.rng.i64(1000..=9_000_000_000),
            }),
            89..92 => Ask::Revoke(PbLeaseRevokeRequest { id: self.lease() }),
            92..96 => Ask::TimeToLive(PbLeaseTimeToLiveRequest {
                id: self.lease(),
                keys: self.rng.bool(),
            }),
            96..98 => Ask::Leases,
            _ if self.compactions => Ask::Compact(PbCompactionRequest {
                // etcd accepts a first compaction at 0, and only a first one.
                revision: (self.revision + self.rng.i64(-20..=2)).max(1),
                physical: self.rng.bool(),
            }),
            _ => Ask::Range(self.range()),
        }
    }

    fn often(&mut self, percent: u32) -> bool {
        self.rng.u32(..100) < percent
    }

    fn key(&mut self) -> Vec<u8> {
        let key = self.rng.choice(KEYS).expect("some");
        key.to_vec()
    }

    fn value(&mut self) -> Vec<u8> {
        let value = self.rng.choice(VALUES).expect("some");
        value.to_vec()
    }

    fn lease(&mut self) -> i64 {
        self.rng.choice(LEASES).expect("some")
    }

    /// Returns a key and a range end of any kind.
    fn keys(&mut self) -> (Vec<u8>, Vec<u8>) {
        let key = self.key();
        let end = match self.rng.u32(..6) {
            0..3 => Vec::new(),
            3 => vec![0],
            4 => self.key(),
            _ => {
                let mut end = key.clone();
                match end.last_mut() {
                    Some(last) if *last < 0xff => *last += 1,
                    _ => end = vec![0],
                }
                end
            }
        };
        (key, end)
    }

    fn put(&mut self) -> PbPutRequest {
        let ignore_value = self.often(8);
        let ignore_lease = self.often(8);
        PbPutRequest {
            key: self.key(),
            value: if ignore_value && self.often(90) {
                Vec::new()
            } else {
                self.value()
            },
            lease: if (ignore_lease && self.often(90)) || self.often(70) {
                0
            } else {
                self.lease()
            },
            prev_kv: self.rng.bool(),
            ignore_value,
            ignore_lease,
        }
    }

    fn range(&mut self) -> PbRangeRequest {
        let (key, range_end) = self.keys();
        let mut bound = |percent: u32| {
            if self.often(percent) {
                (self.revision - self.rng.i64(0..30)).max(1)
            } else {
                0
            }
        };
        let (min_mod_revision, max_mod_revision) = (bound(10), bound(10));
        let (min_create_revision, max_create_revision) = (bound(10), bound(10));
        PbRangeRequest {
            key,
            range_end,
            limit: if self.often(60) {
                0
            } else {
                self.rng.i64(1..6)
            },
            // History is not kept, so the past is not requested.
            revision: if self.often(97) {
                0
            } else {
                self.revision + 1000
            },
            sort_order: self.rng.i32(0..3),
            sort_target: self.rng.i32(0..5),
            serializable: self.rng.bool(),
            keys_only: self.often(20),
            count_only: self.often(10),
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
        }
    }

    fn delete(&mut self) -> PbDeleteRequest {
        let (key, range_end) = self.keys();
        PbDeleteRequest {
            key,
            range_end,
            prev_kv: self.rng.bool(),
        }
    }

    fn txn(&mut self, depth: u32) -> PbTxnRequest {
        let compares = self.rng.usize(0..3);
        let (then, or_else) = (self.rng.usize(0..4), self.rng.usize(0..4));
        PbTxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: (0..then).map(|_| self.op(depth)).collect(),
            failure: (0..or_else).map(|_| self.op(depth)).collect(),
        }
    }

    fn op(&mut self, depth: u32) -> PbTxnRequestOp {
        let request = match self.rng.u32(..10) {
            0..4 => PbTxnOpRequest::RequestPut(self.put()),
            4..7 => PbTxnOpRequest::RequestRange(self.range()),
            7..9 => {
                let mut delete = self.delete();
                if delete.range_end == [0] {
                    // etcd does not notice that such a delete overlaps a put of the same
                    // transaction.
                    delete.range_end = vec![0xff; 3];
                }
                PbTxnOpRequest::RequestDeleteRange(delete)
            }
            _ if depth > 0 => PbTxnOpRequest::RequestTxn(self.txn(depth - 1)),
            _ => PbTxnOpRequest::RequestRange(self.range()),
        };
        PbTxnRequestOp {
            request: Some(request),
        }
    }

    fn compare(&mut self) -> PbCompare {
        let (key, range_end) = self.keys();
        let revision = self.revision - self.rng.i64(0..10);
        let target = self.rng.i32(0..5);
        let union = match target {
            0 => PbTargetUnion::Version(self.rng.i64(0..3)),
            1 => PbTargetUnion::CreateRevision(if self.rng.bool() { 0 } else { revision }),
            2 => PbTargetUnion::ModRevision(revision),
            3 => PbTargetUnion::Value(self.value()),
            _ => PbTargetUnion::Lease(if self.rng.bool() { 0 } else { self.lease() }),
        };
        PbCompare {
            result: self.rng.i32(0..4),
            target,
            key,
            range_end,
            target_union: Some(union),
        }
    }
}

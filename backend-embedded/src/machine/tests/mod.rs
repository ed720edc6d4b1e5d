//! Tests of the machine against etcd's rules: those of etcd 3.5's API documentation and of its
//! packages `etcdserver/txn`, `mvcc` and `lease`.

mod budget;
mod index;
mod lease;
mod range;
mod txn;

use std::time::Duration;

use bytes::Bytes;

use super::op::{
    Compare, CompareOp, CompareTarget, Delete, KeyRange, LeaseId, Op, OpResult, Put, Range,
    Revision, SortOrder, SortTarget, Txn,
};
use super::*;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn machine() -> Machine {
    Machine::new(Limits::default())
}

fn one(key: &str) -> KeyRange {
    KeyRange::One(bytes(key))
}

fn span(start: &str, end: &str) -> KeyRange {
    KeyRange::Span {
        start: bytes(start),
        end: Some(bytes(end)),
    }
}

fn put(key: &str, value: &str) -> Put {
    Put {
        key: bytes(key),
        value: Some(bytes(value)),
        lease: Some(0),
        prev_kv: false,
    }
}

fn put_on(key: &str, lease: LeaseId) -> Put {
    Put {
        lease: Some(lease),
        ..put(key, "v")
    }
}

fn delete(keys: KeyRange) -> Delete {
    Delete {
        keys,
        prev_kv: false,
    }
}

fn compare(keys: KeyRange, op: CompareOp, target: CompareTarget) -> Compare {
    Compare { keys, op, target }
}

impl Machine {
    /// Puts a key, and returns the revision.
    fn set(&mut self, key: &str, value: &str) -> Revision {
        self.put(&put(key, value), &mut Changes::default()).unwrap();
        self.revision()
    }

    fn state(&self, key: &str) -> Option<KeyValue> {
        let found = self.range(&Range::all(one(key))).unwrap();
        found.kvs.first().map(|kv| kv.as_ref().clone())
    }

    fn keys_in(&self, keys: KeyRange) -> Vec<String> {
        names(&self.range(&Range::all(keys)).unwrap())
    }

    /// Returns everything that a request could change.
    fn everything(&self) -> (Revision, Vec<Arc<KeyValue>>, Vec<LeaseId>) {
        let all = self.range(&Range::all(KeyRange::all())).unwrap();
        (self.revision(), all.kvs, self.leases())
    }

    /// Asserts that the transaction is refused and changes nothing. Returns the error.
    fn refuses(&mut self, txn: &Txn) -> Error {
        let before = self.everything();
        let mut changes = Changes::default();
        let error = self.txn(txn, &mut changes).unwrap_err();
        assert!(changes.is_empty());
        assert_eq!(self.everything(), before);
        error
    }
}

fn names(found: &RangeResult) -> Vec<String> {
    let name = |kv: &Arc<KeyValue>| String::from_utf8_lossy(&kv.key).into_owned();
    found.kvs.iter().map(name).collect()
}

fn then(ops: Vec<Op>) -> Txn {
    Txn {
        then: ops,
        ..Txn::default()
    }
}

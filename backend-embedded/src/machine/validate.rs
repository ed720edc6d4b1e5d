//! The checks of a request that do not depend on the state. The whole request is checked before
//! anything is applied.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use super::op::{Delete, KeyRange, Op, Put, Range, Txn};
use crate::config::{MAX_REQUEST_BYTES, MAX_TXN_OPS};
use crate::error::Error;

/// What an operation or a condition counts for besides its keys and values: about its size on the
/// wire. It bounds the number of operations in a deeply branching transaction.
const OP_BYTES: usize = 16;

pub(super) fn put(put: &Put) -> Result<(), Error> {
    let mut size = Size::default();
    size.put(put)?;
    size.check()
}

pub(super) fn delete(delete: &Delete) -> Result<(), Error> {
    let mut size = Size::default();
    size.keys(&delete.keys)?;
    size.check()
}

pub(super) fn range(range: &Range) -> Result<(), Error> {
    let mut size = Size::default();
    size.keys(&range.keys)?;
    size.check()
}

/// Checks limits and keys, and that no path writes a key twice, or writes and deletes it. Returns how
/// many operations and conditions look at existing keys.
pub(super) fn txn(txn: &Txn) -> Result<usize, Error> {
    let mut size = Size::default();
    size.txn(txn, MAX_TXN_OPS)?;
    size.check()?;
    collect_writes(&txn.then)?;
    collect_writes(&txn.or_else)?;
    Ok(size.reads)
}

#[derive(Default)]
struct Size {
    bytes: usize,
    reads: usize,
}

impl Size {
    fn check(&self) -> Result<(), Error> {
        if self.bytes > MAX_REQUEST_BYTES {
            return Err(Error::RequestTooLarge {
                size: self.bytes,
                limit: MAX_REQUEST_BYTES,
            });
        }
        Ok(())
    }

    fn keys(&mut self, keys: &KeyRange) -> Result<(), Error> {
        if keys.first().is_empty() {
            return Err(Error::EmptyKey);
        }
        self.bytes += keys.size();
        Ok(())
    }

    fn put(&mut self, put: &Put) -> Result<(), Error> {
        if put.key.is_empty() {
            return Err(Error::EmptyKey);
        }
        self.bytes += put.key.len() + put.value.as_ref().map_or(0, Bytes::len);
        Ok(())
    }

    /// Adds a transaction. As in etcd, the longest list of a transaction counts against what its
    /// nested ones may have, which also bounds the nesting.
    fn txn(&mut self, txn: &Txn, allowed: usize) -> Result<(), Error> {
        let longest = (txn.compare.len())
            .max(txn.then.len())
            .max(txn.or_else.len());
        let Some(left) = allowed.checked_sub(longest) else {
            return Err(Error::TooManyOps { limit: MAX_TXN_OPS });
        };
        for compare in &txn.compare {
            self.bytes += OP_BYTES;
            self.keys(&compare.keys)?;
            self.reads += usize::from(matches!(compare.keys, KeyRange::Span { .. }));
            if let super::op::CompareTarget::Value(value) = &compare.target {
                self.bytes += value.len();
            }
        }
        for op in txn.then.iter().chain(&txn.or_else) {
            self.bytes += OP_BYTES;
            match op {
                Op::Range(range) => self.keys(&range.keys)?,
                Op::Put(put) => self.put(put)?,
                Op::Delete(delete) => self.keys(&delete.keys)?,
                Op::Txn(txn) => self.txn(txn, left)?,
            }
            self.reads += match op {
                Op::Range(_) | Op::Delete(_) => 1,
                Op::Put(put) => usize::from(put.prev_kv),
                Op::Txn(_) => 0,
            };
        }
        Ok(())
    }
}

/// The keys that a list of operations may write and delete, on any path through nested
/// transactions.
#[derive(Default)]
struct WriteSet<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Spans<'a>,
}

fn collect_writes(ops: &[Op]) -> Result<WriteSet<'_>, Error> {
    let mut writes = WriteSet::default();
    for op in ops {
        if let Op::Delete(delete) = op {
            writes.deletes.insert(&delete.keys);
        }
    }
    for op in ops {
        if let Op::Txn(nested) = op {
            let then = collect_writes(&nested.then)?;
            let or_else = collect_writes(&nested.or_else)?;
            // The two branches exclude each other, so each is checked only against the rest.
            for key in then.puts.union(&or_else.puts) {
                writes.check(key)?;
            }
            writes.puts.extend(then.puts);
            writes.puts.extend(or_else.puts);
            writes.deletes.merge(then.deletes);
            writes.deletes.merge(or_else.deletes);
        }
    }
    for op in ops {
        if let Op::Put(put) = op {
            writes.check(&put.key)?;
            writes.puts.insert(&put.key);
        }
    }
    Ok(writes)
}

impl WriteSet<'_> {
    fn check(&self, key: &[u8]) -> Result<(), Error> {
        if self.puts.contains(key) || self.deletes.contains(key) {
            return Err(Error::DuplicateKey {
                key: key.escape_ascii().to_string(),
            });
        }
        Ok(())
    }
}

/// A union of key ranges.
#[derive(Default)]
struct Spans<'a> {
    single: BTreeSet<&'a [u8]>,
    /// Disjoint ranges: the end by the start. No end means "to the last key".
    spans: BTreeMap<&'a [u8], Option<&'a [u8]>>,
}

impl<'a> Spans<'a> {
    fn contains(&self, key: &[u8]) -> bool {
        self.single.contains(key)
            || (self.spans.range::<[u8], _>(up_to(key)).next_back())
                .is_some_and(|(_, end)| end.is_none_or(|end| key < end))
    }

    fn insert(&mut self, keys: &'a KeyRange) {
        match keys {
            KeyRange::One(key) => {
                self.single.insert(key);
            }
            KeyRange::Span { start, end } => self.insert_span(start, end.as_deref()),
        }
    }

    fn merge(&mut self, other: Spans<'a>) {
        self.single.extend(other.single);
        for (start, end) in other.spans {
            self.insert_span(start, end);
        }
    }

    fn insert_span(&mut self, mut start: &'a [u8], mut end: Option<&'a [u8]>) {
        if end.is_some_and(|end| end <= start) {
            return;
        }
        // Merge every span that touches the new one, from the last to the first.
        loop {
            let last = match end {
                Some(end) => self.spans.range::<[u8], _>(up_to(end)).next_back(),
                None => self.spans.iter().next_back(),
            };
            let Some((&other_start, &other_end)) = last else {
                break;
            };
            if other_end.is_some_and(|other_end| other_end < start) {
                break;
            }
            self.spans.remove(other_start);
            start = start.min(other_start);
            end = match (end, other_end) {
                (Some(end), Some(other_end)) => Some(end.max(other_end)),
                _ => None,
            };
        }
        self.spans.insert(start, end);
    }
}

fn up_to(key: &[u8]) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Unbounded, Bound::Included(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: &str, end: &str) -> KeyRange {
        KeyRange::Span {
            start: Bytes::copy_from_slice(start.as_bytes()),
            end: (!end.is_empty()).then(|| Bytes::copy_from_slice(end.as_bytes())),
        }
    }

    #[test]
    fn spans_are_a_union() {
        let ranges = [
            span("b", "d"),
            span("m", "p"),
            span("d", "e"),
            span("z", "y"),
            span("a", "c"),
            KeyRange::One(Bytes::from_static(b"k")),
            span("n", "o"),
            span("x", ""),
        ];
        let mut spans = Spans::default();
        for (count, range) in ranges.iter().enumerate() {
            spans.insert(range);
            for key in [
                "a", "b", "c", "d", "dz", "e", "k", "m", "o", "p", "w", "x", "zz",
            ] {
                let expected = ranges[..=count].iter().any(|r| r.contains(key.as_bytes()));
                assert_eq!(spans.contains(key.as_bytes()), expected, "{key} {count}");
            }
        }
        assert_eq!(spans.spans.len(), 3, "{:?}", spans.spans);
    }
}

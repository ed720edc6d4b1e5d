//! The keys of the locks in the coordinator, as conditions and operations of its transactions.

use backend_kit::keyspace::{Keyspace, Span};
use lock_core::rule::{Ahead, Ask, View};
use lock_core::{EntryId, Incarnation, KnownTokenOffset, Removed, SessionId, Ticket, TokenOffset};

use crate::machine::op::{
    Compare, CompareOp, CompareTarget, Delete, KeyRange, Op, OpResult, Range, RangeResult,
    SortOrder, SortTarget, Txn, TxnResult,
};

/// The create revision of an absent key.
const ABSENT: u64 = 0;

/// Converts a span of the keyspace into a range of the coordinator.
pub(crate) fn to_key_range(span: Span) -> KeyRange {
    KeyRange::Span {
        start: span.start.into(),
        end: Some(span.end.into()),
    }
}

/// Returns the condition that the token offset has not changed since it was read.
pub(crate) fn offset_unchanged(keyspace: &Keyspace, known: KnownTokenOffset) -> Compare {
    Compare {
        keys: KeyRange::One(keyspace.token_offset_key().into()),
        op: CompareOp::Equal,
        target: CompareTarget::Mod(known.revision),
    }
}

/// Returns the condition that no key of this span exists.
pub(crate) fn span_unused(span: Span) -> Compare {
    Compare {
        keys: to_key_range(span),
        op: CompareOp::Equal,
        target: CompareTarget::Create(ABSENT),
    }
}

/// Parses the token offset from a read of its key. An absent key is an offset of zero.
pub(crate) fn parse_offset(
    keyspace: &Keyspace,
    found: &RangeResult,
) -> Result<KnownTokenOffset, lock_core::Error> {
    let Some(kv) = found.kvs.first() else {
        return Ok(KnownTokenOffset::default());
    };
    Ok(KnownTokenOffset {
        offset: TokenOffset::from_bytes(&kv.value, &keyspace.token_offset_key())?,
        revision: kv.mod_revision,
    })
}

/// Returns the reads of the entries ahead that the contender asks for, each sorted nearest first.
/// `before` is the contender's own entry, or `None` in the transaction that creates it.
pub(crate) fn read_ahead(
    keyspace: &Keyspace,
    ticket: &Ticket,
    ask: Ask,
    before: Option<&EntryId>,
) -> Vec<Op> {
    if ask.limit == 0 {
        return Vec::new();
    }
    let ranges = keyspace.ahead(&ticket.name, ask).into_iter().map(|span| {
        Op::Range(Range {
            // In the transaction that creates our entry, the nearest entry is our own.
            limit: ask.limit + usize::from(before.is_none()),
            sort_target: SortTarget::Create,
            sort_order: SortOrder::Descend,
            max_create_revision: before.map_or(0, |own| create_revision(own) - 1),
            keys_only: true,
            ..Range::all(to_key_range(span))
        })
    });
    ranges.collect()
}

/// Returns the read of the oldest entry behind this one in its queue.
pub(crate) fn read_behind(queue: KeyRange, entry: &EntryId) -> Op {
    Op::Range(Range {
        limit: 1,
        min_create_revision: create_revision(entry).saturating_add(1),
        keys_only: true,
        ..Range::all(queue)
    })
}

/// Returns whether a read of a transaction has found a key.
pub(crate) fn has_found(result: &TxnResult) -> bool {
    let found = |result: &OpResult| matches!(result, OpResult::Range(read) if !read.kvs.is_empty());
    result.results.iter().any(found)
}

/// Parses the view of an entry, whose key is `own`, from the results of [`read_ahead`].
pub(crate) fn parse_view(
    keyspace: &Keyspace,
    ticket: &Ticket,
    ask: Ask,
    own: &[u8],
    results: &[OpResult],
) -> View {
    let kvs = results.iter().filter_map(|result| match result {
        OpResult::Range(range) => Some(&range.kvs),
        _ => None,
    });
    let mut ahead: Vec<Ahead> = kvs
        .flatten()
        .filter(|kv| kv.key != own)
        .map(|kv| Ahead {
            id: EntryId {
                key: kv.key.as_ref().into(),
                incarnation: Incarnation::new(kv.create_revision),
            },
            mode: keyspace.mode_of(&ticket.name, &kv.key),
        })
        .collect();
    ahead.sort_by_key(|a| std::cmp::Reverse(a.id.incarnation));
    ahead.truncate(ask.limit);
    View {
        present: true,
        ahead,
    }
}

/// Returns the conditions that the entry exists, in this incarnation and on the session's lease. A
/// key that was put again without the lease would outlive the session.
pub(crate) fn own_entry_exists(entry: &EntryId, session: SessionId) -> Vec<Compare> {
    let exists = entry_exists(entry);
    let lease = Compare {
        target: CompareTarget::Lease(session.0),
        ..exists.clone()
    };
    vec![exists, lease]
}

/// Returns the transaction that deletes a key if a condition holds.
pub(crate) fn remove_if(key: &[u8], compare: Compare) -> Txn {
    let delete = Delete {
        keys: KeyRange::One(key.to_vec().into()),
        prev_kv: false,
    };
    Txn {
        compare: vec![compare],
        then: vec![Op::Delete(delete)],
        or_else: vec![],
    }
}

/// Returns the outcome of a transaction of [`remove_if`].
pub(crate) fn to_removed(result: &TxnResult) -> Removed {
    match result.succeeded {
        true => Removed::Removed,
        false => Removed::AlreadyGone,
    }
}

/// Returns the reads that show which of the waiters' entries exist.
pub(crate) fn read_waiters(waiters: &[EntryId]) -> impl Iterator<Item = Op> {
    waiters.iter().map(|waiter| {
        let key = KeyRange::One(waiter.key.to_vec().into());
        Op::Range(Range {
            keys_only: true,
            ..Range::all(key)
        })
    })
}

/// Returns the waiters' entries that [`read_waiters`] found.
pub(crate) fn present_waiters(result: &TxnResult, waiters: &[EntryId]) -> Vec<EntryId> {
    let reads = result.results.iter().filter_map(|result| match result {
        OpResult::Range(read) => Some(read.kvs.first()),
        _ => None,
    });
    let found = waiters.iter().zip(reads).filter(|(waiter, read)| {
        read.is_some_and(|kv| kv.create_revision == create_revision(waiter))
    });
    found.map(|(waiter, _)| waiter.clone()).collect()
}

/// Returns the create revision that the key of this entry has while the entry exists. If the
/// incarnation is unknown, returns a revision that no key ever has.
pub(crate) fn create_revision(entry: &EntryId) -> u64 {
    entry.incarnation.map_or(u64::MAX, Incarnation::get)
}

/// Returns the condition that the entry exists, in this incarnation.
pub(crate) fn entry_exists(entry: &EntryId) -> Compare {
    has_create_revision(&entry.key, create_revision(entry))
}

/// Returns the condition that the key exists at all.
pub(crate) fn key_exists(key: &[u8]) -> Compare {
    Compare {
        op: CompareOp::Greater,
        ..key_absent(key)
    }
}

/// Returns the condition that the key does not exist.
pub(crate) fn key_absent(key: &[u8]) -> Compare {
    has_create_revision(key, ABSENT)
}

fn has_create_revision(key: &[u8], create_revision: u64) -> Compare {
    Compare {
        keys: KeyRange::One(key.to_vec().into()),
        op: CompareOp::Equal,
        target: CompareTarget::Create(create_revision),
    }
}

//! The requests to the store and their results: etcd's key-value vocabulary in plain Rust types, so
//! that the state machine, the in-process session and the gRPC server speak one language.

use std::sync::Arc;

use bytes::Bytes;

/// A revision of the store. It rises by one with every transaction that changes a key.
pub type Revision = u64;

/// The id of a lease. It is positive; 0 means "no lease".
pub type LeaseId = i64;

/// A key with its value and history, as etcd's `mvccpb.KeyValue`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, never empty.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The revision at which this incarnation of the key was created.
    pub create_revision: Revision,
    /// The revision of the last change.
    pub mod_revision: Revision,
    /// The number of puts since the key was created; 1 for a new key.
    pub version: u64,
    /// The lease that the key is attached to, 0 for none.
    pub lease: LeaseId,
}

/// A set of keys. etcd's `range_end` convention is resolved once, before any check or execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRange {
    /// One key.
    One(Bytes),
    /// All keys from `start` up to, and not including, `end`; up to the last key if `end` is
    /// `None`.
    Span {
        /// The first key in the range.
        start: Bytes,
        /// The first key past the range.
        end: Option<Bytes>,
    },
}

/// The property by which a range is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortTarget {
    /// The key itself.
    #[default]
    Key,
    /// `version`.
    Version,
    /// `create_revision`.
    Create,
    /// `mod_revision`.
    Mod,
    /// `value`.
    Value,
}

/// The direction of a sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortOrder {
    /// As stored: ascending by key if the target is the key, else ascending by target (as in etcd).
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// A read of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The keys to read.
    pub keys: KeyRange,
    /// The revision to read at; 0 for now. A past one results in `Compacted` if the changes since then
    /// are no longer known.
    pub revision: Revision,
    /// The most keys to return; 0 for no limit.
    pub limit: usize,
    /// The property to sort by.
    pub sort_target: SortTarget,
    /// The direction of the sort.
    pub sort_order: SortOrder,
    /// The lowest `mod_revision` to return; 0 for no bound.
    pub min_mod_revision: Revision,
    /// The highest `mod_revision` to return; 0 for no bound.
    pub max_mod_revision: Revision,
    /// The lowest `create_revision` to return; 0 for no bound.
    pub min_create_revision: Revision,
    /// The highest `create_revision` to return; 0 for no bound.
    pub max_create_revision: Revision,
    /// Whether to leave out the values.
    pub keys_only: bool,
    /// Whether to return only the count.
    pub count_only: bool,
}

impl Range {
    /// Returns the read of all of these keys with their values, now, in the stored order.
    pub fn all(keys: KeyRange) -> Self {
        Range {
            keys,
            revision: 0,
            limit: 0,
            sort_target: SortTarget::Key,
            sort_order: SortOrder::None,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
            keys_only: false,
            count_only: false,
        }
    }
}

/// The result of a [`Range`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeResult {
    /// The keys found, in the requested order.
    pub kvs: Vec<Arc<KeyValue>>,
    /// Whether the limit left keys out.
    pub more: bool,
    /// The number of keys in the range, whatever the limit and the revision bounds (as in etcd).
    pub count: u64,
}

/// A write of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The key, not empty.
    pub key: Bytes,
    /// The new value; `None` keeps the old one, and fails if the key does not exist
    /// (`ignore_value`).
    pub value: Option<Bytes>,
    /// The new lease, 0 for none; `None` keeps the old one, and fails if the key does not exist
    /// (`ignore_lease`).
    pub lease: Option<LeaseId>,
    /// Whether to return the key's state before the write.
    pub prev_kv: bool,
}

/// A delete of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// The keys to delete.
    pub keys: KeyRange,
    /// Whether to return the deleted keys.
    pub prev_kv: bool,
}

/// One condition of a transaction. It holds if it holds for every key in `keys`. An absent single
/// key compares as revision, version and lease 0, and never matches a comparison of values (as in
/// etcd).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The keys to compare.
    pub keys: KeyRange,
    /// How to compare.
    pub op: CompareOp,
    /// The property and the value to compare with.
    pub target: CompareTarget,
}

/// How a [`Compare`] compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareOp {
    /// The property equals the target.
    Equal,
    /// The property is greater than the target.
    Greater,
    /// The property is less than the target.
    Less,
    /// The property differs from the target.
    NotEqual,
}

/// The property and the value that a [`Compare`] compares with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompareTarget {
    /// `version`.
    Version(u64),
    /// `create_revision`.
    Create(Revision),
    /// `mod_revision`.
    Mod(Revision),
    /// `value`.
    Value(Bytes),
    /// `lease`.
    Lease(LeaseId),
}

/// A transaction: runs `then` if all of `compare` hold, and `or_else` otherwise, all at one
/// revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// The conditions.
    pub compare: Vec<Compare>,
    /// The operations to run if all conditions hold.
    pub then: Vec<Op>,
    /// The operations to run otherwise.
    pub or_else: Vec<Op>,
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A read.
    Range(Range),
    /// A write.
    Put(Put),
    /// A delete.
    Delete(Delete),
    /// A nested transaction.
    Txn(Txn),
}

/// The number of keys that a delete removed, and the keys if they were asked for.
pub type Deleted = (u64, Vec<Arc<KeyValue>>);

/// The result of an [`Op`], of the same kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResult {
    /// The result of a range.
    Range(RangeResult),
    /// The result of a put: the previous state if requested.
    Put(Option<Arc<KeyValue>>),
    /// The result of a delete.
    Delete {
        /// The number of deleted keys.
        deleted: u64,
        /// The deleted keys, if requested.
        prev_kvs: Vec<Arc<KeyValue>>,
    },
    /// The result of a nested transaction.
    Txn(TxnResult),
}

/// The result of a [`Txn`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TxnResult {
    /// Whether all conditions held.
    pub succeeded: bool,
    /// The results of the branch taken, in order.
    pub results: Vec<OpResult>,
}

/// A change of one key, as watches see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The key's new state. For a delete only `key` and `mod_revision`, that of the delete, are
    /// set.
    pub kv: Arc<KeyValue>,
    /// The key's state before the change, if there was one.
    pub prev: Option<Arc<KeyValue>>,
    /// Whether the key was deleted.
    pub deleted: bool,
}

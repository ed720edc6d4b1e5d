//! What can be asked of the store, and what it answers: etcd's key-value vocabulary in plain Rust
//! types, so that the state machine, the in-process session and the gRPC face speak one language.

use std::sync::Arc;

use bytes::Bytes;

/// A store revision: rises by one with every transaction that changes a key.
pub type Revision = u64;

/// A lease id. Positive; 0 means "no lease".
pub type LeaseId = i64;

/// A key with its value and history, as etcd's `mvccpb.KeyValue`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, never empty.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Revision at which this incarnation of the key was created.
    pub create_revision: Revision,
    /// Revision of the last change.
    pub mod_revision: Revision,
    /// Number of puts since it was created; 1 for a new key.
    pub version: u64,
    /// The lease it is attached to, 0 for none.
    pub lease: LeaseId,
}

/// A set of keys. etcd's `range_end` convention is resolved here once, before any check or
/// execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRange {
    /// Exactly this key.
    One(Bytes),
    /// All keys from `start` up to, not including, `end`; to the last key when `end` is `None`.
    Span {
        /// First key in the range.
        start: Bytes,
        /// First key past the range.
        end: Option<Bytes>,
    },
}

/// What a range read is sorted by.
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
    /// As stored: ascending by key when the target is the key, else ascending by target (as etcd).
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
    /// Which keys.
    pub keys: KeyRange,
    /// The revision to read at; 0 for now. A past one answers `Compacted`: history is not kept.
    pub revision: Revision,
    /// At most this many keys; 0 for no limit.
    pub limit: usize,
    /// What to sort by.
    pub sort_target: SortTarget,
    /// In which direction.
    pub sort_order: SortOrder,
    /// Lowest and highest `mod_revision` wanted; 0 for no bound.
    pub min_mod_revision: Revision,
    /// See `min_mod_revision`.
    pub max_mod_revision: Revision,
    /// Lowest and highest `create_revision` wanted; 0 for no bound.
    pub min_create_revision: Revision,
    /// See `min_create_revision`.
    pub max_create_revision: Revision,
    /// Leave the values out of the answer.
    pub keys_only: bool,
    /// Answer only the count.
    pub count_only: bool,
}

impl Range {
    /// A read of all of these keys with their values, now, in the order in which they are stored.
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

/// The answer to a [`Range`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeResult {
    /// The keys found, in the order asked for.
    pub kvs: Vec<Arc<KeyValue>>,
    /// Whether the limit left keys out.
    pub more: bool,
    /// Number of keys in the range, whatever the limit and the revision bounds (as etcd).
    pub count: u64,
}

/// A write of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The key, not empty.
    pub key: Bytes,
    /// The new value; `None` keeps the old one and fails if there is no such key (`ignore_value`).
    pub value: Option<Bytes>,
    /// The new lease (0 for none); `None` keeps the old one and fails if there is no such key
    /// (`ignore_lease`).
    pub lease: Option<LeaseId>,
    /// Answer the key's state before the write.
    pub prev_kv: bool,
}

/// Removal of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// Which keys.
    pub keys: KeyRange,
    /// Answer the removed keys.
    pub prev_kv: bool,
}

/// One condition of a transaction; it holds if it holds for every key in `keys`. An absent single
/// key compares as revision, version and lease 0, and never matches a value comparison (as etcd).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// Which keys.
    pub keys: KeyRange,
    /// How to compare.
    pub op: CompareOp,
    /// What with.
    pub target: CompareTarget,
}

/// How a [`Compare`] compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareOp {
    /// The key's property equals the target.
    Equal,
    /// It is greater.
    Greater,
    /// It is less.
    Less,
    /// It differs.
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

/// A transaction: if all of `compare` hold, `then`, else `or_else`; all at one revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// The conditions.
    pub compare: Vec<Compare>,
    /// Done when all conditions hold.
    pub then: Vec<Op>,
    /// Done otherwise.
    pub or_else: Vec<Op>,
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Read.
    Range(Range),
    /// Write.
    Put(Put),
    /// Remove.
    Delete(Delete),
    /// A transaction within the transaction.
    Txn(Txn),
}

/// The answer to an [`Op`], of the same kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResult {
    /// To a range.
    Range(RangeResult),
    /// To a put: the previous state if asked for.
    Put(Option<Arc<KeyValue>>),
    /// To a delete: how many keys went, and which if asked for.
    Delete {
        /// Number of keys removed.
        deleted: u64,
        /// The keys removed, if asked for.
        prev_kvs: Vec<Arc<KeyValue>>,
    },
    /// To a nested transaction.
    Txn(TxnResult),
}

/// The answer to a [`Txn`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TxnResult {
    /// Whether all conditions held.
    pub succeeded: bool,
    /// The answers of the branch taken, in order.
    pub results: Vec<OpResult>,
}

/// A change of one key, as seen by watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The key's new state; for a delete only `key` and `mod_revision` (of the delete) are set.
    pub kv: Arc<KeyValue>,
    /// The key's state before, if there was one.
    pub prev: Option<Arc<KeyValue>>,
    /// Whether the key was deleted.
    pub deleted: bool,
}

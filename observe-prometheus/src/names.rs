//! The values of the fixed labels, and the bounds of the buckets.

use std::borrow::Cow;

use lock_core::{ErrorKind, LossReason, Mode, Operation};

/// The labels of a series.
pub(crate) type Labels = Vec<(&'static str, Cow<'static, str>)>;

/// The modes, in the order of [`mode_index`].
pub(crate) const MODES: [&str; 2] = ["exclusive", "shared"];

/// How an acquire can end. A kind that is not listed counts as the last one.
pub(crate) const OUTCOMES: [&str; 7] = [
    "granted",
    "busy",
    "timeout",
    "cancelled",
    "lost",
    "evicted",
    "error",
];

/// The index of "granted" in [`OUTCOMES`].
pub(crate) const GRANTED: usize = 0;

/// How a hold can end. A kind that is not listed counts as the last one.
pub(crate) const ENDS: [&str; 6] = [
    "released",
    "kept",
    "dropped",
    "already_gone",
    "unconfirmed",
    "lost",
];

/// Why a session or a hold can be lost. A kind that is not listed counts as the last one.
pub(crate) const REASONS: [LossReason; 5] = [
    LossReason::Closed,
    LossReason::EntryGone,
    LossReason::SessionGone,
    LossReason::StoreGone,
    LossReason::Expired,
];

/// The results of a renewal.
pub(crate) const RENEWALS: [&str; 3] = ["ok", "error", "timeout"];

/// The operations that are tried again.
pub(crate) const OPERATIONS: [Operation; 12] = [
    Operation::OpenSession,
    Operation::CloseSession,
    Operation::Acquire,
    Operation::Release,
    Operation::Announce,
    Operation::Get,
    Operation::Put,
    Operation::Delete,
    Operation::ReadQueue,
    Operation::ListLocks,
    Operation::Evict,
    Operation::RaiseTokenOffset,
];

/// The kinds of errors after which an operation is tried again.
pub(crate) const RETRIED_KINDS: [ErrorKind; 2] = [ErrorKind::Unreachable, ErrorKind::Exhausted];

/// The bounds of the buckets of waits, in seconds.
pub(crate) const WAIT_BUCKETS: [f64; 17] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 300.0,
];

/// The bounds of the buckets of holds, in seconds.
pub(crate) const HOLD_BUCKETS: [f64; 19] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 300.0, 900.0, 3600.0,
];

/// The bounds of the buckets of renewals, in seconds: an attempt lasts 10 s at most.
pub(crate) const RENEWAL_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The bounds of the buckets of margins, as parts of the validity.
pub(crate) const MARGIN_BUCKETS: [f64; 11] =
    [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// Returns the index of a mode in [`MODES`].
pub(crate) fn mode_index(mode: Mode) -> usize {
    match mode {
        Mode::Exclusive => 0,
        Mode::Shared => 1,
    }
}

/// Returns the index of a value in a list, or that of the last one if it is not there.
pub(crate) fn index_of<T: PartialEq>(list: &[T], value: T) -> usize {
    let last = list.len() - 1;
    list.iter().position(|it| *it == value).unwrap_or(last)
}

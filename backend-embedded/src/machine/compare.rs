//! The conditions of a transaction.

use std::cmp::Ordering;

use super::keys::KeySpace;
use super::op::{Compare, CompareOp, CompareTarget, KeyValue};

/// Returns whether the condition holds for every key in its range. An absent key compares as one
/// whose numbers are all 0, and matches no comparison of values (as in etcd).
pub(super) fn is_satisfied(keys: &KeySpace, compare: &Compare) -> bool {
    let mut found = keys.iter(&compare.keys).peekable();
    if found.peek().is_none() {
        return is_satisfied_by_absence(compare);
    }
    found.all(|kv| matches(compare.op, compare_property(kv, &compare.target)))
}

fn is_satisfied_by_absence(compare: &Compare) -> bool {
    let order = match &compare.target {
        CompareTarget::Value(_) => return false,
        CompareTarget::Version(number)
        | CompareTarget::Create(number)
        | CompareTarget::Mod(number) => 0.cmp(number),
        CompareTarget::Lease(id) => 0.cmp(id),
    };
    matches(compare.op, order)
}

fn compare_property(kv: &KeyValue, target: &CompareTarget) -> Ordering {
    match target {
        CompareTarget::Version(version) => kv.version.cmp(version),
        CompareTarget::Create(revision) => kv.create_revision.cmp(revision),
        CompareTarget::Mod(revision) => kv.mod_revision.cmp(revision),
        CompareTarget::Value(value) => kv.value.cmp(value),
        CompareTarget::Lease(id) => kv.lease.cmp(id),
    }
}

fn matches(op: CompareOp, order: Ordering) -> bool {
    match op {
        CompareOp::Equal => order.is_eq(),
        CompareOp::Greater => order.is_gt(),
        CompareOp::Less => order.is_lt(),
        CompareOp::NotEqual => order.is_ne(),
    }
}

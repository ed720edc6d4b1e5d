//! The one place where it is decided what a subject may do. Every kind of operation, and every field
//! of those on keys, is matched by name: a new one does not compile without a decision.

use std::collections::BTreeSet;
use std::ops::Bound;

use bytes::Bytes;

use super::rules::{Right, Rules};
use super::subject::Subject;
use crate::coordinator::{LeaseState, Leases, Operation};
use crate::machine::op::{Compare, Delete, KeyRange, LeaseId, Op, Put, Range, Txn};

/// The rights of one subject, and the leases as they are at the moment of the decision.
pub(super) struct Decider<'a> {
    pub(super) rules: &'a Rules,
    pub(super) subject: &'a Subject,
    pub(super) leases: &'a dyn Leases,
}

/// Returns whether a subject maintains the whole store.
pub(super) fn is_admin(rules: &Rules, subject: &Subject) -> bool {
    rules
        .find(subject, Right::Admin, &KeyRange::all())
        .is_some()
}

impl Decider<'_> {
    /// Returns whether the subject may do this.
    pub(super) fn allows(&self, operation: Operation<'_>) -> bool {
        match operation {
            Operation::Range(range) => self.may_range(range),
            Operation::Put(put) => self.may_put(put),
            Operation::Delete(delete) => self.may_delete(delete),
            Operation::Txn(txn) => self.may_txn(txn),
            Operation::Watch(keys) => self.has(Right::Read, keys),
            // It takes events away from all.
            Operation::Compact => self.is_admin(),
            Operation::Copy => self.is_admin(),
            // A lease without keys harms nobody, but there is a limit of them: who can only read has
            // no use for one.
            Operation::Grant => self.rules.has_anywhere(self.subject, Right::Lock),
            Operation::Revoke(id) => self.may_use_lease(id),
            Operation::Renew(id) => self.may_use_lease(id),
            Operation::TimeToLive(id) => self.may_see_lease(id),
            Operation::List(id) => self.may_list_lease(id),
        }
    }

    fn has(&self, right: Right, keys: &KeyRange) -> bool {
        self.rules.find(self.subject, right, keys).is_some()
    }

    fn is_admin(&self) -> bool {
        is_admin(self.rules, self.subject)
    }

    fn may_range(&self, range: &Range) -> bool {
        // All the other fields only choose among these keys. The count is told of them, too.
        let Range {
            keys,
            revision: _,
            limit: _,
            sort_target: _,
            sort_order: _,
            min_mod_revision: _,
            max_mod_revision: _,
            min_create_revision: _,
            max_create_revision: _,
            keys_only: _,
            count_only: _,
        } = range;
        self.has(Right::Read, keys)
    }

    fn may_put(&self, put: &Put) -> bool {
        let Put {
            key,
            value: _,
            lease,
            prev_kv,
        } = put;
        let key = KeyRange::One(key.clone());
        self.has(Right::Lock, &key)
            && (!prev_kv || self.has(Right::Read, &key))
            // The key's end becomes that of the lease, and what the lease's owner may do decides on
            // who may end the key.
            && match lease {
                None | Some(0) => true,
                Some(id) => self.may_use_lease(*id),
            }
    }

    fn may_delete(&self, delete: &Delete) -> bool {
        let Delete { keys, prev_kv } = delete;
        self.has(Right::Lock, keys) && (!prev_kv || self.has(Right::Read, keys))
    }

    /// Decides on both branches: which one is taken says something about the keys compared.
    fn may_txn(&self, txn: &Txn) -> bool {
        let Txn {
            compare,
            then,
            or_else,
        } = txn;
        compare.iter().all(|compare| self.may_compare(compare))
            && then.iter().chain(or_else).all(|op| self.may_op(op))
    }

    fn may_compare(&self, compare: &Compare) -> bool {
        let Compare {
            keys,
            op: _,
            target: _,
        } = compare;
        self.has(Right::Read, keys)
    }

    fn may_op(&self, op: &Op) -> bool {
        match op {
            Op::Range(range) => self.may_range(range),
            Op::Put(put) => self.may_put(put),
            Op::Delete(delete) => self.may_delete(delete),
            Op::Txn(txn) => self.may_txn(txn),
        }
    }

    /// Returns whether the subject may end or renew this lease, or attach keys to it: it may write
    /// all its keys, or there are none and the lease is its own.
    fn may_use_lease(&self, id: LeaseId) -> bool {
        self.may_touch_lease(id, Right::Lock)
    }

    /// Returns whether the subject may know of this lease: it may read all its keys, or there are
    /// none and the lease is its own.
    fn may_see_lease(&self, id: LeaseId) -> bool {
        self.may_touch_lease(id, Right::Read)
    }

    fn may_touch_lease(&self, id: LeaseId, right: Right) -> bool {
        match self.leases.find(id) {
            // "Not found" is all that anybody learns of it.
            None => true,
            Some(LeaseState { owner, keys }) if keys.is_empty() => {
                let is_own = owner.is_none_or(|owner| *owner == **self.subject.text());
                is_own && self.rules.has_anywhere(self.subject, Right::Lock) || self.is_admin()
            }
            Some(LeaseState { owner: _, keys }) => self.covers_all(right, keys),
        }
    }

    /// Returns whether the subject may learn the id of this lease. Whoever knows the id of a lease
    /// whose owner is not known can make it its own.
    fn may_list_lease(&self, id: LeaseId) -> bool {
        match self.leases.find(id) {
            Some(LeaseState { owner: None, keys }) if keys.is_empty() => self.is_admin(),
            _ => self.may_see_lease(id),
        }
    }

    /// Returns whether the subject has this right over all of these keys. There may be very many, so
    /// the search goes from the first key that a rule covers to the first one behind the rule.
    fn covers_all(&self, right: Right, keys: &BTreeSet<Bytes>) -> bool {
        let mut next = keys.first();
        while let Some(key) = next {
            let Some(rule) = self
                .rules
                .find(self.subject, right, &KeyRange::One(key.clone()))
            else {
                return false;
            };
            let behind = match rule.keys() {
                KeyRange::Span { end: None, .. } => return true,
                KeyRange::Span { end: Some(end), .. } => Bound::Included(end),
                KeyRange::One(key) => Bound::Excluded(key),
            };
            next = keys.range::<Bytes, _>((behind, Bound::Unbounded)).next();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::machine::op::{CompareOp, CompareTarget};

    const RULES: &str = r#"
[[rule]]
subject = "user:a"
namespace = "a"
right = "lock"
[[rule]]
subject = "user:b"
namespace = "b"
right = "lock"
[[rule]]
subject = "user:reader"
namespace = "a"
right = "read"
[[rule]]
subject = "user:root"
prefix = ""
right = "admin"
"#;

    #[derive(Default)]
    struct Table(BTreeMap<LeaseId, (Option<&'static str>, BTreeSet<Bytes>)>);

    impl Leases for Table {
        fn find(&self, id: LeaseId) -> Option<LeaseState<'_>> {
            let (owner, keys) = self.0.get(&id)?;
            Some(LeaseState {
                owner: *owner,
                keys,
            })
        }
    }

    /// 1: a's, with a key of a; 2: b's, with a key of b; 3: a's, without keys; 4: nobody knows whose;
    /// 5: a's, with a key of each.
    fn table() -> Table {
        let keys = |keys: &[&'static str]| -> BTreeSet<Bytes> {
            let keys = keys.iter();
            keys.map(|key| Bytes::from_static(key.as_bytes())).collect()
        };
        let table = [
            (1, (Some("user:a"), keys(&["a/x"]))),
            (2, (Some("user:b"), keys(&["b/x"]))),
            (3, (Some("user:a"), BTreeSet::new())),
            (4, (None, BTreeSet::new())),
            (5, (Some("user:a"), keys(&["a/x", "b/x"]))),
        ];
        Table(table.into_iter().collect())
    }

    fn allows(user: &str, operation: Operation<'_>) -> bool {
        Decider {
            rules: &Rules::parse(RULES).expect("rules"),
            subject: &Subject::user(user),
            leases: &table(),
        }
        .allows(operation)
    }

    fn one(key: &str) -> KeyRange {
        KeyRange::One(Bytes::copy_from_slice(key.as_bytes()))
    }

    fn range(keys: KeyRange) -> Range {
        Range {
            count_only: true,
            ..Range::all(keys)
        }
    }

    fn put(key: &str, lease: Option<LeaseId>) -> Put {
        Put {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: None,
            lease,
            prev_kv: true,
        }
    }

    fn delete(keys: KeyRange) -> Delete {
        Delete {
            keys,
            prev_kv: true,
        }
    }

    /// Returns everything that touches a key of `a`, or a lease of it.
    fn touching_a() -> Vec<Op> {
        vec![
            Op::Range(range(one("a/x"))),
            Op::Range(range(KeyRange::all())),
            Op::Range(range(KeyRange::Span {
                start: Bytes::from_static(b"b/x"),
                end: None,
            })),
            Op::Put(put("a/x", Some(0))),
            Op::Put(put("b/x", Some(1))),
            Op::Put(put("b/x", Some(3))),
            Op::Put(put("b/x", Some(5))),
            Op::Delete(delete(one("a/x"))),
            Op::Delete(delete(KeyRange::prefix("a/"))),
        ]
    }

    #[test]
    fn what_touches_another_tenant_is_denied_at_every_depth_and_in_every_branch() {
        let harmless = || Op::Put(put("b/x", Some(2)));
        for op in touching_a() {
            let mut nested = op;
            for depth in 1..=4 {
                for (then, or_else) in [
                    (vec![harmless(), nested.clone()], vec![harmless()]),
                    (vec![harmless()], vec![nested.clone()]),
                ] {
                    let txn = Txn {
                        compare: Vec::new(),
                        then,
                        or_else,
                    };
                    let denied = !allows("b", Operation::Txn(&txn));
                    assert!(denied, "depth {depth}: {txn:?}");
                    assert!(allows("root", Operation::Txn(&txn)), "{txn:?}");
                    nested = Op::Txn(txn);
                }
            }
        }
        let txn = Txn {
            compare: vec![Compare {
                keys: one("b/x"),
                op: CompareOp::Equal,
                target: CompareTarget::Version(0),
            }],
            then: vec![harmless(), Op::Range(range(one("b/x")))],
            or_else: vec![Op::Delete(delete(KeyRange::prefix("b/")))],
        };
        assert!(allows("b", Operation::Txn(&txn)));
    }

    #[test]
    fn a_comparison_reads() {
        let compare = |key: &str| Txn {
            compare: vec![Compare {
                keys: one(key),
                op: CompareOp::Equal,
                target: CompareTarget::Value(Bytes::from_static(b"guess")),
            }],
            ..Txn::default()
        };
        assert!(!allows("b", Operation::Txn(&compare("a/x"))));
        assert!(allows("reader", Operation::Txn(&compare("a/x"))));
        let mut outer = Txn::default();
        outer.or_else.push(Op::Txn(compare("a/x")));
        assert!(!allows("b", Operation::Txn(&outer)));
    }

    #[test]
    fn a_reader_only_reads() {
        assert!(allows("reader", Operation::Range(&range(one("a/x")))));
        assert!(allows("reader", Operation::Watch(&KeyRange::prefix("a/"))));
        assert!(!allows("reader", Operation::Put(&put("a/x", Some(0)))));
        assert!(!allows("reader", Operation::Delete(&delete(one("a/x")))));
        assert!(!allows("reader", Operation::Grant));
        assert!(!allows("reader", Operation::Revoke(1)));
        assert!(!allows("reader", Operation::Renew(4)));
        assert!(allows("reader", Operation::TimeToLive(1)));
    }

    #[test]
    fn a_watch_that_begins_at_an_own_key_does_not_go_on_to_those_of_others() {
        let from = |end: Option<&'static [u8]>| KeyRange::Span {
            start: Bytes::from_static(b"a/x"),
            end: end.map(Bytes::from_static),
        };
        assert!(allows("a", Operation::Watch(&from(Some(b"a/y")))));
        assert!(!allows("a", Operation::Watch(&from(None))));
        assert!(!allows("a", Operation::Watch(&from(Some(b"b/y")))));
        assert!(!allows("a", Operation::Watch(&KeyRange::all())));
    }

    #[test]
    fn a_lease_is_for_those_who_may_write_all_its_keys_or_own_it_while_it_has_none() {
        for (user, own) in [
            ("a", vec![1, 3, 4]),
            ("b", vec![2, 4]),
            ("root", vec![1, 2, 3, 4, 5]),
        ] {
            for id in 1..=5 {
                for operation in [
                    Operation::Revoke(id),
                    Operation::Renew(id),
                    Operation::TimeToLive(id),
                ] {
                    let allowed = allows(user, operation);
                    assert_eq!(allowed, own.contains(&id), "{user}: {operation:?}");
                }
            }
        }
        assert!(
            allows("nobody", Operation::Revoke(9)),
            "only \"not found\" is told"
        );
    }

    #[test]
    fn only_an_admin_of_every_key_maintains_the_store() {
        for operation in [Operation::Compact, Operation::Copy] {
            assert!(allows("root", operation));
            assert!(!allows("a", operation));
            assert!(!allows("reader", operation));
        }
        assert!(!allows("nobody", Operation::Grant));
    }

    #[test]
    fn nobody_learns_of_a_lease_that_could_become_its_own() {
        assert!(allows("a", Operation::TimeToLive(4)), "who knows the id");
        for (user, listed) in [
            ("a", [1, 3].as_slice()),
            ("b", &[2]),
            ("root", &[1, 2, 3, 4, 5]),
        ] {
            let found: Vec<LeaseId> = (1..=5)
                .filter(|&id| allows(user, Operation::List(id)))
                .collect();
            assert_eq!(found, listed, "{user}");
        }
    }

    #[test]
    fn the_rules_cover_the_keys_of_a_lease_together() {
        let rules = r#"
[[rule]]
subject = "user:a"
prefix = "b/"
right = "lock"
[[rule]]
subject = "user:a"
prefix = "a/"
right = "lock"
[[rule]]
subject = "user:a"
prefix = "c/"
right = "read"
"#;
        let rules = Rules::parse(rules).expect("rules");
        let decider = Decider {
            rules: &rules,
            subject: &Subject::user("a"),
            leases: &Table::default(),
        };
        let keys = |keys: &[&str]| -> BTreeSet<Bytes> {
            keys.iter()
                .map(|key| Bytes::copy_from_slice(key.as_bytes()))
                .collect()
        };
        for (attached, covered) in [
            (&["a/1", "a/2", "b/1", "b/2"][..], true),
            (&["a/1", "b"], false),
            (&["a", "a/1"], false),
            (&["a/1", "b/1", "c/1"], false),
            (&[], true),
        ] {
            let found = decider.covers_all(Right::Lock, &keys(attached));
            assert_eq!(found, covered, "{attached:?}");
        }
        assert!(decider.covers_all(Right::Read, &keys(&["a/1", "c/1"])));
    }
}

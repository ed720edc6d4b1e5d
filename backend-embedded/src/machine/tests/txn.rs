//! Transactions: revisions, atomicity, validation, conditions.

use super::*;
use crate::config::{MAX_REQUEST_BYTES, MAX_TXN_OPS};

#[test]
fn a_put_takes_a_revision_and_keeps_history() {
    let mut machine = machine();
    assert_eq!(machine.revision(), 1, "an empty store is at 1, as etcd's");
    assert_eq!(machine.set("a", "1"), 2);
    assert_eq!(machine.set("a", "2"), 3);
    let state = machine.state("a").unwrap();
    assert_eq!((state.create_revision, state.mod_revision), (2, 3));
    assert_eq!((state.version, state.value), (2, bytes("2")));

    let mut changes = Changes::default();
    machine.delete(&delete(one("a")), &mut changes).unwrap();
    assert_eq!(machine.revision(), 4);
    let event = &changes.events[0];
    assert!(event.deleted);
    assert_eq!(event.kv.mod_revision, 4);
    assert_eq!((event.kv.create_revision, event.kv.version), (0, 0));
    assert_eq!(event.prev.as_ref().unwrap().value, bytes("2"));

    machine.set("a", "3");
    let state = machine.state("a").unwrap();
    assert_eq!(
        (state.create_revision, state.version),
        (5, 1),
        "a new incarnation"
    );
}

#[test]
fn a_transaction_without_a_change_takes_no_revision() {
    let mut machine = machine();
    machine.set("a", "1");
    let mut changes = Changes::default();
    let deleted = machine.delete(&delete(one("b")), &mut changes).unwrap();
    assert_eq!(deleted.0, 0);
    let ops = vec![
        Op::Range(Range::all(one("a"))),
        Op::Delete(delete(span("x", "z"))),
    ];
    machine.txn(&then(ops), &mut changes).unwrap();
    assert!(changes.is_empty());
    assert_eq!(machine.revision(), 2);
}

#[test]
fn a_transaction_takes_one_revision_and_reads_its_own_writes() {
    let mut machine = machine();
    machine.set("old", "x");
    let ops = vec![
        Op::Put(put("a", "1")),
        Op::Put(put("b", "2")),
        Op::Range(Range::all(span("a", "c"))),
        Op::Delete(delete(one("old"))),
        Op::Range(Range::all(one("old"))),
    ];
    let mut changes = Changes::default();
    let result = machine.txn(&then(ops), &mut changes).unwrap();
    assert!(result.succeeded);
    assert_eq!(machine.revision(), 3);
    let revisions: Vec<_> = (changes.events.iter())
        .map(|event| event.kv.mod_revision)
        .collect();
    assert_eq!(revisions, [3, 3, 3]);
    let OpResult::Range(found) = &result.results[2] else {
        panic!("{result:?}");
    };
    assert_eq!(names(found), ["a", "b"]);
    let OpResult::Range(found) = &result.results[4] else {
        panic!("{result:?}");
    };
    assert_eq!(found.count, 0);
}

#[test]
fn previous_states_are_answered_when_asked_for() {
    let mut machine = machine();
    machine.set("a", "1");
    let mut changes = Changes::default();
    let mut with_prev = put("a", "2");
    with_prev.prev_kv = true;
    let prev = machine.put(&with_prev, &mut changes).unwrap();
    assert_eq!(prev.unwrap().value, bytes("1"));
    assert_eq!(machine.put(&put("a", "3"), &mut changes).unwrap(), None);
    let asked = Delete {
        keys: KeyRange::prefix("a"),
        prev_kv: true,
    };
    let (deleted, prev_kvs) = machine.delete(&asked, &mut changes).unwrap();
    assert_eq!((deleted, prev_kvs[0].value.clone()), (1, bytes("3")));
}

#[test]
fn old_value_and_lease_can_be_kept() {
    let mut machine = machine();
    let mut changes = Changes::default();
    machine
        .grant(Duration::ZERO, 7, Duration::from_secs(9), &mut changes)
        .unwrap();
    machine.put(&put_on("a", 7), &mut changes).unwrap();
    let keep_lease = Put {
        lease: None,
        ..put("a", "new")
    };
    machine.put(&keep_lease, &mut changes).unwrap();
    let state = machine.state("a").unwrap();
    assert_eq!((state.lease, state.value), (7, bytes("new")));
    let keep_value = Put {
        value: None,
        ..put("a", "")
    };
    machine.put(&keep_value, &mut changes).unwrap();
    let state = machine.state("a").unwrap();
    assert_eq!((state.lease, state.value), (0, bytes("new")));

    for put in [keep_lease, keep_value] {
        let put = Put {
            key: bytes("absent"),
            ..put
        };
        let refusal = machine.refuses(&then(vec![Op::Put(put)]));
        assert!(matches!(refusal, Error::KeyNotFound));
    }
}

#[test]
fn an_unknown_lease_fails_the_whole_transaction() {
    let mut machine = machine();
    let ops = vec![Op::Put(put("a", "1")), Op::Put(put_on("b", 99))];
    let refusal = machine.refuses(&then(ops));
    assert!(matches!(refusal, Error::LeaseNotFound { id: 99 }));
    assert_eq!(machine.state("a"), None);
}

#[test]
fn only_the_branch_taken_is_held_against_the_state() {
    let mut machine = machine();
    let txn = Txn {
        compare: vec![compare(
            one("a"),
            CompareOp::Equal,
            CompareTarget::Version(0),
        )],
        then: vec![Op::Put(put("a", "1"))],
        or_else: vec![Op::Put(put_on("b", 99))],
    };
    let result = machine.txn(&txn, &mut Changes::default()).unwrap();
    assert!(result.succeeded);
}

#[test]
fn conditions() {
    use CompareOp::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    let mut machine = machine();
    let mut changes = Changes::default();
    machine
        .grant(Duration::ZERO, 7, Duration::from_secs(9), &mut changes)
        .unwrap();
    machine.put(&put_on("k/1", 7), &mut changes).unwrap(); // revision 2
    machine.set("k/2", "v"); // 3
    machine.put(&put_on("k/1", 7), &mut changes).unwrap(); // 4
    let cases = [
        (one("k/1"), Equal, Version(2), true),
        (one("k/1"), NotEqual, Version(2), false),
        (one("k/1"), Equal, Create(2), true),
        (one("k/1"), Greater, Mod(3), true),
        (one("k/1"), Less, Mod(4), false),
        (one("k/1"), Equal, Lease(7), true),
        (one("k/1"), Equal, Value(bytes("v")), true),
        (one("k/1"), Greater, Value(bytes("u")), true),
        (one("absent"), Equal, Version(0), true),
        (one("absent"), Equal, Create(0), true),
        (one("absent"), Less, Mod(1), true),
        (one("absent"), Equal, Lease(0), true),
        (one("absent"), NotEqual, Value(bytes("v")), false),
        (one("absent"), Equal, Value(bytes("")), false),
        (KeyRange::prefix("k/"), Greater, Create(1), true),
        (KeyRange::prefix("k/"), Greater, Create(2), false),
        (KeyRange::prefix("k/"), Equal, Value(bytes("v")), true),
        (KeyRange::prefix("k/"), Equal, Lease(7), false),
        (KeyRange::prefix("none/"), Equal, Version(0), true),
        (KeyRange::prefix("none/"), Greater, Create(0), false),
    ];
    for (keys, op, target, expected) in cases {
        let compare = compare(keys, op, target);
        let context = format!("{compare:?}");
        let txn = Txn {
            compare: vec![compare],
            ..Txn::default()
        };
        let result = machine.txn(&txn, &mut changes).unwrap();
        assert_eq!(result.succeeded, expected, "{context}");
    }
}

#[test]
fn nested_conditions_are_judged_on_the_state_before() {
    let mut machine = machine();
    let nested = Txn {
        compare: vec![compare(
            one("a"),
            CompareOp::Equal,
            CompareTarget::Version(0),
        )],
        then: vec![Op::Put(put("b", "absent"))],
        or_else: vec![Op::Put(put("c", "present"))],
    };
    let txn = then(vec![Op::Put(put("a", "1")), Op::Txn(nested.clone())]);
    let result = machine.txn(&txn, &mut Changes::default()).unwrap();
    let OpResult::Txn(inner) = &result.results[1] else {
        panic!("{result:?}");
    };
    assert!(inner.succeeded, "\"a\" did not exist before");
    assert_eq!(machine.revision(), 2);
    let txn = then(vec![Op::Txn(nested.clone()), Op::Txn(Txn::default())]);
    machine.txn(&txn, &mut Changes::default()).unwrap();
    assert_eq!(machine.keys_in(KeyRange::all()), ["a", "b", "c"]);
}

#[test]
fn a_key_may_be_changed_once_on_any_path() {
    let mut machine = machine();
    machine.set("a", "0");
    let put_a = || Op::Put(put("a", "1"));
    let either = |then, or_else| {
        Op::Txn(Txn {
            compare: Vec::new(),
            then,
            or_else,
        })
    };
    let refusal = [
        vec![put_a(), put_a()],
        vec![put_a(), Op::Delete(delete(one("a")))],
        vec![Op::Delete(delete(span("a", "b"))), put_a()],
        vec![Op::Delete(delete(KeyRange::all())), put_a()],
        vec![put_a(), either(vec![put_a()], vec![])],
        vec![either(vec![put_a()], vec![]), either(vec![], vec![put_a()])],
        vec![either(vec![Op::Delete(delete(one("a")))], vec![]), put_a()],
        vec![
            Op::Delete(delete(one("a"))),
            either(vec![], vec![either(vec![put_a()], vec![])]),
        ],
    ];
    for ops in refusal {
        let error = machine.refuses(&then(ops.clone()));
        assert!(matches!(error, Error::DuplicateKey { ref key } if key == "a"));
        // The branch that is not taken counts too.
        let error = machine.refuses(&Txn {
            or_else: ops,
            ..Txn::default()
        });
        assert!(matches!(error, Error::DuplicateKey { .. }));
    }
    let allowed = [
        vec![either(vec![put_a()], vec![put_a()])],
        vec![
            Op::Delete(delete(one("a"))),
            Op::Delete(delete(span("a", "c"))),
        ],
        vec![put_a(), Op::Delete(delete(span("a0", "b")))],
        vec![either(vec![put_a()], vec![Op::Delete(delete(one("a")))])],
    ];
    for ops in allowed {
        machine.txn(&then(ops), &mut Changes::default()).unwrap();
    }
}

#[test]
fn limits_hold_before_anything_is_applied() {
    let mut machine = machine();
    let reads = |count| vec![Op::Range(Range::all(one("a"))); count];
    assert!(
        machine
            .txn(&then(reads(MAX_TXN_OPS)), &mut Changes::default())
            .is_ok()
    );
    let refusal = machine.refuses(&then(reads(MAX_TXN_OPS + 1)));
    assert!(matches!(refusal, Error::TooManyOps { limit: MAX_TXN_OPS }));
    let mut many = reads(MAX_TXN_OPS - 9);
    many.push(Op::Txn(then(reads(8))));
    assert!(
        machine
            .txn(&then(many.clone()), &mut Changes::default())
            .is_ok()
    );
    many.push(Op::Txn(then(reads(9))));
    assert!(matches!(
        machine.refuses(&then(many)),
        Error::TooManyOps { .. }
    ));
    let mut deep = Txn::default();
    for _ in 0..5000 {
        deep = then(vec![Op::Txn(deep)]);
    }
    assert!(matches!(machine.refuses(&deep), Error::TooManyOps { .. }));
    // Dropped level by level: the default drop of so deep a value would recurse.
    while let Some(Op::Txn(inner)) = deep.then.pop() {
        deep = inner;
    }

    let large = put("k", &"x".repeat(MAX_REQUEST_BYTES));
    let refusal = machine.refuses(&then(vec![Op::Put(large.clone())]));
    assert!(matches!(refusal, Error::RequestTooLarge { .. }));
    let mut changes = Changes::default();
    assert!(machine.put(&large, &mut changes).is_err());
    let fits = put("k", &"x".repeat(MAX_REQUEST_BYTES - 1));
    assert!(machine.put(&fits, &mut changes).is_ok());
}

#[test]
fn empty_keys_are_refused_everywhere() {
    let mut machine = machine();
    let empty = || KeyRange::One(Bytes::new());
    let from_empty = KeyRange::Span {
        start: Bytes::new(),
        end: None,
    };
    let version = CompareTarget::Version(0);
    let txns = [
        then(vec![Op::Put(put("", "v"))]),
        then(vec![Op::Range(Range::all(empty()))]),
        then(vec![Op::Delete(delete(from_empty))]),
        then(vec![Op::Txn(then(vec![Op::Delete(delete(empty()))]))]),
        Txn {
            compare: vec![compare(empty(), CompareOp::Equal, version)],
            ..Txn::default()
        },
    ];
    for txn in &txns {
        assert!(matches!(machine.refuses(txn), Error::EmptyKey));
    }
    assert!(matches!(
        machine.range(&Range::all(empty())),
        Err(Error::EmptyKey)
    ));
}

#[test]
fn the_store_has_a_quota_that_releases_pass() {
    let mut machine = Machine::new(Limits {
        store_bytes: 20,
        ..Limits::default()
    });
    machine.set("a", "123456789");
    machine.set("b", "123456789");
    assert_eq!(machine.bytes(), 20);
    let refusal = machine.refuses(&then(vec![Op::Put(put("c", ""))]));
    assert!(matches!(refusal, Error::QuotaExceeded { limit: 20 }));
    machine.set("a", "987654321");
    let mut changes = Changes::default();
    machine.delete(&delete(one("a")), &mut changes).unwrap();
    machine.set("c", "123456789");
    assert_eq!(machine.bytes(), 20);
}

#[test]
fn compaction_moves_forward_only_and_not_ahead() {
    let mut machine = machine();
    for value in ["1", "2", "3"] {
        machine.set("a", value);
    }
    let mut changes = Changes::default();
    machine.compact(3, &mut changes).unwrap();
    assert_eq!(changes.compacted, Some(3));
    assert_eq!((machine.compact_revision(), machine.revision()), (3, 4));
    for (revision, future) in [(3, false), (2, false), (5, true)] {
        let mut changes = Changes::default();
        let error = machine.compact(revision, &mut changes).unwrap_err();
        assert!(changes.is_empty());
        assert_eq!(matches!(error, Error::FutureRevision { .. }), future);
        assert_eq!(matches!(error, Error::Compacted { .. }), !future);
    }
}

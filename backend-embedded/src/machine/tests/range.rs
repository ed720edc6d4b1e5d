//! Range reads: order, limits, bounds, and the past.

use super::*;

fn filled(keys: &[&str]) -> Machine {
    let mut machine = machine();
    for key in keys {
        machine.set(key, key);
    }
    machine
}

#[test]
fn ranges_are_half_open_and_ordered_by_key() {
    let machine = filled(&["b", "a", "c", "ab"]);
    assert_eq!(machine.keys_in(one("b")), ["b"]);
    assert_eq!(machine.keys_in(span("a", "b")), ["a", "ab"]);
    assert_eq!(machine.keys_in(KeyRange::prefix("a")), ["a", "ab"]);
    assert_eq!(machine.keys_in(KeyRange::all()), ["a", "ab", "b", "c"]);
    assert_eq!(machine.keys_in(span("b", "a")), [] as [&str; 0]);
    assert_eq!(machine.keys_in(span("b", "b")), [] as [&str; 0]);
}

#[test]
fn the_count_is_of_the_whole_range_and_more_marks_a_cut() {
    let machine = filled(&["a", "b", "c"]);
    let limited = |limit| {
        let found = machine.range(&Range {
            limit,
            ..Range::all(KeyRange::all())
        });
        let found = found.unwrap();
        (found.kvs.len(), found.more, found.count)
    };
    assert_eq!(limited(0), (3, false, 3));
    assert_eq!(limited(2), (2, true, 3));
    assert_eq!(limited(3), (3, false, 3));
    assert_eq!(limited(usize::MAX), (3, false, 3));
    let counted = machine.range(&Range {
        count_only: true,
        limit: 1,
        ..Range::all(KeyRange::all())
    });
    let expected = RangeResult {
        kvs: Vec::new(),
        more: false,
        count: 3,
    };
    assert_eq!(counted.unwrap(), expected);
}

#[test]
fn bounds_prune_before_the_sort_and_the_limit_but_not_the_count() {
    // Create revisions 2 to 5; "b" is changed again at 6.
    let mut machine = filled(&["d", "c", "b", "a"]);
    machine.set("b", "again");
    let ask = |range: Range| {
        let found = machine.range(&range).unwrap();
        (names(&found), found.more, found.count)
    };
    let all = || Range::all(KeyRange::all());
    let newest_before = Range {
        sort_target: SortTarget::Create,
        sort_order: SortOrder::Descend,
        max_create_revision: 4,
        limit: 1,
        ..all()
    };
    assert_eq!(ask(newest_before), (vec!["b".to_string()], true, 4));
    let by_mod = Range {
        sort_target: SortTarget::Mod,
        sort_order: SortOrder::Ascend,
        min_mod_revision: 3,
        ..all()
    };
    assert_eq!(ask(by_mod).0, ["c", "a", "b"]);
    let narrow = Range {
        min_create_revision: 3,
        max_create_revision: 3,
        max_mod_revision: 5,
        limit: 1,
        ..all()
    };
    assert_eq!(ask(narrow), (vec!["c".to_string()], false, 4));
    let descending = Range {
        sort_order: SortOrder::Descend,
        limit: 2,
        ..all()
    };
    assert_eq!(ask(descending).0, ["d", "c"]);
    let by_version = Range {
        sort_target: SortTarget::Version,
        sort_order: SortOrder::Descend,
        limit: 1,
        ..all()
    };
    assert_eq!(ask(by_version).0, ["b"]);
    let by_value = Range {
        sort_target: SortTarget::Value,
        sort_order: SortOrder::Ascend,
        ..all()
    };
    assert_eq!(ask(by_value).0, ["a", "b", "c", "d"]);
}

#[test]
fn a_sort_without_an_order_comes_after_the_limit() {
    let machine = filled(&["d", "c", "b", "a"]);
    let found = machine.range(&Range {
        sort_target: SortTarget::Create,
        limit: 2,
        ..Range::all(KeyRange::all())
    });
    // As in etcd: the first three by key, sorted, then cut to two.
    assert_eq!(names(&found.unwrap()), ["c", "b"]);
}

#[test]
fn values_can_be_left_out() {
    let machine = filled(&["a"]);
    let found = machine.range(&Range {
        keys_only: true,
        ..Range::all(one("a"))
    });
    let kv = &found.unwrap().kvs[0];
    assert!(kv.value.is_empty());
    assert_eq!((kv.create_revision, kv.version), (2, 1));
}

fn at(revision: Revision, keys: KeyRange) -> Range {
    Range {
        revision,
        ..Range::all(keys)
    }
}

#[test]
fn a_revision_that_was_compacted_or_is_to_come_cannot_be_read() {
    let mut machine = filled(&["a", "b", "c"]);
    machine.compact(3, &mut Changes::default()).unwrap();
    assert_eq!(machine.range(&at(3, one("b"))).unwrap().count, 1);
    assert_eq!(machine.range(&at(3, one("c"))).unwrap().count, 0);
    assert!(matches!(
        machine.range(&at(2, one("a"))),
        Err(Error::Compacted {
            requested: 2,
            compact_revision: 3
        })
    ));
    assert!(matches!(
        machine.range(&at(5, one("a"))),
        Err(Error::FutureRevision {
            requested: 5,
            current: 4
        })
    ));
}

#[test]
fn a_transaction_reads_the_past_behind_its_own_writes() {
    let mut machine = machine();
    machine.set("a", "first");
    let before = machine.set("a", "second");
    let ops = vec![
        Op::Put(put("a", "third")),
        Op::Put(put("b", "")),
        Op::Range(at(before, KeyRange::all())),
        Op::Range(at(before - 1, KeyRange::all())),
        Op::Range(Range::all(KeyRange::all())),
    ];
    let done = machine.txn(&then(ops), &mut Changes::default()).unwrap();
    let values = |result: &OpResult| match result {
        OpResult::Range(found) => {
            let values = found.kvs.iter().map(|kv| kv.value.clone());
            values.collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(values(&done.results[2]), ["second"]);
    assert_eq!(values(&done.results[3]), ["first"]);
    assert_eq!(values(&done.results[4]), ["third", ""]);
}

#[test]
fn the_past_is_bounded_and_its_rest_is_right() {
    let limits = Limits::default().with_history_events(10);
    let mut machine = Machine::new(limits.with_history_bytes(1000));
    let revisions: Vec<_> = (0..30)
        .map(|nth| machine.set("a", &nth.to_string()))
        .collect();
    for (nth, &revision) in revisions.iter().enumerate() {
        match machine.range(&at(revision, one("a"))) {
            Ok(found) => assert_eq!(found.kvs[0].value, nth.to_string()),
            Err(error) => {
                assert!(matches!(error, Error::Compacted { .. }), "{error}");
                assert!(nth < 19, "{nth}: {error}");
            }
        }
    }
    let last = machine.set("a", &"v".repeat(1000));
    machine.set("a", "");
    let gone = machine.range(&at(last, one("a")));
    assert!(matches!(gone, Err(Error::Compacted { .. })), "{gone:?}");
}

#[test]
fn a_read_of_the_past_costs_what_it_looks_at() {
    let mut machine = filled(&["a", "b", "c"]);
    let before = machine.revision();
    machine.set("a", &"v".repeat(100));
    machine.set("a", "");
    let within = |keys, bytes| Limits {
        request_keys: keys,
        request_answer_bytes: bytes,
        ..Limits::default()
    };
    let all = || KeyRange::all();
    for (limits, revision, fits) in [
        (within(49, 1000), before, false),
        (within(50, 1000), before, true),
        (within(1000, 104), before + 1, false),
        (within(1000, 105), before + 1, true),
    ] {
        machine.limits = limits;
        let found = machine.range(&at(revision, all()));
        assert_eq!(found.is_ok(), fits, "{revision}: {found:?}");
    }
}

//! What one request may look at and return.

use super::*;

const QUEUES: usize = 4;
const ENTRIES: usize = 5;

/// Returns a store of some queues whose requests may look at this many keys, and return this many
/// bytes.
fn store(request_keys: usize, answer_bytes: usize) -> Machine {
    let limits = Limits::default()
        .with_request_keys(request_keys)
        .with_request_answer_bytes(answer_bytes);
    let mut machine = Machine::new(limits);
    for queue in 0..QUEUES {
        for entry in 0..ENTRIES {
            machine.set(&format!("q/{queue}/{entry}"), "0123456789");
        }
    }
    machine
}

/// Returns the bytes of a key and its value in that store.
fn entry_bytes() -> usize {
    "q/0/0".len() + "0123456789".len()
}

fn read(keys: KeyRange) -> Range {
    Range::all(keys)
}

fn is_too_many<T: std::fmt::Debug>(done: Result<T, Error>) -> bool {
    match done {
        Ok(_) => false,
        Err(Error::TooManyKeys { .. }) => true,
        Err(other) => panic!("{other}"),
    }
}

fn is_too_large<T: std::fmt::Debug>(done: Result<T, Error>) -> bool {
    match done {
        Ok(_) => false,
        Err(Error::AnswerTooLarge { .. }) => true,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_request_looks_at_no_more_keys_than_it_may() {
    let part = || span("q/0/0", "q/1/3");
    let within = |limit| store(limit, usize::MAX);
    let changes = Changes::default;
    for (limit, refused) in [(5, true), (16, false)] {
        let mut machine = within(limit);
        assert_eq!(is_too_many(machine.range(&read(part()))), refused);
        let only_counted = Range {
            count_only: true,
            ..read(part())
        };
        assert_eq!(is_too_many(machine.range(&only_counted)), refused);
        let compared = Txn {
            compare: vec![compare(
                part(),
                CompareOp::Greater,
                CompareTarget::Version(0),
            )],
            ..Txn::default()
        };
        assert_eq!(is_too_many(machine.txn(&compared, &mut changes())), refused);
        let deleted = machine.delete(&delete(part()), &mut changes());
        assert_eq!(is_too_many(deleted), refused);
        let left = machine.key_count();
        assert_eq!(left < QUEUES * ENTRIES, !refused, "{left}");
    }
}

#[test]
fn the_operations_of_a_transaction_share_what_it_may_look_at() {
    let queue = |number: usize| KeyRange::One(Bytes::from(format!("q/{number}/0")));
    let reads = |count: usize| {
        let ops = (0..count).map(|n| Op::Range(read(queue(n % QUEUES))));
        let nested = Op::Txn(then(ops.clone().collect()));
        then(ops.chain([nested]).collect())
    };
    let mut machine = store(16, usize::MAX);
    let mut done = |count| machine.txn(&reads(count), &mut Changes::default());
    assert!(!is_too_many(done(4)));
    assert!(is_too_many(done(5)));
}

#[test]
fn an_entry_and_a_page_are_found_without_looking_at_the_others() {
    let machine = store(3 * QUEUES, usize::MAX);
    let predecessor = Range {
        limit: 1,
        sort_target: SortTarget::Create,
        sort_order: SortOrder::Descend,
        max_create_revision: 4,
        ..read(KeyRange::prefix("q/0/"))
    };
    assert_eq!(machine.range(&predecessor).unwrap().kvs.len(), 1);
    let page = Range {
        limit: 2 * QUEUES - 1,
        ..read(KeyRange::prefix("q/"))
    };
    let page = machine.range(&page).unwrap();
    assert_eq!(page.kvs.len(), 2 * QUEUES - 1);
    assert_eq!(page.count, (QUEUES * ENTRIES) as u64);
    assert!(is_too_many(machine.range(&read(KeyRange::prefix("q/")))));
}

#[test]
fn a_reader_finds_what_it_waits_for_without_looking_at_the_others() {
    const OTHERS: usize = 1_000;
    let mut machine = Machine::new(Limits::default().with_request_keys(10));
    // Those of etcd's mutex are no directory of their own.
    for directory in ["", "read/", "write/"] {
        for entry in 0..OTHERS {
            machine.set(&format!("q/{directory}{entry}"), "");
        }
    }
    let nearest = |keys| {
        let found = machine.range(&Range {
            limit: 1,
            sort_target: SortTarget::Create,
            sort_order: SortOrder::Descend,
            ..read(keys)
        });
        let found = found.unwrap();
        (names(&found).concat(), found.count as usize)
    };
    assert_eq!(nearest(span("q/", "q/read/")), ("q/999".into(), OTHERS));
    let writers = nearest(span("q/read0", "q0"));
    assert_eq!(writers, ("q/write/999".into(), OTHERS));
}

#[test]
fn a_directory_that_a_range_cuts_in_the_middle_costs_what_is_looked_at() {
    let half = || Range {
        count_only: true,
        ..read(span("q/", "q/5"))
    };
    for (limit, refused) in [(50, true), (55, false)] {
        let mut machine = Machine::new(Limits::default().with_request_keys(limit));
        for entry in 0..100 {
            machine.set(&format!("q/{entry:02}"), "");
        }
        let counted = machine.range(&half());
        assert_eq!(is_too_many(counted), refused, "{limit}");
    }
}

#[test]
fn an_answer_is_no_longer_than_it_may_be() {
    let all = QUEUES * ENTRIES * entry_bytes();
    assert!(!is_too_large(
        store(1000, all).range(&read(KeyRange::all()))
    ));
    let machine = store(1000, all - 1);
    assert!(is_too_large(machine.range(&read(KeyRange::all()))));
    let keys_only = Range {
        keys_only: true,
        ..read(KeyRange::all())
    };
    assert!(!is_too_large(machine.range(&keys_only)));
    let short = Range {
        limit: 3,
        ..read(KeyRange::all())
    };
    assert!(!is_too_large(machine.range(&short)));
}

#[test]
fn a_refused_transaction_has_written_nothing() {
    let half = QUEUES * ENTRIES * entry_bytes() / 2;
    let mut machine = store(1000, half);
    let before = machine.revision();
    let asked = then(vec![
        Op::Put(put("new", "value")),
        Op::Range(read(KeyRange::all())),
    ]);
    let mut changes = Changes::default();
    assert!(is_too_large(machine.txn(&asked, &mut changes)));
    let previous = Delete {
        prev_kv: true,
        ..delete(KeyRange::all())
    };
    assert!(is_too_large(machine.delete(&previous, &mut changes)));
    assert!(changes.is_empty());
    assert_eq!(machine.revision(), before);
    assert_eq!(machine.key_count(), QUEUES * ENTRIES);
}

#[test]
fn what_a_transaction_has_put_counts_in_its_own_answer() {
    let value = "v".repeat(100);
    let mut machine = store(1000, 250);
    let ops = |reads: usize| {
        let read = Op::Range(read(KeyRange::One(Bytes::from_static(b"q/0/0"))));
        let reads = std::iter::repeat_n(read, reads);
        then(
            std::iter::once(Op::Put(put("q/0/0", &value)))
                .chain(reads)
                .collect(),
        )
    };
    assert!(!is_too_large(machine.txn(&ops(1), &mut Changes::default())));
    assert!(is_too_large(machine.txn(&ops(3), &mut Changes::default())));
}

#[test]
fn a_lease_has_no_more_keys_than_it_may() {
    let mut machine = Machine::new(Limits::default().with_lease_keys(2));
    let mut changes = Changes::default();
    machine
        .grant(Duration::ZERO, 7, Duration::from_secs(10), &mut changes)
        .unwrap();
    for key in ["a", "b", "a"] {
        machine.put(&put_on(key, 7), &mut changes).unwrap();
    }
    let refused = machine.put(&put_on("c", 7), &mut changes);
    assert!(matches!(refused, Err(Error::TooManyLeaseKeys { limit: 2 })));
    machine.delete(&delete(one("a")), &mut changes).unwrap();
    machine.put(&put_on("c", 7), &mut changes).unwrap();
}

#[test]
fn a_queue_has_no_more_entries_than_it_may() {
    let mut machine = Machine::new(Limits::default().with_queue_entries(2));
    let mut changes = Changes::default();
    machine
        .grant(Duration::ZERO, 7, Duration::from_secs(10), &mut changes)
        .unwrap();
    for key in ["q/1", "q/2", "q/1", "other/1"] {
        machine.put(&put_on(key, 7), &mut changes).unwrap();
    }
    let refused = machine.put(&put_on("q/3", 7), &mut changes);
    let refused = refused.expect_err("it is full");
    assert!(matches!(refused, Error::QueueFull { entries: 2 }));
    assert!(refused.to_string().contains("no place 3"), "{refused}");
    // What is no contender has room.
    machine.set("q/3", "no lease");
    for session in ["t/@session/1", "t/@session/2", "t/@session/3"] {
        machine.put(&put_on(session, 7), &mut changes).unwrap();
    }
    for key in ["q/1", "q/3"] {
        machine.delete(&delete(one(key)), &mut changes).unwrap();
    }
    machine.put(&put_on("q/4", 7), &mut changes).unwrap();
    // Those of one transaction count together.
    let entries = |keys: &[&str]| Txn {
        then: keys.iter().map(|key| Op::Put(put_on(key, 7))).collect(),
        ..Txn::default()
    };
    let refused = machine.txn(&entries(&["r/1", "r/2", "r/3"]), &mut changes);
    let refused = refused.expect_err("no room for the third");
    assert!(matches!(refused, Error::QueueFull { entries: 2 }));
    let accepted = machine.txn(&entries(&["r/1", "s/1", "r/2", "s/2"]), &mut changes);
    accepted.unwrap();
}

#[cfg(feature = "server")]
#[test]
fn a_light_request_is_told_from_a_heavy_one() {
    let mut machine = Machine::new(Limits::default());
    for number in 0..1_200 {
        machine.set(&format!("k{number}"), "v");
    }
    let mut changes = Changes::default();
    let light = Range {
        count_only: true,
        ..read(KeyRange::One(Bytes::from_static(b"k1")))
    };
    let heavy = read(KeyRange::prefix("k"));
    assert!(machine.range_if_light(&light).unwrap().is_some());
    assert!(machine.range_if_light(&heavy).unwrap().is_none());
    let with_write = then(vec![Op::Put(put("new", "v")), Op::Range(heavy)]);
    let done = machine.txn_if_light(&with_write, &mut changes);
    assert!(done.unwrap().is_none());
    let all = delete(KeyRange::prefix("k"));
    let done = machine.delete_if_light(&all, &mut changes);
    assert!(done.unwrap().is_none());
    assert!(changes.is_empty(), "a heavy request has not been applied");
}

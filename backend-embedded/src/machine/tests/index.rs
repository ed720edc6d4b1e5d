//! The indexes against a plain scan, on drawn keys and ranges.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Set(Vec<usize>),
    Delete(usize),
    DeletePrefix(usize),
}

/// Keys in nested directories, with neighbours that a careless prefix would include.
const KEYS: &[&str] = &[
    "q",
    "q/",
    "q/1",
    "q/2",
    "q/3",
    "q/sub/1",
    "q/sub/2",
    "q/sub/deep/1",
    "q0",
    "q/s",
    "q/sub",
    "r/1",
    "r/2",
    "/",
    "//",
    "p/\u{7f}",
    "q\u{1}",
    "q.1",
    "q/read/1",
    "q/read/2",
    "q/write/1",
    "q/write/2",
    "q/read",
    "q/reae",
    "q/a/1",
    "q/x/1",
    "q/z",
    DEEP,
];

/// A key with more directories above it than are looked for.
const DEEP: &str = "q/////////////////////////////////////////1";

/// Where ranges begin and end, besides the keys.
const EDGES: &[&str] = &[
    "\0", "q/read/", "q/read0", "q/rf", "q/sub/d", "q/sub0", "q/w", "q/~", "q0/", "r", "s",
];
const PREFIXES: &[&str] = &[
    "",
    "q",
    "q/",
    "q/sub/",
    "q/sub",
    "r/",
    "/",
    "x/",
    "q/sub/deep/",
];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(0..KEYS.len(), 1..6).prop_map(Step::Set),
        2 => (0..KEYS.len()).prop_map(Step::Delete),
        1 => (0..PREFIXES.len()).prop_map(Step::DeletePrefix),
    ]
}

fn edge() -> impl Strategy<Value = &'static str> {
    prop_oneof![prop::sample::select(KEYS), prop::sample::select(EDGES)]
}

fn query() -> impl Strategy<Value = Range> {
    let targets = prop::sample::select(vec![
        SortTarget::Create,
        SortTarget::Create,
        SortTarget::Create,
        SortTarget::Key,
        SortTarget::Mod,
        SortTarget::Version,
        SortTarget::Value,
    ]);
    let orders = prop::sample::select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
    let keys = prop_oneof![
        2 => prop::sample::select(PREFIXES).prop_map(KeyRange::prefix),
        4 => (edge(), edge()).prop_map(|(start, end)| span(start, end)),
        1 => edge().prop_map(|start| KeyRange::Span { start: bytes(start), end: None }),
        1 => edge().prop_map(one),
        // What a reader asks for: all keys of a lock but those of other readers.
        1 => Just(span("q/", "q/read/")),
        1 => Just(span("q/read0", "q0")),
    ];
    let bound = || prop_oneof![2 => Just(0), 1 => 0..40u64, 1 => Just(u64::MAX)];
    let bounds = (bound(), bound(), bound(), bound());
    (keys, targets, orders, 0..6usize, bounds).prop_map(
        |(keys, sort_target, sort_order, limit, bounds)| Range {
            sort_target,
            sort_order,
            limit,
            min_create_revision: bounds.0,
            max_create_revision: bounds.1,
            min_mod_revision: bounds.2,
            max_mod_revision: bounds.3,
            ..Range::all(keys)
        },
    )
}

fn all_of(machine: &Machine) -> Vec<Arc<KeyValue>> {
    machine.range(&Range::all(KeyRange::all())).unwrap().kvs
}

/// Applies the rules of etcd's `Range`, step by step over all of these keys.
fn naive(all: &[Arc<KeyValue>], range: &Range) -> RangeResult {
    let within = all.iter().filter(|kv| range.keys.contains(&kv.key));
    let mut kvs: Vec<_> = within.cloned().collect();
    let count = kvs.len() as u64;
    let bounds = [
        range.min_mod_revision,
        range.max_mod_revision,
        range.min_create_revision,
        range.max_create_revision,
    ];
    if range.sort_order == SortOrder::None && bounds == [0; 4] && range.limit > 0 {
        kvs.truncate(range.limit + 1);
    }
    let below = |revision: u64, max: u64| max == 0 || revision <= max;
    kvs.retain(|kv| {
        kv.mod_revision >= range.min_mod_revision
            && below(kv.mod_revision, range.max_mod_revision)
            && kv.create_revision >= range.min_create_revision
            && below(kv.create_revision, range.max_create_revision)
    });
    let number = |kv: &KeyValue| match range.sort_target {
        SortTarget::Create => kv.create_revision,
        SortTarget::Mod => kv.mod_revision,
        SortTarget::Version => kv.version,
        SortTarget::Key | SortTarget::Value => 0,
    };
    kvs.sort_by_key(|kv| {
        let value = (range.sort_target == SortTarget::Value).then(|| kv.value.clone());
        (number(kv), value, kv.key.clone())
    });
    if range.sort_order == SortOrder::Descend {
        kvs.reverse();
    }
    let more = range.limit > 0 && kvs.len() > range.limit;
    if more {
        kvs.truncate(range.limit);
    }
    RangeResult { kvs, more, count }
}

fn apply(machine: &mut Machine, step: Step, changes: &mut Changes) {
    match step {
        Step::Set(mut keys) => {
            keys.sort_unstable();
            keys.dedup();
            let put = |&key: &usize| Op::Put(put(KEYS[key], &key.to_string()));
            let txn = then(keys.iter().map(put).collect());
            machine.txn(&txn, changes).unwrap();
        }
        Step::Delete(key) => {
            machine.delete(&delete(one(KEYS[key])), changes).unwrap();
        }
        Step::DeletePrefix(prefix) => {
            let keys = KeyRange::prefix(PREFIXES[prefix]);
            machine.delete(&delete(keys), changes).unwrap();
        }
    }
}

proptest! {
    #[test]
    fn the_index_answers_as_a_scan_would_now_and_in_the_past(
        steps in prop::collection::vec(step(), 0..40),
        queries in prop::collection::vec(query(), 20),
    ) {
        let mut machine = machine();
        let mut changes = Changes::default();
        let mut past = vec![(machine.revision(), all_of(&machine))];
        for step in steps {
            apply(&mut machine, step, &mut changes);
            past.push((machine.revision(), all_of(&machine)));
        }
        for query in queries {
            let found = machine.range(&query).unwrap();
            let extent = crate::machine::range::extent(&machine.keys, &query, usize::MAX);
            prop_assert!(found.kvs.len() <= extent.returned, "{:?}", query);
            let only_counted = Range { count_only: true, ..query.clone() };
            prop_assert_eq!(machine.range(&only_counted).unwrap().count, found.count);
            prop_assert_eq!(found, naive(&all_of(&machine), &query), "{:?}", query);
            for (revision, all) in &past {
                let query = Range { revision: *revision, ..query.clone() };
                let found = machine.range(&query).unwrap();
                prop_assert_eq!(found, naive(all, &query), "{:?}", query);
            }
        }
        machine.delete(&delete(KeyRange::all()), &mut changes).unwrap();
        prop_assert_eq!(machine.bytes(), 0);
        prop_assert_eq!(machine.range(&Range::all(KeyRange::prefix("q/"))).unwrap().count, 0);
    }
}

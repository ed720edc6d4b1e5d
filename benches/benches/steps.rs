//! The steps of an acquire that need no I/O: the rule, names and keys, the state machine.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use backend_kit::keyspace::Keyspace;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use lock_core::rule::{self, Ahead, View};
use lock_core::{EntryId, Incarnation, LockName, Metadata, Mode, SessionId, Ticket};
use turnlock::embedded::Limits;
use turnlock::embedded::machine::op::{
    Compare, CompareOp, CompareTarget, Delete, KeyRange, Op, Put, Range, SortOrder, SortTarget, Txn,
};
use turnlock::embedded::machine::{Changes, Machine};

const LEASE: i64 = 7;

fn rule(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rule");
    let ahead = Ahead {
        id: EntryId {
            key: b"turnlock/a/write/7-1".as_slice().into(),
            incarnation: Incarnation::new(1),
        },
        mode: Mode::Exclusive,
    };
    let view = View {
        present: true,
        ahead: vec![ahead],
    };
    group.bench_function("judge a blocked entry", |bencher| {
        bencher.iter(|| rule::judge(Mode::Shared, black_box(&view)));
    });
    let queue = vec![Mode::Shared; 1000];
    group.bench_function("holders of 1,000", |bencher| {
        bencher.iter(|| rule::count_holders(black_box(&queue).iter().copied()));
    });
}

fn names(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("names");
    let text = "accounts/ledger/2026 März";
    group.bench_function("check", |bencher| {
        bencher.iter(|| LockName::new(black_box(text)));
    });
    let keyspace = Keyspace::default();
    let ticket = ticket(LockName::new(text).expect("a valid name"));
    group.bench_function("encode as a key", |bencher| {
        bencher.iter(|| keyspace.entry_key(SessionId(LEASE), black_box(&ticket), 12));
    });
    let key = keyspace.entry_key(SessionId(LEASE), &ticket, 12);
    group.bench_function("decode a key", |bencher| {
        bencher.iter(|| keyspace.name_of(black_box(key.as_bytes())));
    });
}

fn ticket(name: LockName) -> Ticket {
    Ticket {
        name,
        mode: Mode::Exclusive,
        serial: 12,
        metadata: Arc::new(Metadata::default()),
    }
}

/// Measures the transactions of an acquire and a release, as the sessions make them.
fn machine(criterion: &mut Criterion) {
    for waiting in [0, 10, 1_000, 10_000] {
        let name = format!("queue up and leave behind {waiting}");
        let queue = queue_of(waiting, "write/");
        let key = "queue/write/last";
        measure(criterion, &name, queue, || {
            vec![enqueue(key, Mode::Exclusive), leave(key)]
        });
    }
    for waiting in [10, 1_000, 10_000, 100_000] {
        let behind = |name: String, queue: Machine, criterion: &mut Criterion| {
            let (key, own) = ("queue/read/last", queue.revision() + 1);
            measure(criterion, &name, queue, || {
                vec![
                    enqueue(key, Mode::Shared),
                    look(Mode::Shared, own),
                    leave(key),
                ]
            });
        };
        let name = format!("share behind {waiting} writers");
        behind(name, queue_of(waiting, "write/"), criterion);
        let name = format!("share behind {waiting} keys of etcd's mutex");
        behind(name, queue_of(waiting, ""), criterion);
        let name = format!("share behind a writer and {waiting} readers");
        let mut queue = queue_of(1, "write/");
        fill(&mut queue, waiting, "read/");
        behind(name, queue, criterion);
    }
}

fn measure(
    criterion: &mut Criterion,
    name: &str,
    mut queue: Machine,
    requests: impl Fn() -> Vec<Txn>,
) {
    let mut group = criterion.benchmark_group("state machine");
    group.bench_function(name, |bencher| {
        bencher.iter_batched(
            &requests,
            |requests| {
                let mut changes = Changes::default();
                for request in requests {
                    let done = queue.txn(&request, &mut changes);
                    assert!(done.is_ok_and(|done| done.succeeded));
                }
                changes
            },
            BatchSize::SmallInput,
        );
    });
}

fn queue_of(waiting: usize, directory: &str) -> Machine {
    let mut machine = Machine::new(Limits::default().with_lease_keys(usize::MAX));
    let mut changes = Changes::default();
    let ttl = Duration::from_secs(10);
    let granted = machine.grant(Duration::ZERO, LEASE, ttl, &mut changes);
    granted.expect("a valid lease");
    fill(&mut machine, waiting, directory);
    machine
}

fn fill(machine: &mut Machine, waiting: usize, directory: &str) {
    for number in 0..waiting {
        let key = format!("queue/{directory}{number:x}");
        let placed = machine.put(&entry(&key), &mut Changes::default());
        placed.expect("a valid request");
    }
}

fn entry(key: &str) -> Put {
    Put {
        key: key.to_owned().into(),
        value: Some("metadata".into()),
        lease: Some(LEASE),
        prev_kv: false,
    }
}

fn enqueue(key: &str, mode: Mode) -> Txn {
    let put = [Op::Put(entry(key))].into_iter();
    Txn {
        compare: vec![Compare {
            keys: KeyRange::One(key.to_owned().into()),
            op: CompareOp::Equal,
            target: CompareTarget::Create(0),
        }],
        then: put.chain(nearest(mode, 2, 0)).collect(),
        or_else: vec![],
    }
}

fn look(mode: Mode, own: u64) -> Txn {
    Txn {
        then: nearest(mode, 1, own - 1).collect(),
        ..Txn::default()
    }
}

/// Returns the reads of the nearest entries that one of this mode waits for.
fn nearest(mode: Mode, limit: usize, max_create_revision: u64) -> impl Iterator<Item = Op> {
    let name = LockName::raw("queue").expect("a valid name");
    let spans = Keyspace::default()
        .ahead(&name, rule::ask(mode))
        .into_iter();
    spans.map(move |span| {
        let keys = KeyRange::Span {
            start: span.start.into(),
            end: Some(span.end.into()),
        };
        Op::Range(Range {
            limit,
            sort_target: SortTarget::Create,
            sort_order: SortOrder::Descend,
            max_create_revision,
            keys_only: true,
            ..Range::all(keys)
        })
    })
}

fn leave(key: &str) -> Txn {
    let delete = Delete {
        keys: KeyRange::One(key.to_owned().into()),
        prev_kv: false,
    };
    Txn {
        compare: vec![],
        then: vec![Op::Delete(delete)],
        or_else: vec![],
    }
}

criterion_group!(steps, rule, names, machine);
criterion_main!(steps);

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
    let mut group = criterion.benchmark_group("state machine");
    for waiting in [0, 10, 1_000, 10_000] {
        let name = format!("queue up and leave behind {waiting}");
        let mut machine = queue_of(waiting);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || (enqueue("queue/write/last"), leave("queue/write/last")),
                |(enqueue, leave)| {
                    let mut changes = Changes::default();
                    let placed = machine.txn(&enqueue, &mut changes);
                    assert!(placed.is_ok_and(|placed| placed.succeeded));
                    let left = machine.txn(&leave, &mut changes);
                    assert!(left.is_ok_and(|left| left.succeeded));
                    changes
                },
                BatchSize::SmallInput,
            );
        });
    }
}

fn queue_of(waiting: usize) -> Machine {
    let mut machine = Machine::new(Limits::default());
    let mut changes = Changes::default();
    let ttl = Duration::from_secs(10);
    let granted = machine.grant(Duration::ZERO, LEASE, ttl, &mut changes);
    granted.expect("a valid lease");
    for number in 0..waiting {
        let placed = machine.txn(&enqueue(&format!("queue/write/{number}")), &mut changes);
        placed.expect("a valid request");
    }
    machine
}

fn enqueue(key: &str) -> Txn {
    let put = Put {
        key: key.to_owned().into(),
        value: Some("metadata".into()),
        lease: Some(LEASE),
        prev_kv: false,
    };
    let nearest = Range {
        limit: 2,
        sort_target: SortTarget::Create,
        sort_order: SortOrder::Descend,
        keys_only: true,
        ..Range::all(KeyRange::prefix("queue/"))
    };
    Txn {
        compare: vec![Compare {
            keys: KeyRange::One(key.to_owned().into()),
            op: CompareOp::Equal,
            target: CompareTarget::Create(0),
        }],
        then: vec![Op::Put(put), Op::Range(nearest)],
        or_else: vec![],
    }
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

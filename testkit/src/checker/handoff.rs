//! Checks L2: while there is no fault, the contender that is next gets its turn at once.

use std::time::Duration;

use lock_core::Mode;
use lock_core::clock::BootInstant;

use super::{Blame, Case, Rule, before};
use crate::history::{Entry, Op, Outcome};

/// The instants by which entries were gone: the exclusive ones, and all.
#[derive(Clone, Copy)]
struct Gone {
    exclusive: BootInstant,
    any: BootInstant,
}

pub fn check(case: &mut Case) {
    let Some(limit) = case.history.store.handoff else {
        return;
    };
    let mut entries: Vec<&Entry> = case.history.entries.iter().collect();
    entries.sort_by_key(|entry| (&entry.lock, entry.created));
    for queue in entries.chunk_by(|a, b| a.lock == b.lock) {
        let start = BootInstant::from_nanos(0);
        let mut ahead = Gone {
            exclusive: start,
            any: start,
        };
        for entry in queue {
            let free = match entry.mode {
                Mode::Exclusive => ahead.any,
                Mode::Shared => ahead.exclusive,
            };
            judge(case, entry, free, limit);
            let gone = entry.deleted.map(|deletion| deletion.to);
            let gone = gone.and_then(|revision| case.timeline.not_after(revision));
            let gone = gone.unwrap_or(BootInstant::from_nanos(u64::MAX));
            ahead.any = ahead.any.max(gone);
            if entry.mode == Mode::Exclusive {
                ahead.exclusive = ahead.exclusive.max(gone);
            }
        }
    }
}

/// Checks that an entry before which the lock was free since an instant did not stay without an
/// answer for longer than the limit.
fn judge(case: &mut Case, entry: &Entry, free: BootInstant, limit: Duration) {
    let Some(op) = case.op_of(entry) else { return };
    let Some(made) = case.timeline.not_after(entry.created) else {
        return;
    };
    let (turn, ttl) = (made.max(free), case.history.store.ttl);
    let late = case.calm_after(op.id.contender, before(turn, ttl), ttl + limit);
    let gone = entry.deleted.map(|deletion| deletion.from);
    let gone = gone.and_then(|revision| case.timeline.not_before(revision));
    let ends = [answered(op), op.died, gone, case.history.end.over];
    let waited_until = ends.into_iter().flatten().min();
    if waited_until.is_some_and(|until| until > late) {
        let what = format!(
            "{} was next for {}, and was not told for {limit:?} without a fault",
            op.id, op.lock
        );
        case.violate(Rule::L2, Blame::Ours, what, &[op.id]);
    }
}

fn answered(op: &Op) -> Option<BootInstant> {
    match &op.outcome {
        Outcome::Open => None,
        Outcome::Granted(_, at) | Outcome::Refused(_, at) | Outcome::Cancelled(at) => Some(*at),
    }
}

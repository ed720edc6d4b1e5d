//! Checks B1, B2 and B3: the beliefs of holders.

use lock_core::Mode;
use lock_core::clock::BootInstant;

use super::{Blame, Case, Rule, before};
use crate::history::{Op, OpId, Role};

pub fn check(case: &mut Case) {
    let mut grants: Vec<&Op> = case.history.ops.iter().collect();
    grants.retain(|op| op.grant().is_some() && op.role != Role::Place);
    grants.sort_by_key(|op| (&op.lock, op.grant()));
    for grants in grants.chunk_by(|a, b| a.lock == b.lock) {
        one_at_a_time(case, grants);
    }
    for op in grants {
        check_loss_reports(case, op);
        valid_before_the_deadline(case, op);
    }
}

/// The earliest instant at which the lock can be given to the next holder, and the acquire that
/// keeps it until then.
type Earliest = Option<(BootInstant, OpId)>;

/// Checks B1 for one lock's grants, by token. A hold begins when it was asked for at the earliest,
/// and lasts at least as long as its holder believes. The next hold that excludes it begins after
/// that.
fn one_at_a_time(case: &mut Case, grants: &[&Op]) {
    let mut exclusive: Earliest = None;
    let mut shared: Earliest = None;
    for op in grants {
        let Some((_, told)) = op.grant() else {
            continue;
        };
        let earliest = match op.mode {
            Mode::Exclusive => exclusive.max(shared),
            Mode::Shared => exclusive,
        };
        if let Some((until, other)) = earliest
            && told < until
        {
            let session = case.ops.get(&other).and_then(|op| case.entry_of(op));
            let broken = session.and_then(|entry| case.broken.get(&entry.session));
            let what = format!(
                "{other} held {} by its own belief for {:?} after {} was granted it",
                op.lock,
                until.saturating_since(told),
                op.id
            );
            let blame = broken.copied().unwrap_or(Blame::Ours);
            case.violate(Rule::B1, blame, what, &[other, op.id]);
        }
        let begins = earliest.filter(|(until, _)| *until <= told);
        let believed = op.believed_until().filter(|until| *until > told);
        let ends = begins.max(Some((believed.unwrap_or(op.called).max(op.called), op.id)));
        match op.mode {
            Mode::Exclusive => exclusive = exclusive.max(ends),
            Mode::Shared => shared = shared.max(ends),
        }
    }
}

/// Checks B2: a loss is reported once, in time, and for ever.
fn check_loss_reports(case: &mut Case, op: &Op) {
    let signalled = op.lost.first().copied();
    let denied = op.shown.iter().find(|shown| !shown.valid);
    let lost = [signalled, denied.map(|shown| shown.asked)];
    let lost = lost.into_iter().flatten().min();
    let revived = |lost| {
        op.shown
            .iter()
            .any(|shown| shown.valid && shown.asked > lost)
    };
    let wrong = if op.lost.len() > 1 {
        Some(format!("{} times", op.lost.len()))
    } else if lost.is_some_and(revived) {
        Some("and was told to be valid again".to_owned())
    } else if is_loss_unreported(case, op) {
        Some("at its server, and did not hear of it in time".to_owned())
    } else {
        None
    };
    if let Some(wrong) = wrong {
        let what = format!("{} lost {} {wrong}", op.id, op.lock);
        case.violate(Rule::B2, Blame::Ours, what, &[op.id]);
    }
}

/// Returns whether a hold's entry was gone and the holder went on without a report, although there
/// was no fault for some time.
fn is_loss_unreported(case: &Case, op: &Op) -> bool {
    let Some(deletion) = case.entry_of(op).and_then(|entry| entry.deleted) else {
        return false;
    };
    let Some(gone) = case.timeline.not_after(deletion.to) else {
        return false;
    };
    let ttl = case.history.store.ttl;
    let late = case.calm_after(op.id.contender, before(gone, ttl), ttl * 2 + super::SLACK);
    let mut noticed = [op.release, op.lost.first().copied(), op.died]
        .into_iter()
        .flatten();
    let end = noticed.clone().min().or(case.history.end.over);
    end.is_some_and(|end| end > late) && noticed.all(|noticed| noticed > late)
}

/// Checks B3: "valid" is reported before the deadline only.
fn valid_before_the_deadline(case: &mut Case, op: &Op) {
    let late = op
        .shown
        .iter()
        .find(|shown| shown.valid && shown.until.is_some_and(|until| shown.asked >= until));
    if let Some(shown) = late {
        let after = shown.until.map(|until| shown.asked.saturating_since(until));
        let what = format!(
            "{} was told that it holds {}, {:?} after its deadline",
            op.id,
            op.lock,
            after.unwrap_or_default()
        );
        case.violate(Rule::B3, Blame::Ours, what, &[op.id]);
    }
}

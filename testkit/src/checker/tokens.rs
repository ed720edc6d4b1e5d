//! Checks S2 and S6: tokens are those of entries, rise in real time, and are not forgotten.

use lock_core::clock::BootInstant;

use super::{Blame, Case, Rule};
use crate::history::{Entry, Op, OpId, Role};

pub fn check(case: &mut Case) {
    of_their_entries(case);
    let mut grants: Vec<&Op> = case.history.ops.iter().collect();
    grants.retain(|op| op.grant().is_some() && op.role != Role::Place);
    grants.sort_by_key(|op| (&op.lock, op.grant()));
    for grants in grants.chunk_by(|a, b| a.lock == b.lock) {
        let is_reported = |op: &&Op| {
            op.grant()
                .map(|(token, at)| (token.0, op.called, at, op.id))
        };
        rise(
            case,
            Rule::S2,
            grants.iter().filter_map(is_reported).collect(),
        );
    }
    let placed = |op: &Op| {
        let (token, at) = op.placed?;
        let (_, asked) = op.asked.first()?;
        Some((token.0, *asked, at, op.id))
    };
    let mut placed: Vec<_> = case.history.ops.iter().filter_map(placed).collect();
    placed.sort_unstable();
    rise(case, Rule::S6, placed);
    check_recorded(case);
}

/// Checks that the token of a grant is that of an entry of its own: of this acquire, lock, mode and
/// session.
fn of_their_entries(case: &mut Case) {
    for op in &case.history.ops {
        let Some((token, _)) = op.grant() else {
            continue;
        };
        let wrong = match case.entry_of(op) {
            None if case.in_gap(token) => continue,
            None => "is of no entry that the server ever had".to_owned(),
            Some(entry) if !may_hold_by(case, op, entry) => {
                format!("is of another's entry, {}", entry.key)
            }
            Some(entry) if entry.lock != op.lock || entry.mode != op.mode => {
                format!("is of an entry for {} ({})", entry.lock, entry.mode)
            }
            Some(entry)
                if op.role != Role::Turn && op.asked.iter().all(|(id, _)| *id != entry.session) =>
            {
                format!("is of an entry of session {}, not its own", entry.session)
            }
            Some(_) => continue,
        };
        let what = format!("the token {token} that {} was granted {wrong}", op.id);
        case.violate(Rule::S2, Blame::Ours, what, &[op.id]);
    }
}

/// Returns whether an acquire may hold by this entry: its own, or that of a place of its process.
fn may_hold_by(case: &Case, op: &Op, entry: &Entry) -> bool {
    let is_own_process = |place: &Op| {
        place.role == Role::Place
            && (place.id.contender, place.id.life) == (op.id.contender, op.id.life)
    };
    match op.role {
        Role::Contender | Role::Place => entry.op == Some(op.id),
        Role::Turn => case.op_of(entry).is_some_and(is_own_process),
    }
}

/// Checks tokens in rising order: none was given out before a lower one was asked for, and none
/// twice.
fn rise(case: &mut Case, rule: Rule, tokens: Vec<(u64, BootInstant, BootInstant, OpId)>) {
    let blame = match rule {
        Rule::S6 if !case.history.store.ours => Blame::Server,
        _ => Blame::Ours,
    };
    let mut asked_last: Option<(u64, BootInstant, OpId)> = None;
    for (token, asked, given, id) in tokens {
        if let Some((lower, at, other)) = asked_last {
            let what = if lower == token && rule == Rule::S2 && !are_turns(case, [other, id]) {
                Some(format!("{other} and {id} were both granted token {token}"))
            } else if at > given && lower < token {
                Some(format!(
                    "{id} had token {token} before {other} asked and was given {lower}"
                ))
            } else {
                None
            };
            if let Some(what) = what {
                case.violate(rule, blame, what, &[other, id]);
            }
        }
        if asked_last.is_none_or(|(_, at, _)| at <= asked) {
            asked_last = Some((token, asked, id));
        }
    }
}

fn are_turns(case: &Case, ops: [OpId; 2]) -> bool {
    let is_turn = |id| case.ops.get(&id).is_some_and(|op| op.role == Role::Turn);
    ops.into_iter().all(is_turn)
}

/// Checks that a place that the store acknowledged is in the store's record.
fn check_recorded(case: &mut Case) {
    let blame = if case.history.store.ours {
        Blame::Ours
    } else {
        Blame::Server
    };
    for op in &case.history.ops {
        let Some((token, _)) = op.placed else {
            continue;
        };
        if case.entries.contains_key(&token) || case.in_gap(token) {
            continue;
        }
        let what = format!(
            "the server acknowledged the entry {token} of {} and has no account of it",
            op.id
        );
        case.violate(Rule::S6, blame, what, &[op.id]);
    }
}

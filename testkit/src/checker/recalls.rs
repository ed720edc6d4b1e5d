//! Checks F1: whoever waits behind the place of a sticky lock is served in time.

use std::collections::HashMap;
use std::time::Duration;

use lock_core::Token;
use lock_core::clock::BootInstant;

use super::{Blame, Case, Rule, SLACK};
use crate::history::{Entry, Op, Role};

/// How long a process may not know that somebody waits behind its place: its keeper looks every 5 to
/// 10 s, since a store can lose an event.
const UNNOTICED: Duration = Duration::from_secs(10);

/// The longest overtime of the contenders.
pub const OVERTIME: Duration = Duration::from_secs(1);

pub fn check(case: &mut Case) {
    let mut turns: HashMap<(&str, Token), Vec<&Op>> = HashMap::new();
    for op in &case.history.ops {
        if let (Role::Turn, Some((token, _))) = (op.role, op.grant()) {
            turns.entry((&op.lock, token)).or_default().push(op);
        }
    }
    let mut entries: Vec<&Entry> = case.history.entries.iter().collect();
    entries.sort_by_key(|entry| (&entry.lock, entry.created));
    for pair in entries.windows(2) {
        let [place, behind] = [pair[0], pair[1]];
        let turns = turns.get(&(place.lock.as_str(), place.token));
        if place.lock == behind.lock
            && behind.created < place.first_absent_revision()
            && let Some(turns) = turns
        {
            judge(case, place, behind, turns);
        }
    }
}

/// Checks that no turn began long after somebody had queued behind its place, and that the place did not
/// stay long after its last turn.
fn judge(case: &mut Case, place: &Entry, behind: &Entry, turns: &[&Op]) {
    let Some(op) = case.op_of(place) else { return };
    let Some(made) = case.timeline.not_after(behind.created) else {
        return;
    };
    // The place may have had to wait for its own first turn.
    let Some((_, first)) = op.grant() else { return };
    let noticed = UNNOTICED + OVERTIME + SLACK;
    let late = case.calm_after(op.id.contender, made.max(first), noticed);
    // Whoever has left by then need not be served.
    let still_there = |at| {
        let left = behind
            .deleted
            .and_then(|deletion| case.timeline.not_before(deletion.from));
        behind.deleted.is_none() || left.is_some_and(|left| left > at)
    };
    let overtime = turns.iter().find(|turn| {
        let begun = turn.grant().map(|(_, at)| at);
        begun.is_some_and(|begun| begun > late) && still_there(turn.called.max(late))
    });
    let ended = |turn: &&Op| turn.over().unwrap_or(BootInstant::from_nanos(u64::MAX));
    let last = turns.iter().map(ended).max().unwrap_or(made).max(made);
    let stays_until = match place.deleted {
        Some(deletion) => case.timeline.not_before(deletion.from),
        None => case.history.end.over,
    };
    let late = case.calm_after(op.id.contender, last, noticed + case.history.store.recovery);
    let stays =
        op.died.is_none() && stays_until.is_some_and(|until| until > late) && still_there(late);
    let what = match (overtime, stays) {
        (Some(turn), _) => format!("{} began its turn long after", turn.id),
        (None, true) => "nobody used it, and it stayed".to_owned(),
        (None, false) => return,
    };
    let what = format!(
        "{} stood behind the place {} of {} in the queue of {}: {what}",
        behind.key, place.key, op.id, place.lock
    );
    let ops: Vec<_> = [Some(op.id), behind.op, overtime.map(|turn| turn.id)]
        .into_iter()
        .flatten()
        .collect();
    case.violate(Rule::F1, Blame::Ours, what, &ops);
}

//! Checks F1: whoever waits behind the place of a sticky lock is served in time.

use std::collections::HashMap;
use std::time::Duration;

use lock_core::Token;
use lock_core::clock::BootInstant;

use super::{Blame, Case, Rule, SLACK};
use crate::history::{Entry, Op, OpId, Role};

/// How long a process may not know that somebody waits behind its place, if the store can lose an
/// event: its keeper asks every 5 to 10 s.
const UNNOTICED: Duration = Duration::from_secs(10);

/// How long a keeper waits for answers until it gives the place up: two questions and a pause.
const UNANSWERED: Duration = Duration::from_secs(11);

/// The longest overtime of the contenders.
pub const OVERTIME: Duration = Duration::from_secs(1);
/// The longest time for which they keep a lock that they do not use.
pub const IDLE: Duration = Duration::from_secs(3);

/// A place, with all turns that it gave.
struct Place<'a> {
    op: &'a Op,
    entry: &'a Entry,
    turns: &'a [&'a Op],
    /// When the first turn began.
    first: BootInstant,
    /// How long a recall may take while there is no fault.
    limit: Duration,
}

pub fn check(case: &mut Case) {
    let mut turns: HashMap<(&str, Token), Vec<&Op>> = HashMap::new();
    for op in &case.history.ops {
        if let (Role::Turn, Some((token, _))) = (op.role, op.grant()) {
            turns.entry((&op.lock, token)).or_default().push(op);
        }
    }
    let limit = match case.history.store.handoff {
        Some(handoff) => UNANSWERED + OVERTIME + handoff,
        None => UNANSWERED + OVERTIME + UNNOTICED + SLACK,
    };
    let mut entries: Vec<&Entry> = case.history.entries.iter().collect();
    entries.sort_by_key(|entry| (&entry.lock, entry.created));
    for (at, entry) in entries.iter().enumerate() {
        let turns = turns.get(&(entry.lock.as_str(), entry.token));
        let (Some(turns), Some(op)) = (turns, case.op_of(entry)) else {
            continue;
        };
        let Some((_, first)) = op.grant() else {
            continue;
        };
        let place = Place {
            op,
            entry,
            turns,
            first,
            limit,
        };
        let behind = entries[at + 1..].iter().take_while(|behind| {
            behind.lock == entry.lock && behind.created < entry.first_absent_revision()
        });
        let wrong = find_late_turn(&place)
            .or_else(|| find_idle(case, &place))
            .or_else(|| {
                behind
                    .clone()
                    .find_map(|behind| find_delay(case, &place, behind))
            });
        if let Some((what, others)) = wrong {
            let what = format!(
                "{}, a place of {} in the queue of {}: {what}",
                entry.key, op.id, op.lock
            );
            let ops: Vec<OpId> = others.into_iter().chain([op.id]).collect();
            case.violate(Rule::F1, Blame::Ours, what, &ops);
        }
    }
}

/// What is wrong, and the acquires that show it.
type Wrong = Option<(String, Vec<OpId>)>;

/// Finds a turn that began after the removal of its place was asked for.
fn find_late_turn(place: &Place) -> Wrong {
    let given_up = place.op.release?;
    let is_late = |turn: &&&Op| turn.grant().is_some_and(|(_, at)| at > given_up);
    let turn = place.turns.iter().find(is_late)?;
    Some((
        format!("{} began after it was given up", turn.id),
        vec![turn.id],
    ))
}

/// Returns when the last turn was over.
fn last_end(place: &Place) -> BootInstant {
    let ended = |turn: &&Op| turn.over().unwrap_or(BootInstant::from_nanos(u64::MAX));
    place
        .turns
        .iter()
        .map(ended)
        .fold(place.first, BootInstant::max)
}

/// Returns whether a place stayed for so long after an instant, with no fault in the last part of it.
fn stays(case: &Case, place: &Place, since: BootInstant, limit: Duration) -> Option<BootInstant> {
    let late = case.calm_after(
        place.op.id.contender,
        since,
        limit + case.history.store.recovery,
    );
    let until = match place.entry.deleted {
        Some(deletion) => case.timeline.not_before(deletion.from),
        None => case.history.end.over,
    };
    (place.op.died.is_none() && until.is_some_and(|until| until > late)).then_some(late)
}

/// Finds a place that nobody uses, longer than any contender keeps one.
fn find_idle(case: &Case, place: &Place) -> Wrong {
    stays(case, place, last_end(place), place.limit + IDLE)?;
    Some(("nobody used it, and it stayed".to_owned(), vec![]))
}

/// Finds a turn that began long after this entry had queued behind the place, or a place that stayed
/// long after its last turn although this entry waited.
fn find_delay(case: &Case, place: &Place, behind: &Entry) -> Wrong {
    let made = case.timeline.not_after(behind.created)?;
    // Whoever has left by then need not be served.
    let still_waits = |at| {
        let left = behind
            .deleted
            .and_then(|deletion| case.timeline.not_before(deletion.from));
        behind.deleted.is_none() || left.is_some_and(|left| left > at)
    };
    let told = |what: String, turn: Option<OpId>| {
        let what = format!("{} waits behind it, and {what}", behind.key);
        Some((what, behind.op.into_iter().chain(turn).collect()))
    };
    // The place may have had to wait for its own first turn.
    let since = made.max(place.first);
    let late = case.calm_after(place.op.id.contender, since, place.limit);
    let begins_late = |turn: &&&Op| {
        let begun = turn.grant().map(|(_, at)| at);
        begun.is_some_and(|begun| begun > late && still_waits(begun))
    };
    if let Some(turn) = place.turns.iter().find(begins_late) {
        return told(format!("{} begins", turn.id), Some(turn.id));
    }
    let late = stays(case, place, last_end(place).max(made), place.limit)?;
    match still_waits(late) {
        true => told("nobody used it".to_owned(), None),
        false => None,
    }
}

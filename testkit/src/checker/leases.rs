//! Checks S7: a session is not ended before the time that its last renewal gave it.

use std::collections::HashMap;

use lock_core::SessionId;
use lock_core::clock::BootInstant;

use super::{Blame, Case, Rule, before};
use crate::history::{Cause, Entry, OpId, Target};

/// The end of a session as seen from one of its entries, and the deadline that the session was
/// given.
#[derive(Clone, Copy)]
struct End {
    /// The latest possible instant of the end.
    by: BootInstant,
    entry: OpId,
}

pub fn check(case: &mut Case) {
    let mut deadlines: HashMap<SessionId, (BootInstant, OpId)> = HashMap::new();
    let mut ends: HashMap<SessionId, End> = HashMap::new();
    for entry in &case.history.entries {
        let Some(op) = case.op_of(entry) else {
            continue;
        };
        let shown = op.shown.iter().filter(|shown| shown.valid);
        if let Some(until) = shown.filter_map(|shown| shown.until).max() {
            let latest = deadlines.entry(entry.session).or_insert((until, op.id));
            *latest = (*latest).max((until, op.id));
        }
        if let Some(by) = find_session_removal(case, entry) {
            let end = End { by, entry: op.id };
            let earliest = ends.entry(entry.session).or_insert(end);
            if by < earliest.by {
                *earliest = end;
            }
        }
    }
    let mut early: Vec<_> = ends.into_iter().collect();
    early.sort_by_key(|(_, end)| end.by);
    for (session, end) in early {
        let Some((deadline, holder)) = deadlines.get(&session) else {
            continue;
        };
        if end.by >= *deadline {
            continue;
        }
        let blame = blame(case, *deadline, end.by);
        let what = format!(
            "session {session} was over {:?} before its deadline",
            deadline.saturating_since(end.by)
        );
        case.broken.insert(session, blame);
        case.violate(Rule::S7, blame, what, &[*holder, end.entry]);
    }
}

/// Returns the latest instant at which an entry was gone, if the end of its session removed it.
fn find_session_removal(case: &Case, entry: &Entry) -> Option<BootInstant> {
    let deletion = entry.deleted?;
    let by = (deletion.decided).or_else(|| case.timeline.not_after(deletion.to))?;
    let mut closed = case.history.closed.iter();
    if closed.any(|(session, at)| *session == entry.session && *at <= by) {
        return None;
    }
    let ended = match deletion.cause {
        Cause::SessionEnd => true,
        Cause::Request(_) => false,
        Cause::Unknown => {
            let op = case.op_of(entry)?;
            let asked = op.removals.iter().any(|removal| removal.called <= by);
            !asked && !case.lived_on(entry.session, deletion.to)
        }
    };
    ended.then_some(by)
}

/// Decides who is to blame. If the servers had no fault from the renewal on, they keep the
/// contract. Then the deadline was wrong, and that is ours.
fn blame(case: &Case, deadline: BootInstant, end: BootInstant) -> Blame {
    let store = &case.history.store;
    let since = before(deadline, store.ttl + store.recovery);
    let excused =
        !store.ours
            && case.history.faults.iter().any(|fault| {
                matches!(fault.target, Target::Member(_)) && fault.overlaps(since, end)
            });
    if excused { Blame::Server } else { Blame::Ours }
}

//! Checks S3 and S4: the clients that remove entries, and the number of entries of a request.

use std::collections::HashMap;

use super::{Blame, Case, Rule};
use crate::history::{Cause, Deletion, Entry, Removal};

pub fn check(case: &mut Case) {
    for entry in &case.history.entries {
        if let Some(deletion) = entry.deleted {
            check_cause(case, entry, deletion);
        }
        after_its_end(case, entry);
        after_its_removal(case, entry);
    }
    one_each(case);
}

/// Checks S3: an entry is removed by its own request, by the end of its session, or by nobody.
fn check_cause(case: &mut Case, entry: &Entry, deletion: Deletion) {
    let by_request = match deletion.cause {
        Cause::SessionEnd => return,
        Cause::Request(session) if session != entry.session => {
            let what = format!(
                "{} of session {} was removed by session {session}",
                entry.key, entry.session
            );
            let ops: Vec<_> = entry.op.into_iter().collect();
            return case.violate(Rule::S3, Blame::Ours, what, &ops);
        }
        Cause::Request(_) => true,
        // With several possible revisions, none is known to differ from the session's last one.
        Cause::Unknown => deletion.from == deletion.to && case.lived_on(entry.session, deletion.to),
    };
    let Some(op) = case.op_of(entry) else { return };
    let gone = case.timeline.not_after(deletion.to);
    let asked = op
        .removals
        .iter()
        .any(|removal| gone.is_none_or(|gone| removal.called <= gone));
    if by_request && !asked {
        let what = format!(
            "{} was removed at revision {} although {} had not asked for it and its session lived \
             on",
            entry.key, deletion.to, op.id
        );
        case.violate(Rule::S3, Blame::Ours, what, &[op.id]);
    }
}

/// Checks S4: an entry is gone when its request is over and there was no fault for some time.
fn after_its_end(case: &mut Case, entry: &Entry) {
    let Some(op) = case.op_of(entry) else { return };
    let Some(over) = op.over() else { return };
    let late = case.calm_after(op.id.contender, over, case.linger());
    let still = match entry.deleted {
        Some(deletion) => case.timeline.not_before(deletion.from),
        None => case.history.end.over,
    };
    if still.is_some_and(|still| still > late) {
        let what = format!(
            "{} was over, and its entry {} was there after {:?} without a fault",
            op.id,
            entry.key,
            case.linger()
        );
        case.violate(Rule::S4, Blame::Ours, what, &[op.id]);
    }
}

/// Checks S4: after a removal there is no entry. A removal whose reply was "gone before" may mean
/// that the session is over for its client. Then the session ends at the server in its own time.
fn after_its_removal(case: &mut Case, entry: &Entry) {
    let Some(op) = case.op_of(entry) else { return };
    let lives = match entry.deleted.map(|deletion| (deletion.cause, deletion.to)) {
        Some((Cause::Request(_), _)) | None => true,
        Some((Cause::Unknown, revision)) => case.lived_on(entry.session, revision),
        Some((Cause::SessionEnd, _)) => false,
    };
    let binding = |removal: &&Removal| removal.did || lives;
    let mut removals = op.removals.iter().filter(binding);
    let Some(answered) = removals.find_map(|removal| removal.answered) else {
        return;
    };
    let still = match entry.deleted {
        Some(deletion) => case.timeline.not_before(deletion.from),
        None => case.history.end.over,
    };
    if still.is_some_and(|still| still > answered) {
        let what = format!(
            "the entry {} was there after {} had removed it",
            entry.key, op.id
        );
        case.violate(Rule::S4, Blame::Ours, what, &[op.id]);
    }
}

/// Checks S4: a request has one entry at a time.
fn one_each(case: &mut Case) {
    let mut entries: HashMap<_, Vec<&Entry>> = HashMap::new();
    for entry in &case.history.entries {
        if entry.op.is_some() {
            let request = (entry.op, entry.session);
            entries.entry(request).or_default().push(entry);
        }
    }
    let mut twice: Vec<[&Entry; 2]> = vec![];
    for of_one in entries.values_mut() {
        of_one.sort_by_key(|entry| entry.created);
        let overlap = |pair: &&[&Entry]| pair[1].created < pair[0].first_absent_revision();
        let pairs = of_one.windows(2).filter(overlap);
        twice.extend(pairs.map(|pair| [pair[0], pair[1]]));
    }
    twice.sort_by_key(|pair| pair[0].created);
    for [first, second] in twice {
        let what = format!(
            "one request has two entries: {} and {}",
            first.key, second.key
        );
        let ops: Vec<_> = first.op.into_iter().collect();
        case.violate(Rule::S4, Blame::Ours, what, &ops);
    }
}

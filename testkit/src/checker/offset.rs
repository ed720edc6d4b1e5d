//! Checks O1 and O2: the token offset never falls, and is raised only where no entry is.

use std::collections::HashMap;

use lock_core::clock::BootInstant;

use super::{Blame, Case, Rule};
use crate::history::{Entry, OpId};

pub fn check(case: &mut Case) {
    check_told(case);
    check_asked_for(case);
    check_recorded(case);
}

/// The highest offset that anybody was told by an instant.
#[derive(Clone, Copy)]
struct Told {
    at: BootInstant,
    offset: u64,
    raise: OpId,
}

/// Checks O1 by the answers of the clients.
fn check_told(case: &mut Case) {
    let history = case.history;
    let answers = history.raises.iter();
    let answers = answers.filter_map(|raise| Some((raise, raise.raised?)));
    let mut told: Vec<Told> = answers
        .clone()
        .map(|(raise, (offset, at))| Told {
            at,
            offset,
            raise: raise.id,
        })
        .collect();
    told.sort_by_key(|told| told.at);
    for next in 1..told.len() {
        let before = told[next - 1];
        if before.offset > told[next].offset {
            let at = told[next].at;
            told[next] = Told { at, ..before };
        }
    }
    let told_before = |called| {
        let end = told.partition_point(|told| told.at < called);
        end.checked_sub(1).map(|last| told[last])
    };
    for (raise, (offset, _)) in answers {
        if let Some(told) = told_before(raise.called).filter(|told| offset < told.offset) {
            let what = format!(
                "{} was told the token offset {offset}, and {} {} before",
                raise.id, told.raise, told.offset
            );
            case.violate(Rule::O1, Blame::Ours, what, &[told.raise, raise.id]);
        }
    }
    for op in &history.ops {
        let (Some((token, _)), Some((_, asked))) = (op.placed, op.asked.first()) else {
            continue;
        };
        if let Some(told) = told_before(*asked).filter(|told| token.0 <= told.offset) {
            let what = format!(
                "{} was given token {token} after {} had raised the offset to {}",
                op.id, told.raise, told.offset
            );
            case.violate(Rule::O1, Blame::Ours, what, &[told.raise, op.id]);
        }
    }
}

/// Checks O2: an answer is not below what was asked for, and somebody had asked for it.
fn check_asked_for(case: &mut Case) {
    let history = case.history;
    let mut first_call: HashMap<u64, BootInstant> = HashMap::new();
    for raise in &history.raises {
        let first = first_call.entry(raise.offset).or_insert(raise.called);
        *first = (*first).min(raise.called);
    }
    for raise in &history.raises {
        let Some((offset, at)) = raise.raised else {
            continue;
        };
        let was_asked_for = first_call.get(&offset).is_some_and(|called| *called <= at);
        if offset < raise.offset || !was_asked_for {
            let what = format!(
                "{} asked for the token offset {} and was told {offset}",
                raise.id, raise.offset
            );
            case.violate(Rule::O2, Blame::Ours, what, &[raise.id]);
        }
    }
}

/// Checks O1 and O2 by the record of the server.
fn check_recorded(case: &mut Case) {
    let history = case.history;
    let mut before = 0;
    let mut entries = history.entries.iter().peekable();
    // The entry that goes last of those that were made so far.
    let mut last: Option<&Entry> = None;
    for (revision, offset) in history.offsets.iter().copied() {
        let raises = history.raises.iter();
        let raises = raises.filter(|raise| raise.offset == offset);
        let ops: Vec<OpId> = raises.map(|raise| raise.id).collect();
        if offset < before {
            let what = format!("the token offset fell from {before} to {offset} at {revision}");
            case.violate(Rule::O1, Blame::Ours, what, &ops);
        }
        before = offset;
        while let Some(entry) = entries.next_if(|entry| entry.created < revision) {
            last = last
                .into_iter()
                .chain([entry])
                .max_by_key(|entry| entry.first_absent_revision());
        }
        if let Some(entry) = last.filter(|entry| revision < entry.first_absent_revision()) {
            let what = format!(
                "the token offset was set to {offset} at {revision}, with {} in its queue",
                entry.key
            );
            let ops: Vec<_> = ops.into_iter().chain(entry.op).collect();
            case.violate(Rule::O2, Blame::Ours, what, &ops);
        }
    }
}

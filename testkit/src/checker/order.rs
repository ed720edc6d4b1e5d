//! Checks S1 and S5: a grant needs an instant at which its entry existed and no entry was ahead.

use lock_core::Mode;

use super::{Blame, Case, Rule};
use crate::history::Entry;

/// The entry ahead that goes last: of the exclusive ones, and of all.
#[derive(Clone, Copy, Default)]
struct Ahead<'a> {
    exclusive: Option<&'a Entry>,
    any: Option<&'a Entry>,
}

impl<'a> Ahead<'a> {
    fn last(self, mode: Mode) -> Option<&'a Entry> {
        match mode {
            Mode::Exclusive => self.any,
            Mode::Shared => self.exclusive,
        }
    }

    fn join(&mut self, entry: &'a Entry) {
        let later = |known: &mut Option<&'a Entry>| {
            if known
                .is_none_or(|known| known.first_absent_revision() < entry.first_absent_revision())
            {
                *known = Some(entry);
            }
        };
        later(&mut self.any);
        if entry.mode == Mode::Exclusive {
            later(&mut self.exclusive);
        }
    }
}

pub fn check(case: &mut Case) {
    let mut entries: Vec<&Entry> = case.history.entries.iter().collect();
    entries.sort_by_key(|entry| (&entry.lock, entry.created));
    for queue in entries.chunk_by(|a, b| a.lock == b.lock) {
        let mut ahead = Ahead::default();
        for entry in queue {
            let blocker = ahead.last(entry.mode);
            judge(
                case,
                entry,
                blocker.filter(|it| it.first_absent_revision() > entry.created),
            );
            ahead.join(entry);
        }
    }
}

/// Checks that an entry waited until it existed and the blocker, if any, was gone.
fn judge(case: &mut Case, entry: &Entry, blocker: Option<&Entry>) {
    let Some(op) = case.op_of(entry) else { return };
    let Some((token, granted)) = op.grant() else {
        return;
    };
    if token != entry.token {
        return;
    }
    let turn = blocker.map_or(entry.created, Entry::first_absent_revision);
    let gone = entry.deleted.is_some_and(|deletion| deletion.to <= turn);
    let early = case
        .timeline
        .not_before(turn)
        .is_some_and(|at| at > granted);
    if !gone && !early && turn < u64::MAX {
        return;
    }
    let before = match blocker {
        Some(blocker) => {
            let who = blocker
                .op
                .map_or_else(|| blocker.key.clone(), |op| op.to_string());
            format!("{who}, which came first, had gone")
        }
        None => "it was made".to_owned(),
    };
    let what = if gone {
        format!("its entry had gone before {before}")
    } else {
        format!("was told so before {before}")
    };
    let waits = blocker.and_then(|blocker| case.op_of(blocker));
    let rule = match waits {
        Some(op) if op.grant().is_none() => Rule::S5,
        _ => Rule::S1,
    };
    let what = format!(
        "{} was granted {} with token {token}, and {what}",
        op.id, entry.lock
    );
    let other = blocker.and_then(|blocker| blocker.op);
    let ops: Vec<_> = other.into_iter().chain([op.id]).collect();
    case.violate(rule, Blame::Ours, what, &ops);
}

//! S1 and S5: a grant rests on an instant at which its entry was there and nobody was ahead.

use lock_core::Mode;

use super::{Blame, Case, Rule};
use crate::history::Entry;

/// The entry ahead that goes last, of those that exclude everybody and of all.
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
            if known.is_none_or(|known| known.gone_from() < entry.gone_from()) {
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
            if let Some(blocker) = ahead.last(entry.mode)
                && blocker.gone_from() > entry.created
            {
                judge(case, entry, blocker);
            }
            ahead.join(entry);
        }
    }
}

/// An entry had to wait until the blocker was gone.
fn judge(case: &mut Case, entry: &Entry, blocker: &Entry) {
    let Some(op) = case.op_of(entry) else { return };
    let Some((token, granted)) = op.grant() else {
        return;
    };
    if token.0 != entry.created {
        return;
    }
    let turn = blocker.gone_from();
    let gone = entry.deleted.is_some_and(|deletion| deletion.to <= turn);
    let early = case.timeline.not_before(turn).is_some_and(|at| at > granted);
    let forever = turn == u64::MAX;
    if !gone && !early && !forever {
        return;
    }
    let holds = case.op_of(blocker).is_none_or(|op| op.grant().is_some());
    let rule = if holds { Rule::S1 } else { Rule::S5 };
    let why = if gone {
        "was gone before"
    } else {
        "was told so before"
    };
    let what = format!(
        "{} was granted {} with token {token}, but its entry {why} {}, which came first, had gone",
        op.id,
        entry.lock,
        blocker.op.map_or_else(|| blocker.key.clone(), |op| op.to_string()),
    );
    let ops: Vec<_> = [Some(op.id), blocker.op].into_iter().flatten().collect();
    case.violate(rule, Blame::Ours, what, &ops);
}

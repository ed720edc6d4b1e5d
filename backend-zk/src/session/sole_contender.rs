//! Proves without a listing that nobody can stand ahead.
//!
//! A directory counts the children that were ever made in it, and the name of a new entry ends with
//! that number. Suppose that the session's last entry there, number `n`, was the only one, that it
//! is gone, and that the session's next entry gets the number `n + 1`. Then nobody else made a node
//! in between, and the new entry is alone again.
//!
//! There is one exception: the directory was removed in between and made anew, so its counter began
//! again at 0. For the session's entry to get `n + 1` as well, others must have made `n + 1` nodes
//! in the directory, after the last entry and before the new one. Each of them is made in a
//! transaction of its own, as all clients that queue do. Every transaction of an ensemble has its
//! own number, and the incarnations of the two entries are such numbers: if fewer than `n + 1`
//! numbers lie between them, the directory is the same.

use std::collections::HashMap;

use lock_core::{EntryId, Incarnation};

use crate::layout;
use crate::node::{Contender, Place};

/// How many directories are remembered at a time. When there are more, all are forgotten, and
/// listed again.
const MOST: usize = 1024;

/// The session's last entries that were the only ones in their directories, by directory.
#[derive(Debug, Default)]
pub(super) struct SoleEntries(HashMap<String, LastSole>);

/// The session's last entry in a directory, which was the only one there.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastSole {
    number: i32,
    incarnation: Incarnation,
    is_gone: bool,
    /// Whether the entry could have been proven to be alone without a listing. If so, the same is
    /// expected of the next entry. Where others come and go, a proof that fails would cost a round
    /// trip.
    pub(super) is_proven: bool,
}

impl LastSole {
    /// Returns the record of an entry that comes after `before`; `None` if the entry has no place
    /// by its number.
    pub(super) fn next(before: Option<LastSole>, entry: &EntryId) -> Option<LastSole> {
        let (_, name) = layout::split(entry).ok()?;
        let Some(Place::Number(number)) = Contender::parse(name)?.place() else {
            return None;
        };
        let incarnation = entry.incarnation?;
        Some(LastSole {
            number,
            incarnation,
            is_gone: false,
            is_proven: before.is_some_and(|before| before.proves_sole(number, incarnation)),
        })
    }

    /// Returns whether an entry of this number and incarnation is alone, given that this one was.
    fn proves_sole(&self, number: i32, incarnation: Incarnation) -> bool {
        let transactions = incarnation.get().checked_sub(self.incarnation.get() + 1);
        let needed = i64::from(self.number) + 1;
        self.is_gone
            && i64::from(number) == needed
            && transactions.is_some_and(|between| between < needed.unsigned_abs())
    }
}

impl SoleEntries {
    /// Takes out the record of a directory, because the next entry there changes it.
    pub(super) fn take(&mut self, directory: &str) -> Option<LastSole> {
        self.0.remove(directory)
    }

    /// Records that an entry of the session is the only one in this directory.
    pub(super) fn record_sole(&mut self, directory: &str, last: LastSole) {
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(directory.to_owned(), last);
    }

    /// Records that an entry of the session is gone.
    pub(super) fn record_removal(&mut self, entry: &EntryId) {
        if let Ok((directory, _)) = layout::split(entry)
            && let Some(last) = self.0.get_mut(directory)
            && Some(last.incarnation) == entry.incarnation
        {
            last.is_gone = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: &str = "/d";

    fn entry(number: i32, czxid: u64) -> EntryId {
        let name = format!("x-lock-{number:010}");
        layout::entry(DIRECTORY, &name, Incarnation::new(czxid))
    }

    /// Returns whether the second entry is known to be alone, after the first was alone and is
    /// gone.
    fn is_proven(first: (i32, u64), second: (i32, u64)) -> bool {
        let mut sole_entries = SoleEntries::default();
        let first = entry(first.0, first.1);
        sole_entries.record_sole(DIRECTORY, LastSole::next(None, &first).expect("placed"));
        sole_entries.record_removal(&first);
        let next = LastSole::next(sole_entries.take(DIRECTORY), &entry(second.0, second.1));
        next.is_some_and(|next| next.is_proven)
    }

    #[test]
    fn the_next_number_proves_it_while_too_few_transactions_lie_between_for_a_new_directory() {
        assert!(is_proven((7, 100), (8, 102)));
        assert!(is_proven((7, 100), (8, 108)), "seven between");
        assert!(
            !is_proven((7, 100), (8, 109)),
            "enough to make 0 to 7 again"
        );
        assert!(!is_proven((7, 100), (9, 103)), "somebody got the 8");
        assert!(!is_proven((7, 100), (7, 102)));
        assert!(!is_proven((7, 100), (0, 104)), "another directory");
        assert!(!is_proven((7, 100), (8, 99)), "another time");
        assert!(
            !is_proven((0, 100), (1, 102)),
            "a directory as young as this"
        );
        assert!(!is_proven((i32::MAX - 1, 100), (i32::MAX, 102)));
    }

    #[test]
    fn an_entry_that_is_not_known_to_be_gone_proves_nothing() {
        let mut sole_entries = SoleEntries::default();
        let first = entry(7, 100);
        sole_entries.record_sole(DIRECTORY, LastSole::next(None, &first).expect("placed"));
        sole_entries.record_removal(&entry(7, 99));
        let last = sole_entries.take(DIRECTORY).expect("known");
        let next = Incarnation::new(102).expect("not zero");
        assert!(!last.proves_sole(8, next));
        assert!(sole_entries.take(DIRECTORY).is_none(), "for one entry only");
    }

    #[test]
    fn no_more_than_so_many_directories_are_remembered() {
        let mut sole_entries = SoleEntries::default();
        let last = LastSole::next(None, &entry(7, 100)).expect("placed");
        for directory in 0..5 * MOST {
            sole_entries.record_sole(&directory.to_string(), last);
        }
        assert!(sole_entries.0.len() <= MOST);
    }
}

//! When a place needs no listing: the proof that nobody can stand ahead.
//!
//! A directory counts the children that were ever made in it, and that number ends the name of a
//! new entry. So if our last entry there, number `n`, was the only one, is gone, and our next entry
//! gets the number `n + 1`, then nobody else made a node in between, and we are alone again.
//!
//! Unless the directory was removed in between and made anew: its counter began again at 0, and for
//! ours to get `n + 1` as well, others must have made `n + 1` nodes in it, each in a transaction of
//! its own as all clients do that queue, after our last entry and before this one. Every transaction
//! of an ensemble has a number of its own, and the incarnations are those of the two entries: if not even
//! `n + 1` numbers lie between them, the directory is the same.

use std::collections::HashMap;

use lock_core::{EntryId, Incarnation};

use crate::layout;
use crate::node::{Contender, Place};

/// Directories remembered at a time. When there are more, all are forgotten, and listed again.
const MOST: usize = 1024;

/// By their directories, our last entries that were the only ones there.
#[derive(Debug, Default)]
pub(super) struct Alone(HashMap<String, LastSole>);

/// Our last entry in a directory, which was the only one there.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastSole {
    number: i32,
    incarnation: Incarnation,
    gone: bool,
    /// It could have been proven to be alone without a listing. Then that is to be expected of the
    /// next one, too; where others come and go, a proof that fails would cost a round trip.
    pub(super) proven: bool,
}

impl LastSole {
    /// What an entry is after this one; `None` if it has no place by its number.
    pub(super) fn next(before: Option<LastSole>, entry: &EntryId) -> Option<LastSole> {
        let (_, name) = layout::split(entry).ok()?;
        let Some(Place::Number(number)) = Contender::parse(name)?.place() else {
            return None;
        };
        let incarnation = entry.incarnation?;
        Some(LastSole {
            number,
            incarnation,
            gone: false,
            proven: before.is_some_and(|before| before.proves_sole(number, incarnation)),
        })
    }

    /// Whether an entry of this number and incarnation is alone, since this one was.
    fn proves_sole(&self, number: i32, incarnation: Incarnation) -> bool {
        let transactions = incarnation.get().checked_sub(self.incarnation.get() + 1);
        let needed = i64::from(self.number) + 1;
        self.gone
            && i64::from(number) == needed
            && transactions.is_some_and(|between| between < needed.unsigned_abs())
    }
}

impl Alone {
    /// Takes out what is known of a directory: what comes next there changes it.
    pub(super) fn take(&mut self, directory: &str) -> Option<LastSole> {
        self.0.remove(directory)
    }

    /// An entry of ours is the only one in this directory.
    pub(super) fn entered(&mut self, directory: &str, last: LastSole) {
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(directory.to_owned(), last);
    }

    /// An entry of ours is gone.
    pub(super) fn left(&mut self, entry: &EntryId) {
        if let Ok((directory, _)) = layout::split(entry)
            && let Some(last) = self.0.get_mut(directory)
            && Some(last.incarnation) == entry.incarnation
        {
            last.gone = true;
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

    /// Whether the second entry is known to be alone after the first one was, and is gone.
    fn proven(first: (i32, u64), second: (i32, u64)) -> bool {
        let mut alone = Alone::default();
        let first = entry(first.0, first.1);
        alone.entered(DIRECTORY, LastSole::next(None, &first).expect("placed"));
        alone.left(&first);
        let next = LastSole::next(alone.take(DIRECTORY), &entry(second.0, second.1));
        next.is_some_and(|next| next.proven)
    }

    #[test]
    fn the_next_number_proves_it_while_too_few_transactions_lie_between_for_a_new_directory() {
        assert!(proven((7, 100), (8, 102)));
        assert!(proven((7, 100), (8, 108)), "seven between");
        assert!(!proven((7, 100), (8, 109)), "enough to make 0 to 7 again");
        assert!(!proven((7, 100), (9, 103)), "somebody got the 8");
        assert!(!proven((7, 100), (7, 102)));
        assert!(!proven((7, 100), (0, 104)), "another directory");
        assert!(!proven((7, 100), (8, 99)), "another time");
        assert!(!proven((0, 100), (1, 102)), "a directory as young as this");
        assert!(!proven((i32::MAX - 1, 100), (i32::MAX, 102)));
    }

    #[test]
    fn an_entry_that_is_not_known_to_be_gone_proves_nothing() {
        let mut alone = Alone::default();
        let first = entry(7, 100);
        alone.entered(DIRECTORY, LastSole::next(None, &first).expect("placed"));
        alone.left(&entry(7, 99));
        let last = alone.take(DIRECTORY).expect("known");
        let next = Incarnation::new(102).expect("not zero");
        assert!(!last.proves_sole(8, next));
        assert!(alone.take(DIRECTORY).is_none(), "for one entry only");
    }

    #[test]
    fn no_more_than_so_many_directories_are_remembered() {
        let mut alone = Alone::default();
        let last = LastSole::next(None, &entry(7, 100)).expect("placed");
        for directory in 0..5 * MOST {
            alone.entered(&directory.to_string(), last);
        }
        assert!(alone.0.len() <= MOST);
    }
}

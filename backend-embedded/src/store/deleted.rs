//! When keys were deleted: what a watch needs that begins at a revision from before a restart. What
//! was put last is among the keys themselves.
//!
//! Kept are the latest deletions, each with the last revision of the commit that it was made in. That
//! is its own one or a later one, so that no watch misses it; one that was told of it just before a
//! crash may be told once more.

use std::collections::BTreeSet;

use bytes::Bytes;
use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

use super::Batch;
use super::problem::Problem;
use crate::machine::op::Revision;

/// How many deletions are kept, and how many bytes of their keys.
const MAX_ROWS: usize = 10_000;
const MAX_BYTES: usize = 1 << 20;

/// A row for each deletion. A version that does not know this table leaves it as it is, and the
/// commit that it says to be complete up to gives that away.
const TABLE: TableDefinition<'_, (Revision, &[u8]), u64> = TableDefinition::new("deleted");

/// Rows of no deletion, as nothing is deleted at revision 0.
const FLOOR: (Revision, &[u8]) = (0, b"floor");
const SEQUENCE: (Revision, &[u8]) = (0, b"sequence");

type Row = (Revision, Bytes);

/// The deletions that are kept.
#[derive(Debug, Clone)]
pub(crate) struct Deleted {
    /// All deletions from this revision on are here; `None` until the first commit that is noted:
    /// what was before, in this store or in one that was in its place, is not known.
    known_since: Option<Revision>,
    rows: BTreeSet<Row>,
    bytes: usize,
    /// How the table differs from `rows`; `None` if it is of no use.
    behind: Option<Behind>,
}

#[derive(Debug, Clone, Default)]
struct Behind {
    lacks: BTreeSet<Row>,
    holds: Vec<Row>,
}

impl Deleted {
    fn none_before(known_since: Option<Revision>, behind: Option<Behind>) -> Self {
        Self {
            known_since,
            rows: BTreeSet::new(),
            bytes: 0,
            behind,
        }
    }

    /// All deletions from this revision on are known; none if there is none.
    pub(crate) fn known_since(&self) -> Option<Revision> {
        self.known_since
    }

    /// The deletions, the first one first; a key may have been put again since.
    pub(crate) fn rows(&self) -> impl DoubleEndedIterator<Item = &(Revision, Bytes)> {
        self.rows.iter()
    }

    /// No deletion from this revision on.
    #[cfg(test)]
    pub(crate) fn complete_since(known_since: Revision) -> Self {
        Self::none_before(Some(known_since), None)
    }

    /// Keeps the deletions of a commit.
    pub(super) fn note(&mut self, batch: &Batch) {
        let Some(revision) = batch.revision else {
            return;
        };
        self.known_since.get_or_insert(revision);
        let gone = batch.keys.iter().filter(|(_, kv)| kv.is_none());
        for (key, _) in gone {
            let row = (revision, key.clone());
            if self.rows.insert(row.clone()) {
                self.bytes += key.len();
                if let Some(behind) = &mut self.behind {
                    behind.lacks.insert(row);
                }
            }
        }
        while self.rows.len() > MAX_ROWS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.rows.pop_first() else {
                break;
            };
            let known_since = oldest.0 + 1;
            self.known_since = Some(known_since);
            self.bytes -= oldest.1.len();
            self.drop_from_table(oldest);
            // A revision is kept whole or not at all.
            while let Some(next) = self.rows.first()
                && next.0 < known_since
                && let Some(next) = self.rows.pop_first()
            {
                self.bytes -= next.1.len();
                self.drop_from_table(next);
            }
        }
    }

    fn drop_from_table(&mut self, row: Row) {
        if let Some(behind) = &mut self.behind
            && !behind.lacks.remove(&row)
        {
            behind.holds.push(row);
        }
    }

    /// Brings the table up to what is kept, as of the commit with this number.
    pub(super) fn write(
        &self,
        transaction: &WriteTransaction,
        sequence: u64,
    ) -> Result<(), Problem> {
        let mut table = transaction.open_table(TABLE)?;
        let lacks = match &self.behind {
            Some(behind) => {
                for (revision, key) in &behind.holds {
                    table.remove((*revision, key.as_ref()))?;
                }
                &behind.lacks
            }
            None => {
                table.retain(|_, _| false)?;
                &self.rows
            }
        };
        for (revision, key) in lacks {
            table.insert((*revision, key.as_ref()), 0)?;
        }
        if let Some(known_since) = self.known_since {
            table.insert(FLOOR, known_since)?;
        }
        table.insert(SEQUENCE, sequence)?;
        Ok(())
    }

    /// The table is durable with all that is kept.
    pub(super) fn written(&mut self) {
        self.behind = Some(Behind::default());
    }
}

/// Writes the table of an empty store.
pub(super) fn initialise(transaction: &WriteTransaction, sequence: u64) -> Result<(), Problem> {
    Deleted::none_before(None, Some(Behind::default())).write(transaction, sequence)
}

/// Reads the table of a store that has come to the commit with this number.
pub(super) fn load(transaction: &ReadTransaction, sequence: u64) -> Result<Deleted, Problem> {
    let anew = Deleted::none_before(None, None);
    let table = match transaction.open_table(TABLE) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(anew),
        table => table?,
    };
    let number = |row| table.get(row).map(|found| found.map(|found| found.value()));
    if number(SEQUENCE)? != Some(sequence) {
        return Ok(anew); // Written by a version that does not keep it up.
    }
    let mut deleted = Deleted::none_before(number(FLOOR)?, Some(Behind::default()));
    for row in table.range((1, b"".as_slice())..)? {
        let (row, _) = row?;
        let (revision, key) = row.value();
        deleted.bytes += key.len();
        let row = (revision, Bytes::copy_from_slice(key));
        deleted.rows.insert(row);
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use redb::ReadableDatabase;

    use super::*;

    fn deletion(revision: Revision, keys: &[&str]) -> Batch {
        let gone = |key: &&str| (Bytes::copy_from_slice(key.as_bytes()), None);
        Batch {
            keys: keys.iter().map(gone).collect(),
            revision: Some(revision),
            ..Batch::default()
        }
    }

    #[test]
    fn a_version_that_does_not_keep_the_table_up_is_noticed() {
        let store = redb::backends::InMemoryBackend::new();
        let database = redb::Builder::new().create_with_backend(store).unwrap();
        let commit = |change: &dyn Fn(&WriteTransaction)| {
            let transaction = database.begin_write().unwrap();
            change(&transaction);
            transaction.commit().unwrap();
        };
        let found = |sequence| {
            let transaction = database.begin_read().unwrap();
            let found = load(&transaction, sequence).unwrap();
            let rows: Vec<_> = found.rows().map(|(revision, _)| *revision).collect();
            (found.known_since(), rows)
        };
        // Made by such a version.
        commit(&|_| {});
        assert_eq!(found(4), (None, vec![]));
        let mut deleted = load(&database.begin_read().unwrap(), 4).unwrap();
        deleted.note(&deletion(11, &["a", "b"]));
        commit(&|transaction| deleted.write(transaction, 5).unwrap());
        deleted.written();
        deleted.note(&deletion(12, &["a"]));
        commit(&|transaction| deleted.write(transaction, 6).unwrap());
        assert_eq!(found(6), (Some(11), vec![11, 11, 12]));
        // It wrote commit 7, and perhaps deleted something.
        assert_eq!(found(7), (None, vec![]));
        let mut anew = load(&database.begin_read().unwrap(), 7).unwrap();
        anew.note(&deletion(22, &["c"]));
        commit(&|transaction| anew.write(transaction, 8).unwrap());
        assert_eq!(found(8), (Some(22), vec![22]), "nothing of what was before");
    }

    #[test]
    fn the_oldest_go_whole_revisions_at_a_time() {
        let mut deleted = Deleted::none_before(Some(2), Some(Behind::default()));
        deleted.note(&deletion(3, &["a", "b"]));
        for revision in 4..4 + MAX_ROWS as u64 - 2 {
            deleted.note(&deletion(revision, &["k"]));
        }
        assert_eq!(
            (deleted.known_since, deleted.rows.len()),
            (Some(2), MAX_ROWS)
        );
        deleted.written();
        let last = 4 + MAX_ROWS as u64;
        deleted.note(&deletion(last, &["k"]));
        assert_eq!(
            (deleted.known_since, deleted.rows.len()),
            (Some(4), MAX_ROWS - 1)
        );
        let behind = deleted.behind.as_ref().unwrap();
        assert_eq!((behind.holds.len(), behind.lacks.len()), (2, 1));

        let long = "k".repeat(MAX_BYTES + 1);
        deleted.note(&deletion(last + 1, &[&long]));
        assert_eq!(
            (deleted.known_since, deleted.rows.len()),
            (Some(last + 2), 0)
        );
        assert_eq!(deleted.bytes, 0);
        assert!(deleted.behind.unwrap().lacks.is_empty(), "never written");
    }
}

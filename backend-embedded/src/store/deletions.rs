//! When keys were deleted, for watches that start at a revision from before a restart. The last put
//! of a key is stored with the key itself.
//!
//! The latest deletions are kept, each with the last revision of its commit. That is the deletion's
//! own revision or a later one, so no watch misses it. A watch that received the deletion just
//! before a crash may receive it again.

use std::collections::BTreeSet;

use bytes::Bytes;
use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

use super::Batch;
use super::problem::Problem;
use crate::machine::op::Revision;

/// The most deletions kept, and the most bytes of their keys.
const MAX_ROWS: usize = 10_000;
const MAX_BYTES: usize = 1 << 20;

/// One row for each deletion. A version that does not know this table leaves it unchanged. It is
/// then behind the store's commit number, by which that is noticed.
const TABLE: TableDefinition<'_, (Revision, &[u8]), u64> = TableDefinition::new("deleted");

/// Rows that are no deletions: nothing is deleted at revision 0.
const COMPLETE_SINCE: (Revision, &[u8]) = (0, b"floor");
const SEQUENCE: (Revision, &[u8]) = (0, b"sequence");

type Row = (Revision, Bytes);

/// The deletions that are kept.
#[derive(Debug, Clone)]
pub(crate) struct Deletions {
    /// All deletions from this revision on are present; `None` before the first commit is recorded.
    /// Earlier ones, of this store or of one that it replaced, are unknown.
    complete_since: Option<Revision>,
    rows: BTreeSet<Row>,
    bytes: usize,
    /// How the table differs from `rows`; `None` if the table is useless.
    table_diff: Option<TableDiff>,
}

#[derive(Debug, Clone, Default)]
struct TableDiff {
    missing: BTreeSet<Row>,
    obsolete: Vec<Row>,
}

impl Deletions {
    fn empty(complete_since: Option<Revision>, table_diff: Option<TableDiff>) -> Self {
        Self {
            complete_since,
            rows: BTreeSet::new(),
            bytes: 0,
            table_diff,
        }
    }

    /// Returns the revision from which on all deletions are known; `None` if none are.
    pub(crate) fn complete_since(&self) -> Option<Revision> {
        self.complete_since
    }

    /// Returns the deletions, the oldest first. A deleted key may have been put again since.
    pub(crate) fn rows(&self) -> impl DoubleEndedIterator<Item = &(Revision, Bytes)> {
        self.rows.iter()
    }

    /// Returns an empty list that is complete from this revision on.
    #[cfg(test)]
    pub(crate) fn empty_since(complete_since: Revision) -> Self {
        Self::empty(Some(complete_since), None)
    }

    /// Returns a list in which nothing is known.
    #[cfg(test)]
    pub(crate) fn unknown() -> Self {
        Self::empty(None, None)
    }

    /// Records the deletions of a commit.
    pub(super) fn record(&mut self, batch: &Batch) {
        let Some(revision) = batch.revision else {
            return;
        };
        self.complete_since.get_or_insert(revision);
        let deleted = batch.keys.iter().filter(|(_, kv)| kv.is_none());
        for (key, _) in deleted {
            let row = (revision, key.clone());
            if self.rows.insert(row.clone()) {
                self.bytes += key.len();
                if let Some(table_diff) = &mut self.table_diff {
                    table_diff.missing.insert(row);
                }
            }
        }
        while self.rows.len() > MAX_ROWS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.rows.pop_first() else {
                break;
            };
            let complete_since = oldest.0 + 1;
            self.complete_since = Some(complete_since);
            self.bytes -= oldest.1.len();
            self.remove_from_table(oldest);
            // All deletions of a revision are kept, or none.
            while let Some(next) = self.rows.first()
                && next.0 < complete_since
                && let Some(next) = self.rows.pop_first()
            {
                self.bytes -= next.1.len();
                self.remove_from_table(next);
            }
        }
    }

    fn remove_from_table(&mut self, row: Row) {
        if let Some(table_diff) = &mut self.table_diff
            && !table_diff.missing.remove(&row)
        {
            table_diff.obsolete.push(row);
        }
    }

    /// Updates the table to the deletions that are kept, as of the commit with this number.
    pub(super) fn write(
        &self,
        transaction: &WriteTransaction,
        sequence: u64,
    ) -> Result<(), Problem> {
        let mut table = transaction.open_table(TABLE)?;
        let missing = match &self.table_diff {
            Some(table_diff) => {
                for (revision, key) in &table_diff.obsolete {
                    table.remove((*revision, key.as_ref()))?;
                }
                &table_diff.missing
            }
            None => {
                table.retain(|_, _| false)?;
                &self.rows
            }
        };
        for (revision, key) in missing {
            table.insert((*revision, key.as_ref()), 0)?;
        }
        if let Some(complete_since) = self.complete_since {
            table.insert(COMPLETE_SINCE, complete_since)?;
        }
        table.insert(SEQUENCE, sequence)?;
        Ok(())
    }

    /// Notes that the table is durable and up to date.
    pub(super) fn mark_written(&mut self) {
        self.table_diff = Some(TableDiff::default());
    }
}

/// Writes the table of an empty store.
pub(super) fn initialise(transaction: &WriteTransaction, sequence: u64) -> Result<(), Problem> {
    Deletions::empty(None, Some(TableDiff::default())).write(transaction, sequence)
}

/// Reads the table of a store whose last commit has this number.
pub(super) fn load(transaction: &ReadTransaction, sequence: u64) -> Result<Deletions, Problem> {
    let fresh = Deletions::empty(None, None);
    let table = match transaction.open_table(TABLE) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(fresh),
        table => table?,
    };
    let number = |row| table.get(row).map(|found| found.map(|found| found.value()));
    if number(SEQUENCE)? != Some(sequence) {
        return Ok(fresh); // Written by a version that does not keep it up.
    }
    let mut deletions = Deletions::empty(number(COMPLETE_SINCE)?, Some(TableDiff::default()));
    for row in table.range((1, b"".as_slice())..)? {
        let (row, _) = row?;
        let (revision, key) = row.value();
        deletions.bytes += key.len();
        let row = (revision, Bytes::copy_from_slice(key));
        deletions.rows.insert(row);
    }
    Ok(deletions)
}

#[cfg(test)]
mod tests {
    use redb::ReadableDatabase;

    use super::*;

    fn deletion(revision: Revision, keys: &[&str]) -> Batch {
        let deleted = |key: &&str| (Bytes::copy_from_slice(key.as_bytes()), None);
        Batch {
            keys: keys.iter().map(deleted).collect(),
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
            (found.complete_since(), rows)
        };
        // The table is absent, as a version without it leaves it.
        commit(&|_| {});
        assert_eq!(found(4), (None, vec![]));
        let mut deletions = load(&database.begin_read().unwrap(), 4).unwrap();
        deletions.record(&deletion(11, &["a", "b"]));
        commit(&|transaction| deletions.write(transaction, 5).unwrap());
        deletions.mark_written();
        deletions.record(&deletion(12, &["a"]));
        commit(&|transaction| deletions.write(transaction, 6).unwrap());
        assert_eq!(found(6), (Some(11), vec![11, 11, 12]));
        // That version wrote commit 7, and may have deleted something.
        assert_eq!(found(7), (None, vec![]));
        let mut fresh = load(&database.begin_read().unwrap(), 7).unwrap();
        fresh.record(&deletion(22, &["c"]));
        commit(&|transaction| fresh.write(transaction, 8).unwrap());
        assert_eq!(found(8), (Some(22), vec![22]), "nothing of what was before");
    }

    #[test]
    fn the_oldest_go_whole_revisions_at_a_time() {
        let mut deletions = Deletions::empty(Some(2), Some(TableDiff::default()));
        deletions.record(&deletion(3, &["a", "b"]));
        for revision in 4..4 + MAX_ROWS as u64 - 2 {
            deletions.record(&deletion(revision, &["k"]));
        }
        assert_eq!(
            (deletions.complete_since, deletions.rows.len()),
            (Some(2), MAX_ROWS)
        );
        deletions.mark_written();
        let last = 4 + MAX_ROWS as u64;
        deletions.record(&deletion(last, &["k"]));
        assert_eq!(
            (deletions.complete_since, deletions.rows.len()),
            (Some(4), MAX_ROWS - 1)
        );
        let table_diff = deletions.table_diff.as_ref().unwrap();
        assert_eq!(
            (table_diff.obsolete.len(), table_diff.missing.len()),
            (2, 1)
        );

        let long = "k".repeat(MAX_BYTES + 1);
        deletions.record(&deletion(last + 1, &[&long]));
        assert_eq!(
            (deletions.complete_since, deletions.rows.len()),
            (Some(last + 2), 0)
        );
        assert_eq!(deletions.bytes, 0);
        assert!(
            deletions.table_diff.unwrap().missing.is_empty(),
            "never written"
        );
    }
}

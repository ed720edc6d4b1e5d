//! When keys were deleted, for watches that start at a revision from before a restart. The last put
//! of a key is stored with the key itself.
//!
//! The latest deletions are kept, each with the last revision of its commit. That is the deletion's
//! own revision or a later one, so no watch misses it. A watch that received the deletion just
//! before a crash may receive it again.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, TryGetError};
use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

use super::Batch;
use super::codec::{get_text, put_text};
use super::problem::Problem;
use crate::machine::op::Revision;

/// The most deletions kept, and the most bytes of their keys.
const MAX_ROWS: usize = 10_000;
const MAX_BYTES: usize = 1 << 20;

/// The deletions of one transaction each, under the last revision of them: see [`encode`]. Each
/// transaction removes about as many deletions as it adds, and would spend more time on a row for
/// each than on all else.
///
/// A version that does not know this table leaves it unchanged. It is then behind the store's
/// commit number, by which that is noticed.
const CHUNKS: TableDefinition<'_, Revision, &[u8]> = TableDefinition::new("deletions");

/// The row that holds no deletions, since nothing is deleted at revision 0: the number of the
/// commit, and `complete_since`, or 0 for nothing, each 8 bytes little-endian.
const HEAD: Revision = 0;

/// A row for each deletion, as earlier versions keep them. It is read if they have written last.
const ROWS: TableDefinition<'_, (Revision, &[u8]), u64> = TableDefinition::new("deleted");
const ROWS_COMPLETE_SINCE: (Revision, &[u8]) = (0, b"floor");
const ROWS_SEQUENCE: (Revision, &[u8]) = (0, b"sequence");

/// A revision at or after the deletion, and the key.
type Row = (Revision, Bytes);

/// The deletions that are kept.
#[derive(Debug, Clone)]
pub(crate) struct Deletions {
    /// All deletions from this revision on are present; `None` before the first commit is recorded.
    /// Earlier ones, of this store or of one that it replaced, are unknown.
    complete_since: Option<Revision>,
    /// In the order of their revisions.
    rows: VecDeque<Row>,
    bytes: usize,
    /// The last revisions of the table's chunks, in their order; `None` if the table is useless.
    chunks: Option<VecDeque<Revision>>,
}

impl Deletions {
    fn empty(complete_since: Option<Revision>, chunks: Option<VecDeque<Revision>>) -> Self {
        Self {
            complete_since,
            rows: VecDeque::new(),
            bytes: 0,
            chunks,
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
        deleted.for_each(|(key, _)| self.push((revision, key.clone())));
        while self.rows.len() > MAX_ROWS || self.bytes > MAX_BYTES {
            let Some((oldest, _)) = self.rows.front() else {
                break;
            };
            // All deletions of a revision are kept, or none.
            let complete_since = *oldest + 1;
            self.complete_since = Some(complete_since);
            while let Some((revision, key)) = self.rows.front()
                && *revision < complete_since
            {
                self.bytes -= key.len();
                self.rows.pop_front();
            }
        }
    }

    fn push(&mut self, row: Row) {
        self.bytes += row.1.len();
        self.rows.push_back(row);
    }

    /// Updates the table to the deletions that are kept, as of the commit with this number.
    pub(super) fn write(
        &self,
        transaction: &WriteTransaction,
        sequence: u64,
    ) -> Result<(), Problem> {
        let mut table = transaction.open_table(CHUNKS)?;
        if self.chunks.is_none() {
            table.retain(|_, _| false)?;
            transaction.delete_table(ROWS)?;
        }
        for last in self.obsolete_chunks() {
            table.remove(last)?;
        }
        if let Some((last, chunk)) = self.next_chunk() {
            table.insert(last, chunk.as_slice())?;
        }
        let mut head = Vec::new();
        head.put_u64_le(sequence);
        head.put_u64_le(self.complete_since.unwrap_or(0));
        table.insert(HEAD, head.as_slice())?;
        Ok(())
    }

    /// Notes that the table is durable and up to date.
    pub(super) fn mark_written(&mut self) {
        let obsolete = self.obsolete_chunks().count();
        let last = self.next_chunk_start().and(self.rows.back());
        let last = last.map(|(revision, _)| *revision);
        let chunks = self.chunks.get_or_insert_default();
        chunks.drain(..obsolete);
        chunks.extend(last);
    }

    /// Returns the chunks of which no deletion is kept.
    fn obsolete_chunks(&self) -> impl Iterator<Item = Revision> {
        let chunks = self.chunks.iter().flatten().copied();
        chunks.take_while(|last| Some(*last) < self.complete_since)
    }

    /// Returns the index of the first deletion that the table lacks, if there is one.
    fn next_chunk_start(&self) -> Option<usize> {
        let written = self.chunks.iter().flatten().last().copied();
        let is_written = |(revision, _): &Row| Some(*revision) <= written;
        let start = self.rows.partition_point(is_written);
        (start < self.rows.len()).then_some(start)
    }

    /// Returns the deletions that the table lacks, and the last revision of them.
    fn next_chunk(&self) -> Option<(Revision, Vec<u8>)> {
        let rows = self.rows.range(self.next_chunk_start()?..);
        let (last, _) = self.rows.back()?;
        Some((*last, encode(rows)))
    }
}

/// Encodes deletions: the revision, 8 bytes little-endian, and the key as a text.
fn encode<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (revision, key) in rows {
        bytes.put_u64_le(*revision);
        put_text(&mut bytes, key);
    }
    bytes
}

/// Takes the first deletion out of a chunk.
fn decode_row(chunk: &mut Bytes) -> Result<Row, TryGetError> {
    Ok((chunk.try_get_u64_le()?, get_text(chunk)?))
}

/// Writes the table of an empty store.
pub(super) fn initialise(transaction: &WriteTransaction, sequence: u64) -> Result<(), Problem> {
    Deletions::empty(None, Some(VecDeque::new())).write(transaction, sequence)
}

/// Reads the table of a store whose last commit has this number.
pub(super) fn load(transaction: &ReadTransaction, sequence: u64) -> Result<Deletions, Problem> {
    if let Some(found) = load_chunks(transaction, sequence)? {
        return Ok(found);
    }
    let found = load_rows(transaction, sequence)?;
    // The last commit is of a version that keeps no deletions.
    Ok(found.unwrap_or_else(|| Deletions::empty(None, None)))
}

fn load_chunks(transaction: &ReadTransaction, sequence: u64) -> Result<Option<Deletions>, Problem> {
    let table = match transaction.open_table(CHUNKS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    let damaged = |_| Problem::Damaged("its list of deletions is cut short".to_string());
    let Some(head) = table.get(HEAD)? else {
        return Ok(None);
    };
    let mut head = head.value();
    if head.try_get_u64_le().map_err(damaged)? != sequence {
        return Ok(None);
    }
    let complete_since = head.try_get_u64_le().map_err(damaged)?;
    let known = (complete_since > 0).then_some(complete_since);
    let mut deletions = Deletions::empty(known, None);
    let mut chunks = VecDeque::new();
    for chunk in table.range(HEAD + 1..)? {
        let (last, chunk) = chunk?;
        chunks.push_back(last.value());
        let mut chunk = Bytes::copy_from_slice(chunk.value());
        while !chunk.is_empty() {
            let row = decode_row(&mut chunk).map_err(damaged)?;
            if row.0 >= complete_since {
                deletions.push(row);
            }
        }
    }
    deletions.chunks = Some(chunks);
    Ok(Some(deletions))
}

fn load_rows(transaction: &ReadTransaction, sequence: u64) -> Result<Option<Deletions>, Problem> {
    let table = match transaction.open_table(ROWS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    let number = |row| table.get(row).map(|found| found.map(|found| found.value()));
    if number(ROWS_SEQUENCE)? != Some(sequence) {
        return Ok(None);
    }
    let mut deletions = Deletions::empty(number(ROWS_COMPLETE_SINCE)?, None);
    for row in table.range((1, b"".as_slice())..)? {
        let (row, _) = row?;
        let (revision, key) = row.value();
        deletions.push((revision, Bytes::copy_from_slice(key)));
    }
    Ok(Some(deletions))
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

    /// A database without the table, as a version that does not know it leaves it.
    struct Tables(redb::Database);

    impl Tables {
        fn new() -> Self {
            let store = redb::backends::InMemoryBackend::new();
            let tables = Tables(redb::Builder::new().create_with_backend(store).unwrap());
            tables.commit(|_| {});
            tables
        }

        fn commit(&self, change: impl FnOnce(&WriteTransaction)) {
            let transaction = self.0.begin_write().unwrap();
            change(&transaction);
            transaction.commit().unwrap();
        }

        fn write(&self, deletions: &mut Deletions, sequence: u64) {
            self.commit(|transaction| deletions.write(transaction, sequence).unwrap());
            deletions.mark_written();
        }

        fn load(&self, sequence: u64) -> Deletions {
            load(&self.0.begin_read().unwrap(), sequence).unwrap()
        }

        fn found(&self, sequence: u64) -> (Option<Revision>, Vec<Revision>) {
            let found = self.load(sequence);
            let rows = found.rows().map(|(revision, _)| *revision).collect();
            (found.complete_since(), rows)
        }
    }

    #[test]
    fn a_version_that_does_not_keep_the_table_up_is_noticed() {
        let tables = Tables::new();
        assert_eq!(tables.found(4), (None, vec![]));
        let mut deletions = tables.load(4);
        deletions.record(&deletion(11, &["a", "b"]));
        tables.write(&mut deletions, 5);
        deletions.record(&deletion(12, &["a"]));
        tables.write(&mut deletions, 6);
        assert_eq!(tables.found(6), (Some(11), vec![11, 11, 12]));
        // That version wrote commit 7, and may have deleted something.
        assert_eq!(tables.found(7), (None, vec![]));
        let mut fresh = tables.load(7);
        fresh.record(&deletion(22, &["c"]));
        tables.write(&mut fresh, 8);
        assert_eq!(
            tables.found(8),
            (Some(22), vec![22]),
            "nothing of what was before"
        );
    }

    #[test]
    fn deletions_of_a_version_with_a_row_for_each_are_read_and_replaced() {
        let tables = Tables::new();
        let mut ours = tables.load(1);
        ours.record(&deletion(2, &["before"]));
        tables.write(&mut ours, 2);
        tables.commit(|transaction| {
            let mut table = transaction.open_table(ROWS).unwrap();
            table.insert(ROWS_SEQUENCE, 3).unwrap();
            table.insert(ROWS_COMPLETE_SINCE, 5).unwrap();
            table.insert((5, b"a".as_slice()), 0).unwrap();
            table.insert((6, b"b".as_slice()), 0).unwrap();
        });
        assert_eq!(tables.found(3), (Some(5), vec![5, 6]));
        let mut deletions = tables.load(3);
        deletions.record(&deletion(7, &["c"]));
        tables.write(&mut deletions, 4);
        assert_eq!(tables.found(4), (Some(5), vec![5, 6, 7]));
        let transaction = tables.0.begin_read().unwrap();
        let gone = transaction.open_table(ROWS).map(drop);
        assert!(matches!(gone, Err(TableError::TableDoesNotExist(_))));
    }

    #[test]
    fn a_chunk_is_removed_once_none_of_its_deletions_is_kept() {
        let tables = Tables::new();
        let mut deletions = tables.load(1);
        let fill = |deletions: &mut Deletions, revisions: std::ops::Range<u64>| {
            revisions.for_each(|revision| deletions.record(&deletion(revision, &["k"])));
        };
        let max = MAX_ROWS as u64;
        fill(&mut deletions, 1..4);
        tables.write(&mut deletions, 2);
        fill(&mut deletions, 4..max + 1);
        tables.write(&mut deletions, 3);
        // The first chunk has one that is kept.
        fill(&mut deletions, max + 1..max + 3);
        tables.write(&mut deletions, 4);
        let (complete_since, rows) = tables.found(4);
        assert_eq!((complete_since, rows.len()), (Some(3), MAX_ROWS));
        assert_eq!(rows[0], 3);
        assert_eq!(deletions.chunks, Some([3, max, max + 2].into()));
        fill(&mut deletions, max + 3..max + 4);
        tables.write(&mut deletions, 5);
        assert_eq!(deletions.chunks, Some([max, max + 2, max + 3].into()));
        assert_eq!(tables.load(5).chunks, deletions.chunks);
        assert_eq!(tables.load(5).rows, deletions.rows);
    }

    #[test]
    fn the_oldest_go_whole_revisions_at_a_time() {
        let mut deletions = Deletions::empty_since(2);
        deletions.record(&deletion(3, &["a", "b"]));
        for revision in 4..4 + MAX_ROWS as u64 - 2 {
            deletions.record(&deletion(revision, &["k"]));
        }
        assert_eq!(
            (deletions.complete_since, deletions.rows.len()),
            (Some(2), MAX_ROWS)
        );
        let last = 4 + MAX_ROWS as u64;
        deletions.record(&deletion(last, &["k"]));
        assert_eq!(
            (deletions.complete_since, deletions.rows.len()),
            (Some(4), MAX_ROWS - 1)
        );

        let long = "k".repeat(MAX_BYTES + 1);
        deletions.record(&deletion(last + 1, &[&long]));
        assert_eq!(
            (deletions.complete_since, deletions.rows.len()),
            (Some(last + 2), 0)
        );
        assert_eq!(deletions.bytes, 0);
        assert_eq!(deletions.next_chunk(), None, "never written");
    }
}

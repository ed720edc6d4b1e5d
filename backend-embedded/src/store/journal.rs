//! The journal before the tables: a commit is one record, written in one place and synced.
//!
//! A transaction of redb changes the header and five pages in as many places of its file, which
//! takes half as long again to sync. So the record here is what makes a commit durable. When the
//! journal is full, everything in it and the commit that did not fit become one transaction of the
//! tables. That transaction is waited for, and the journal starts again from its beginning.
//!
//! The file has its full length from the start, so that a sync writes nothing but the record
//! itself.

use std::io;

use redb::StorageBackend;

use super::Batch;
use super::codec;
use super::problem::Problem;

/// The length of the file in bytes.
pub(crate) const LENGTH: usize = 256 << 10;

/// Records start at multiples of this, the largest unit that disks write at once. So an
/// acknowledged record is never written again, not even with the next one.
const UNIT: usize = 4096;

/// The header of a record: the checksum of all that follows the checksum, and the length of what
/// follows the header, 4 bytes each; the store's cluster id and the commit's number, 8 bytes each.
/// All are little-endian.
const HEADER: usize = 24;

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    backend: Box<dyn StorageBackend>,
    cluster_id: u64,
    /// The offset of the next record.
    end: usize,
}

impl Journal {
    /// Opens the journal of the store with this id, and reads the commits after number `sequence`,
    /// which the tables hold. Writes nothing.
    pub(super) fn open(
        backend: Box<dyn StorageBackend>,
        cluster_id: u64,
        sequence: u64,
    ) -> Result<(Journal, Vec<Batch>), Problem> {
        let mut bytes = vec![0; LENGTH];
        let len = usize::try_from(backend.len()?)
            .unwrap_or(LENGTH)
            .min(LENGTH);
        backend.read(0, &mut bytes[..len])?;
        let (batches, end) = read_after(&bytes, cluster_id, sequence)?;
        let journal = Journal {
            backend,
            cluster_id,
            end,
        };
        Ok((journal, batches))
    }

    /// Records a commit, if there is room for it. After this returns `true`, the commit survives a
    /// power cut.
    pub(super) fn append(&mut self, sequence: u64, batch: &Batch) -> io::Result<bool> {
        let record = encode_record(self.cluster_id, sequence, batch);
        let end = self.end + record.len();
        if end > LENGTH {
            return Ok(false);
        }
        self.backend.write(self.end as u64, &record)?;
        self.backend.sync_data()?;
        self.end = end;
        Ok(true)
    }

    /// Returns the offset of the next record.
    #[cfg(feature = "server")]
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// Starts the journal again: all commits so far are durable in the tables.
    pub(super) fn restart(&mut self) {
        self.end = 0;
    }
}

/// A complete record.
struct Record<'a> {
    sequence: u64,
    batch: &'a [u8],
    /// The bytes that the record takes up in the file.
    size: usize,
}

/// Encodes a record, padded to the next unit, so that a shorter record leaves nothing of an older
/// one behind it in its last unit.
fn encode_record(cluster_id: u64, sequence: u64, batch: &Batch) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    codec::encode_batch(batch, &mut bytes);
    // A commit that long is refused much earlier.
    let length = u32::try_from(bytes.len() - HEADER).unwrap_or(u32::MAX);
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes[8..16].copy_from_slice(&cluster_id.to_le_bytes());
    bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
    let sum = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(UNIT), 0);
    bytes
}

/// Parses the record at the start of these bytes, if there is one of this store.
fn parse_record(bytes: &[u8], cluster_id: u64) -> Option<Record<'_>> {
    let (sum, summed) = bytes.split_first_chunk()?;
    let (length, rest) = summed.split_first_chunk()?;
    let (id, rest) = rest.split_first_chunk()?;
    let (sequence, rest) = rest.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    let batch = rest.get(..length)?;
    let whole = || u32::from_le_bytes(*sum) == crc32fast::hash(&summed[..HEADER - 4 + length]);
    (u64::from_le_bytes(*id) == cluster_id && whole()).then(|| Record {
        sequence: u64::from_le_bytes(*sequence),
        batch,
        size: (HEADER + length).next_multiple_of(UNIT),
    })
}

/// Returns the commits after number `sequence`, and the offset of the next record.
fn read_after(
    bytes: &[u8],
    cluster_id: u64,
    sequence: u64,
) -> Result<(Vec<Batch>, usize), Problem> {
    let mut batches = Vec::new();
    let (mut at, mut last) = (0, None);
    // The rest of an earlier round through the file lies behind the last record, with lower
    // numbers.
    while let Some(found) = parse_record(&bytes[at..], cluster_id)
        && last.is_none_or(|last| found.sequence == last + 1)
    {
        if found.sequence > sequence {
            if found.sequence != sequence + 1 + batches.len() as u64 {
                let detail = format!(
                    "its journal continues with commit {}, but its tables end with {sequence}",
                    found.sequence
                );
                return Err(Problem::Damaged(detail));
            }
            let batch = codec::decode_batch(found.batch);
            let unreadable = || Problem::Damaged("its journal cannot be read".to_string());
            batches.push(batch.ok_or_else(unreadable)?);
        }
        last = Some(found.sequence);
        at += found.size;
    }
    let newest = last.unwrap_or(0).max(sequence);
    // Each record was complete before the next one was begun.
    let stray = (at..bytes.len())
        .step_by(UNIT)
        .filter_map(|at| parse_record(&bytes[at..], cluster_id))
        .find(|found| found.sequence > newest);
    if let Some(stray) = stray {
        let detail = format!(
            "its journal lacks commit {}, but has {}",
            newest + 1,
            stray.sequence
        );
        return Err(Problem::Damaged(detail));
    }
    let goes_on = last == Some(newest);
    Ok((batches, if goes_on { at } else { 0 }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const STORE: u64 = 77;

    fn batch(sequence: u64) -> Batch {
        Batch {
            keys: [(Bytes::from(format!("key {sequence}")), None)].into(),
            ..Batch::default()
        }
    }

    /// Returns a journal with records of these commits.
    fn journal(sequences: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let records = sequences
            .into_iter()
            .map(|s| encode_record(STORE, s, &batch(s)));
        let mut bytes = records.collect::<Vec<_>>().concat();
        bytes.resize(LENGTH, 0);
        bytes
    }

    /// Returns what follows this commit, and the unit of the next record.
    fn after(bytes: &[u8], sequence: u64) -> Result<(Vec<String>, usize), String> {
        match read_after(bytes, STORE, sequence) {
            Ok((batches, end)) => {
                let keys = batches.iter().flat_map(|batch| batch.keys.keys());
                Ok((keys.map(|key| format!("{key:?}")).collect(), end / UNIT))
            }
            Err(Problem::Damaged(detail)) => Err(detail),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn keys(sequences: std::ops::RangeInclusive<u64>) -> Vec<String> {
        let key = |s| format!("{:?}", Bytes::from(format!("key {s}")));
        sequences.map(key).collect()
    }

    #[test]
    fn records_that_the_tables_lack_are_read() {
        let bytes = journal(5..=8);
        assert_eq!(after(&bytes, 4), Ok((keys(5..=8), 4)));
        assert_eq!(after(&bytes, 6), Ok((keys(7..=8), 4)));
        assert_eq!(after(&bytes, 8), Ok((vec![], 4)));
        assert_eq!(after(&journal([]), 8), Ok((vec![], 0)));
    }

    #[test]
    fn an_earlier_round_is_written_over() {
        // The tables hold the ninth commit, which is not in the journal.
        assert_eq!(after(&journal(5..=8), 9), Ok((vec![], 0)));
        let second_round = journal([10, 11, 7, 8]);
        assert_eq!(after(&second_round, 9), Ok((keys(10..=11), 2)));
    }

    #[test]
    fn a_record_that_is_lacking_is_noticed_where_others_follow() {
        let mut bytes = journal(5..=8);
        assert!(after(&bytes, 3).expect_err("4").contains("commit 5"));
        bytes[UNIT..2 * UNIT].fill(0);
        assert!(after(&bytes, 4).expect_err("6").contains("lacks commit 6"));
        assert_eq!(after(&bytes, 8), Ok((vec![], 0)), "in the tables anyway");
        // The last record may be of a commit that was never acknowledged. The mark decides that.
        let mut torn = journal(5..=8);
        torn[3 * UNIT + 30] ^= 1;
        assert_eq!(after(&torn, 4), Ok((keys(5..=7), 3)));
        assert_eq!(read_after(&torn, STORE + 1, 4).expect("none of it").1, 0);
    }

    #[test]
    fn records_begin_at_units_of_their_own() {
        let mut large = batch(1);
        let key = Bytes::from(vec![b'k'; UNIT]);
        large.keys.insert(key, None);
        assert_eq!(encode_record(STORE, 1, &large).len(), 2 * UNIT);
        assert_eq!(encode_record(STORE, 1, &batch(1)).len(), UNIT);
    }
}

//! The journal before the tables: a commit is one record, written in one place and synced.
//!
//! A transaction of redb changes the header and five pages in as many places of its file, and to
//! sync those takes half as long again. So what is durable is the record here, and the tables learn
//! of a commit when the journal is full: all that is in it, and the commit that did not fit any
//! more, then become one transaction, which is waited for, and the journal begins anew.
//!
//! Its file has its full length from the beginning, so that a sync has nothing to write but the
//! record itself.

use std::io;

use redb::StorageBackend;

use super::Batch;
use super::codec;
use super::problem::Problem;

/// The length of the file.
pub(super) const LENGTH: usize = 256 << 10;

/// Records begin at multiples of this, the largest unit that disks write at once: a record that was
/// acknowledged is never written again, not even with the next one.
const UNIT: usize = 4096;

/// Checksum and length of what follows the header, each 4 bytes little-endian; the store's cluster
/// id and the commit's number, 8 bytes each. The checksum is of all that follows it.
const HEADER: usize = 24;

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    backend: Box<dyn StorageBackend>,
    cluster_id: u64,
    /// Where the next record goes.
    end: usize,
}

impl Journal {
    /// Opens the journal of the store with this id, and reads the commits in it that come after the
    /// one with the number `sequence`, which the tables have. Writes nothing.
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

    /// Records a commit, if there is size for it. Once this returns `true` it survives a power cut.
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

    /// All commits so far are durable in the tables: what is here is not needed any more.
    pub(super) fn restart(&mut self) {
        self.end = 0;
    }
}

/// A record that is whole.
struct Record<'a> {
    sequence: u64,
    batch: &'a [u8],
    /// The bytes that it takes up.
    size: usize,
}

/// Up to the next unit, so that no shorter record leaves something of an older one behind it there.
fn encode_record(cluster_id: u64, sequence: u64, batch: &Batch) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    codec::encode_batch(batch, &mut bytes);
    // A commit of more than that is refused long before.
    let length = u32::try_from(bytes.len() - HEADER).unwrap_or(u32::MAX);
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes[8..16].copy_from_slice(&cluster_id.to_le_bytes());
    bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
    let sum = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(UNIT), 0);
    bytes
}

/// The record at the beginning of these bytes, if there is one of this store.
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

/// The commits after the one with this number, and where the next record goes.
fn read_after(
    bytes: &[u8],
    cluster_id: u64,
    sequence: u64,
) -> Result<(Vec<Batch>, usize), Problem> {
    let mut batches = Vec::new();
    let (mut at, mut last) = (0, None);
    // Behind the last record lies what is left of an earlier round through the file: lower numbers.
    while let Some(found) = parse_record(&bytes[at..], cluster_id)
        && last.is_none_or(|last| found.sequence == last + 1)
    {
        if found.sequence > sequence {
            if found.sequence != sequence + 1 + batches.len() as u64 {
                let detail = format!(
                    "its journal goes on with commit {}, and its tables end with {sequence}",
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
    // Each record was whole before the next one was begun.
    let stray = (at..bytes.len())
        .step_by(UNIT)
        .filter_map(|at| parse_record(&bytes[at..], cluster_id))
        .find(|found| found.sequence > newest);
    if let Some(stray) = stray {
        let detail = format!(
            "its journal lacks commit {}, and has {}",
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

    /// A journal with records of these commits.
    fn journal(sequences: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let records = sequences
            .into_iter()
            .map(|s| encode_record(STORE, s, &batch(s)));
        let mut bytes = records.collect::<Vec<_>>().concat();
        bytes.resize(LENGTH, 0);
        bytes
    }

    /// What follows this commit, and in which unit it goes on.
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
    fn what_the_tables_lack_is_read() {
        let bytes = journal(5..=8);
        assert_eq!(after(&bytes, 4), Ok((keys(5..=8), 4)));
        assert_eq!(after(&bytes, 6), Ok((keys(7..=8), 4)));
        assert_eq!(after(&bytes, 8), Ok((vec![], 4)));
        assert_eq!(after(&journal([]), 8), Ok((vec![], 0)));
    }

    #[test]
    fn an_earlier_round_is_written_over() {
        // The tables were made durable with the ninth commit, which is not here.
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
        // The last one may be one that was never acknowledged: the mark tells.
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

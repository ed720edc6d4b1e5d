//! The encoding of the file `LIFE`. Numbers are little-endian.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};

use super::{Host, LockStamp, Process};
use crate::machine::op::LeaseId;

pub(super) const NAME: &str = "LIFE";
const NEW: &str = "LIFE.new";

const MAGIC: u64 = u64::from_le_bytes(*b"TL-life1");
const HEADER: usize = 100;
/// The sessions begin at the second page.
const SLOTS: u64 = 4096;
pub(super) const SLOT: usize = 32;

/// What holds for all sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The stamp of the lock of the coordinator that wrote the file.
    pub(super) lock_stamp: LockStamp,
    pub(super) host: Host,
    /// No renewal was acknowledged whose request came later than this, in nanoseconds since boot.
    pub(super) until: u64,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.put_u64_le(MAGIC);
        bytes.put_u64_le(self.lock_stamp.inode);
        bytes.put_i64_le(self.lock_stamp.ctime.0);
        bytes.put_i64_le(self.lock_stamp.ctime.1);
        bytes.put_u128_le(self.host.machine);
        bytes.put_u128_le(self.host.boot);
        bytes.put_u64_le(self.host.namespace);
        bytes.put_i64_le(self.host.clock_offset);
        bytes.put_u64_le(self.until);
        bytes.put_u64_le(0);
        seal(bytes)
    }

    /// Parses a header; `None` if these are not the bytes of one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Header> {
        let mut bytes = unseal::<HEADER>(bytes)?;
        if bytes.get_u64_le() != MAGIC {
            return None;
        }
        Some(Header {
            lock_stamp: LockStamp {
                inode: bytes.get_u64_le(),
                ctime: (bytes.get_i64_le(), bytes.get_i64_le()),
            },
            host: Host {
                machine: bytes.get_u128_le(),
                boot: bytes.get_u128_le(),
                namespace: bytes.get_u64_le(),
                clock_offset: bytes.get_i64_le(),
            },
            until: bytes.get_u64_le(),
        })
    }
}

/// Returns the offset of a session's slot.
pub(super) fn slot_offset(slot: u32) -> u64 {
    SLOTS + u64::from(slot) * SLOT as u64
}

pub(super) fn encode_slot(id: LeaseId, process: Process) -> [u8; SLOT] {
    let mut bytes = Vec::with_capacity(SLOT);
    bytes.put_i64_le(id);
    bytes.put_u64_le(process.start);
    bytes.put_u64_le(u64::from(process.pid));
    bytes.put_u32_le(0);
    seal(bytes)
}

fn decode_slot(bytes: &[u8]) -> Option<(LeaseId, Process)> {
    let mut bytes = unseal::<SLOT>(bytes)?;
    let (id, start) = (bytes.get_i64_le(), bytes.get_u64_le());
    let pid = u32::try_from(bytes.get_u64_le()).ok()?;
    (id > 0).then_some((id, Process { pid, start }))
}

/// Appends the checksum of all bytes before it.
fn seal<const N: usize>(mut bytes: Vec<u8>) -> [u8; N] {
    bytes.put_u32_le(crc32fast::hash(&bytes));
    let mut whole = [0; N];
    whole.copy_from_slice(&bytes);
    whole
}

fn unseal<const N: usize>(bytes: &[u8]) -> Option<&[u8]> {
    let (bytes, mut sum) = bytes.get(..N)?.split_at(N - 4);
    (sum.get_u32_le() == crc32fast::hash(bytes)).then_some(bytes)
}

/// Creates a file with this content, which replaces an older one. It is not synced.
pub(super) fn create(
    folder: &Path,
    header: &Header,
    sessions: &[(u32, LeaseId, Process)],
) -> io::Result<(PathBuf, File)> {
    let (path, new) = (folder.join(NAME), folder.join(NEW));
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    let file = options.mode(0o600).open(&new)?;
    file.write_all_at(&header.encode(), 0)?;
    for &(slot, id, process) in sessions {
        file.write_all_at(&encode_slot(id, process), slot_offset(slot))?;
    }
    fs::rename(&new, &path)?;
    Ok((path, file))
}

/// Reads the file, if there is one that is intact.
pub(super) fn read(folder: &Path) -> Option<(Header, HashMap<LeaseId, Process>)> {
    let bytes = fs::read(folder.join(NAME)).ok()?;
    let header = Header::decode(&bytes)?;
    let slots = bytes.get(SLOTS as usize..).unwrap_or_default();
    let sessions = slots.chunks_exact(SLOT).filter_map(decode_slot);
    Some((header, sessions.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_record_is_read_back_and_any_flipped_bit_is_noticed() {
        let header = Header {
            lock_stamp: LockStamp {
                inode: 1,
                ctime: (-2, 3),
            },
            host: Host {
                machine: 4,
                boot: u128::MAX - 5,
                namespace: 6,
                clock_offset: -7,
            },
            until: 8,
        };
        let process = Process {
            pid: u32::MAX,
            start: u64::MAX,
        };
        let (bytes, slot) = (header.encode(), encode_slot(9, process));
        assert_eq!(Header::decode(&bytes), Some(header));
        assert_eq!(decode_slot(&slot), Some((9, process)));
        for bit in 0..HEADER * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped), None, "bit {bit}");
        }
        for bit in 0..SLOT * 8 {
            let mut flipped = slot;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_slot(&flipped), None, "bit {bit}");
        }
        assert_eq!(Header::decode(&bytes[..HEADER - 1]), None);
        assert_eq!(Header::decode(&[0; HEADER]), None);
        assert_eq!(decode_slot(&[0; SLOT]), None);
    }
}

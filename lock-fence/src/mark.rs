//! The mark of a fence: the highest token seen, and the append that may be under way.
//!
//! A mark is a file of two lines. The first line has a fixed length and is overwritten in place, by
//! one write within the first 512 bytes of the file: a disk writes a sector whole or not at all,
//! which databases rely on for their own control files. The checksum detects a torn write all the
//! same. The second line, the lock's name, never changes.

use lock_core::{LockName, Token};

/// Length of the first line with its line break.
pub(crate) const LINE_BYTES: usize = 256;
/// More bytes than any mark has.
pub(crate) const MAX_BYTES: usize = 2048;

const VERSION: &str = "turnlock-fence-1";

/// The content of a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The lock whose tokens count here.
    pub lock: LockName,
    /// The highest token seen.
    pub token: Token,
    /// The append that is under way, or was when its process died.
    pub pending: Option<Pending>,
}

/// An append that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    /// The file's inode number.
    pub inode: u64,
    /// The time at which the file was created, in nanoseconds since the Unix epoch, because inode
    /// numbers are used again; 0 where the file system does not record it.
    pub born: u64,
    /// The offset of the record: the length of the file before the append.
    pub at: u64,
    /// The length of the record, in bytes.
    pub bytes: u64,
    /// The CRC-32 of the record.
    pub checksum: u32,
}

impl Mark {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let name = self.name_line();
        let facts = self.facts();
        let check = checksum(&facts, &name);
        let line = format!("{facts} check={check:08x}");
        let width = LINE_BYTES - 1;
        format!("{line:<width$}\n{name}").into_bytes()
    }

    /// Decodes a mark; `None` if [`encode`](Mark::encode) does not return exactly these bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Mark> {
        let text = std::str::from_utf8(bytes).ok()?;
        let name = text.get(LINE_BYTES..)?.strip_suffix('\n')?;
        let (kind, name) = name.split_once(' ')?;
        let lock = match kind {
            "lock" => LockName::new(name).ok()?,
            "raw-lock" => LockName::raw(name).ok()?,
            _ => return None,
        };
        let mut fields = text.get(..LINE_BYTES)?.split_ascii_whitespace().skip(1);
        let mut field = |key: &str| fields.next()?.strip_prefix(key)?.strip_prefix('=');
        let token = Token(field("token")?.parse().ok()?);
        let pending = Pending {
            inode: field("inode")?.parse().ok()?,
            born: field("born")?.parse().ok()?,
            at: field("at")?.parse().ok()?,
            bytes: field("bytes")?.parse().ok()?,
            checksum: u32::from_str_radix(field("crc")?, 16).ok()?,
        };
        let mark = Mark {
            lock,
            token,
            pending: (pending.bytes > 0).then_some(pending),
        };
        // This comparison covers every other field, first of all the version and the checksum.
        (mark.encode() == bytes).then_some(mark)
    }

    fn facts(&self) -> String {
        let none = Pending {
            inode: 0,
            born: 0,
            at: 0,
            bytes: 0,
            checksum: 0,
        };
        let Pending {
            inode,
            born,
            at,
            bytes,
            checksum,
        } = self.pending.unwrap_or(none);
        let token = self.token;
        format!(
            "{VERSION} token={token} inode={inode} born={born} at={at} bytes={bytes} \
             crc={checksum:08x}"
        )
    }

    fn name_line(&self) -> String {
        let kind = if self.lock.is_raw() {
            "raw-lock"
        } else {
            "lock"
        };
        format!("{kind} {}\n", self.lock)
    }
}

fn checksum(facts: &str, name: &str) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(facts.as_bytes());
    hasher.update(name.as_bytes());
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn longest() -> Mark {
        Mark {
            lock: LockName::raw("x".repeat(1024)).expect("valid"),
            token: Token(u64::MAX),
            pending: Some(Pending {
                inode: u64::MAX,
                born: u64::MAX,
                at: u64::MAX,
                bytes: u64::MAX,
                checksum: u32::MAX,
            }),
        }
    }

    #[test]
    fn the_longest_one_fits() {
        let bytes = longest().encode();
        assert!(bytes.len() <= MAX_BYTES, "{}", bytes.len());
        assert_eq!(bytes[LINE_BYTES - 1], b'\n');
        assert_eq!(bytes[LINE_BYTES - 2], b' ', "the facts fit into their line");
        assert_eq!(Mark::decode(&bytes), Some(longest()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_shows() {
        let mark = Mark {
            lock: LockName::new("accounts/ledger").expect("valid"),
            token: Token(42),
            pending: None,
        };
        let whole = mark.encode();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::decode(&bytes), None, "bit {bit}");
        }
        for len in 0..whole.len() {
            assert_eq!(Mark::decode(&whole[..len]), None, "cut to {len}");
        }
    }

    proptest! {
        #[test]
        fn a_mark_survives_its_file(
            name in "\\PC{1,40}", token: u64, inode: u64, born: u64, at: u64,
            bytes in 1u64.., checksum: u32,
            appends: bool,
        ) {
            let Ok(lock) = LockName::new(&name) else { return Ok(()) };
            let pending = appends.then_some(Pending { inode, born, at, bytes, checksum });
            let mark = Mark { lock, token: Token(token), pending };
            prop_assert_eq!(Mark::decode(&mark.encode()), Some(mark));
        }

        #[test]
        fn a_torn_write_is_detected(old: u64, new: u64, tear in 0..LINE_BYTES) {
            let lock = LockName::new("a").expect("valid");
            let mark = |token| Mark { lock: lock.clone(), token: Token(token), pending: None };
            let (old, new) = (mark(old), mark(new));
            let torn = [&new.encode()[..tear], &old.encode()[tear..]].concat();
            let read = Mark::decode(&torn);
            prop_assert!(read.is_none() || read == Some(old) || read == Some(new));
        }
    }
}

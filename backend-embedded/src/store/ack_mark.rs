//! The mark beside the store: the last commit that was acknowledged.
//!
//! After a crash the last record of the journal may be torn. The store then goes back to the commit
//! before, which is right only if the torn one was never acknowledged. The mark tells the two cases
//! apart. It is written after a commit is durable and before the commit is acknowledged, and is not
//! synced. It survives the end of the process; after a power cut it can only be older than the
//! store, which is safe.

/// The length of the file in bytes.
pub(super) const LENGTH: usize = 24;

/// The content of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AckMark {
    /// The number of the last commit acknowledged.
    pub(crate) sequence: u64,
    /// The id of the store that the mark belongs to.
    pub(crate) cluster_id: u64,
}

impl AckMark {
    pub(super) fn encode(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..8].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.cluster_id.to_le_bytes());
        let sum = checksum(&bytes[..16]);
        bytes[16..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Parses a mark; `None` if these are not the bytes of one.
    pub(super) fn decode(bytes: &[u8]) -> Option<AckMark> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(number)
        };
        (number(16) == checksum(&bytes[..16])).then(|| AckMark {
            sequence: number(0),
            cluster_id: number(8),
        })
    }
}

/// Returns the FNV-1a checksum, which guards against accidents, not against malice.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_any_flipped_bit_is_noticed() {
        let mark = AckMark {
            sequence: 0x0123_4567_89ab_cdef,
            cluster_id: u64::MAX - 5,
        };
        let bytes = mark.encode();
        assert_eq!(AckMark::decode(&bytes), Some(mark));
        for bit in 0..LENGTH * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(AckMark::decode(&flipped), None, "bit {bit}");
        }
        assert_eq!(AckMark::decode(&bytes[..23]), None);
        assert_eq!(AckMark::decode(&[0; LENGTH]), None);
    }
}

//! Snapshots of a served coordinator, and the stores that are made from them.
//!
//! `Maintenance.Snapshot` gives one to `turnlock snapshot` and `etcdctl snapshot save`. [`restore`]
//! makes a new folder from it. The format is Turnlock's own. All numbers are little-endian:
//!
//! | Bytes | Content |
//! |---|---|
//! | 8 | `TL-snap` and a line feed |
//! | 8 | the version of the format: 1 |
//! | 8 | the id of the store |
//! | 8 | the revision of the state |
//! | 8 | the revision of the last compaction, 0 if there was none |
//! | 8 | when the snapshot was taken, by the server's clock: microseconds since 1970 |
//! | 8 | the number of leases |
//! | 8 | the number of keys |
//! | 16 each | the leases: the id, the time to live in seconds |
//! | | the keys, ascending: the length of the key in 8 bytes, the key; the length of the rest in 8 bytes, create revision, modification revision, version and lease in 8 bytes each, the value |
//! | | zeros up to a multiple of 512 |
//! | 32 | the SHA-256 sum of all before |
//!
//! The length is that of etcd's snapshots: `etcdctl` looks for the sum by it.

mod decode;
mod encode;
mod hash;
mod restore;
#[cfg(test)]
mod tests;

pub(crate) use self::encode::Encoder;
pub(crate) use self::hash::{hash_all, hash_keys};
pub use self::restore::{RestoreError, Restored, restore};

use crate::machine::op::Revision;

/// What a snapshot begins with.
const MAGIC: [u8; 8] = *b"TL-snap\n";

/// The version of the format.
const FORMAT_VERSION: u64 = 1;

/// The content is a multiple of this long, in bytes, without the sum.
const BLOCK: u64 = 512;

/// The length of the sum in bytes.
const SUM: usize = 32;

/// What stands before the leases and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) cluster_id: u64,
    pub(crate) revision: Revision,
    pub(crate) compact_revision: Revision,
    /// Microseconds since 1970, by the clock of the server.
    pub(crate) taken_at: u64,
    pub(crate) leases: u64,
    pub(crate) keys: u64,
}

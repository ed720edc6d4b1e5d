//! Hashes of a state, to compare it with a copy: equal states have equal hashes.

use crc32fast::Hasher;

use crate::machine::Snapshot;

/// Returns the hash of the keys with their values and revisions. A restored store has the same one
/// until something is written: leases and the store's revision are left out.
pub(crate) fn hash_keys(state: &Snapshot) -> u32 {
    hasher_of_keys(state).finalize()
}

/// Returns the hash of all that is stored.
pub(crate) fn hash_all(state: &Snapshot) -> u32 {
    let mut hasher = hasher_of_keys(state);
    hasher.update(&state.revision.to_le_bytes());
    hasher.update(&state.compact_revision.to_le_bytes());
    for kv in &state.keys {
        hasher.update(&kv.lease.to_le_bytes());
    }
    for (id, ttl) in &state.leases {
        hasher.update(&id.to_le_bytes());
        hasher.update(&ttl.as_secs().to_le_bytes());
    }
    hasher.finalize()
}

fn hasher_of_keys(state: &Snapshot) -> Hasher {
    let mut hasher = Hasher::new();
    for kv in &state.keys {
        for number in [
            kv.key.len() as u64,
            kv.value.len() as u64,
            kv.create_revision,
            kv.mod_revision,
            kv.version,
        ] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(&kv.key);
        hasher.update(&kv.value);
    }
    hasher
}

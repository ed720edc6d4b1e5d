//! What is in the store's tables, and how it is read and written.

use std::sync::Arc;
use std::time::Duration;

use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::problem::Problem;
use super::{Batch, Identity, Loaded, codec};
use crate::machine::op::{KeyValue, LeaseId};
use crate::machine::{FIRST_REVISION, Snapshot};

/// The version of what is in the tables.
pub(super) const FORMAT_VERSION: u64 = 1;

/// The number of the commit that makes a store.
const FIRST_SEQUENCE: u64 = 1;

/// Bytes of pages that redb may keep in memory. The state itself is all in memory, so pages are
/// read again only to be changed.
const CACHE_BYTES: usize = 32 << 20;

const KEYS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("keys");
/// Time to live in seconds by id.
const LEASES: TableDefinition<'_, LeaseId, u64> = TableDefinition::new("leases");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

const META_FORMAT: &str = "format";
const META_CLUSTER: &str = "cluster_id";
const META_MEMBER: &str = "member_id";
const META_REVISION: &str = "revision";
const META_COMPACTED: &str = "compact_revision";
/// Counts the commits: grants and revokes change no revision.
const META_SEQUENCE: &str = "sequence";

/// Every page's checksum is verified whenever the store is opened: it is small, and a damaged one
/// must never be served from.
pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true);
    builder
}

/// Writes the tables of an empty store.
pub(super) fn initialise(database: &Database, identity: Identity) -> Result<(), Problem> {
    let transaction = database.begin_write()?;
    transaction.open_table(KEYS)?;
    transaction.open_table(LEASES)?;
    let mut meta = transaction.open_table(META)?;
    meta.insert(META_FORMAT, FORMAT_VERSION)?;
    meta.insert(META_CLUSTER, identity.cluster_id)?;
    meta.insert(META_MEMBER, identity.member_id)?;
    meta.insert(META_REVISION, FIRST_REVISION)?;
    meta.insert(META_COMPACTED, 0)?;
    meta.insert(META_SEQUENCE, FIRST_SEQUENCE)?;
    drop(meta);
    transaction.commit()?;
    Ok(())
}

/// Writes a batch in one transaction, synced before this returns (redb's default durability).
pub(super) fn write(database: &Database, batch: &Batch, sequence: u64) -> Result<(), Problem> {
    let transaction = database.begin_write()?;
    if !batch.keys.is_empty() {
        let mut keys = transaction.open_table(KEYS)?;
        for (key, kv) in &batch.keys {
            match kv {
                Some(kv) => keys.insert(key.as_ref(), codec::encode(kv).as_slice())?,
                None => keys.remove(key.as_ref())?,
            };
        }
    }
    if !batch.leases.is_empty() {
        let mut leases = transaction.open_table(LEASES)?;
        for (id, ttl) in &batch.leases {
            match ttl {
                Some(ttl) => leases.insert(id, ttl.as_secs())?,
                None => leases.remove(id)?,
            };
        }
    }
    let mut meta = transaction.open_table(META)?;
    meta.insert(META_SEQUENCE, sequence)?;
    if let Some(revision) = batch.revision {
        meta.insert(META_REVISION, revision)?;
    }
    if let Some(revision) = batch.compacted {
        meta.insert(META_COMPACTED, revision)?;
    }
    drop(meta);
    transaction.commit()?;
    Ok(())
}

/// Reads everything, and holds it against what must be true of it.
pub(super) fn load(database: &Database) -> Result<Loaded, Problem> {
    let transaction = database.begin_read()?;
    let meta = transaction.open_table(META)?;
    let number = |name: &str| match meta.get(name)? {
        Some(number) => Ok(number.value()),
        None => Err(Problem::Damaged(format!("it has no {name}"))),
    };
    let format = number(META_FORMAT)?;
    if format != FORMAT_VERSION {
        return Err(Problem::Format(format));
    }
    let mut leases = Vec::new();
    for entry in transaction.open_table(LEASES)?.iter()? {
        let (id, ttl) = entry?;
        leases.push((id.value(), Duration::from_secs(ttl.value())));
    }
    let mut keys = Vec::new();
    for entry in transaction.open_table(KEYS)?.iter()? {
        let (key, value) = entry?;
        let kv = codec::decode(key.value(), value.value())
            .ok_or_else(|| broken(key.value(), "is cut short"))?;
        keys.push(Arc::new(kv));
    }
    let snapshot = Snapshot {
        revision: number(META_REVISION)?,
        compact_revision: number(META_COMPACTED)?,
        keys,
        leases,
    };
    check(&snapshot)?;
    Ok(Loaded {
        snapshot,
        identity: Identity {
            cluster_id: number(META_CLUSTER)?,
            member_id: number(META_MEMBER)?,
        },
        sequence: number(META_SEQUENCE)?,
    })
}

fn check(snapshot: &Snapshot) -> Result<(), Problem> {
    let revision = snapshot.revision;
    if revision < FIRST_REVISION || snapshot.compact_revision > revision {
        let detail = format!("its revision {revision} cannot be");
        return Err(Problem::Damaged(detail));
    }
    if let Some((id, _)) = snapshot.leases.iter().find(|(id, _)| *id <= 0) {
        return Err(Problem::Damaged(format!("its lease {id} cannot be")));
    }
    for kv in &snapshot.keys {
        check_key(kv, snapshot)?;
    }
    Ok(())
}

fn check_key(kv: &KeyValue, snapshot: &Snapshot) -> Result<(), Problem> {
    let in_order = kv.create_revision <= kv.mod_revision && kv.mod_revision <= snapshot.revision;
    if kv.key.is_empty() || kv.version == 0 || !in_order {
        return Err(broken(&kv.key, "has a history that cannot be"));
    }
    // As stored: ascending.
    let known = |id| {
        (snapshot.leases)
            .binary_search_by_key(&id, |(id, _)| *id)
            .is_ok()
    };
    if kv.lease != 0 && !known(kv.lease) {
        return Err(broken(&kv.key, "is attached to a lease that is not there"));
    }
    Ok(())
}

fn broken(key: &[u8], what: &str) -> Problem {
    Problem::Damaged(format!("its key \"{}\" {what}", key.escape_ascii()))
}

//! The tables of the store, and how they are read and written.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use redb::{AccessGuard, Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::problem::Problem;
use super::{Batch, Deletions, Identity, LoadedState, codec, deletions};
use crate::config::{MAX_LEASE_TTL, MIN_LEASE_TTL};
use crate::machine::op::{KeyValue, LeaseId, Revision};
use crate::machine::{FIRST_REVISION, Snapshot};

/// The version of the tables' format. From the third on, there is a journal before them.
pub(super) const FORMAT_VERSION: u64 = 3;
const FORMAT_WITHOUT_JOURNAL: u64 = 2;

/// The number of the commit that creates a store.
const FIRST_SEQUENCE: u64 = 1;

/// Bytes of pages that redb may keep in memory. The whole state is in memory already, so pages are
/// read again only to be changed.
const CACHE_BYTES: usize = 32 << 20;

const KEYS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("keys");
/// The time to live in seconds, by id.
const LEASES: TableDefinition<'_, LeaseId, u64> = TableDefinition::new("leases");
/// Values that never change.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

const META_FORMAT: &str = "format";
const META_CLUSTER: &str = "cluster_id";
const META_MEMBER: &str = "member_id";

// The numbers that a coordinator writes. Calculations with them cannot overflow. A file may have
// others: somebody who can write the file can also write a checksum that fits.
const REVISIONS: RangeInclusive<Revision> = FIRST_REVISION..=i64::MAX.unsigned_abs();
const VERSIONS: RangeInclusive<u64> = 1..=1 << 62;
const TTLS: RangeInclusive<Duration> = MIN_LEASE_TTL..=MAX_LEASE_TTL;

/// The key of the record that every transaction changes. It lies among the keys, none of which is
/// empty: a separate table would be one more page to write.
const HEAD: &[u8] = b"";

/// The content of that record.
#[derive(Debug, Clone, Copy)]
struct Head {
    /// The number of commits. Grants and revokes change no revision.
    sequence: u64,
    revision: Revision,
    compact_revision: Revision,
}

impl Head {
    fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        let fields = [self.sequence, self.revision, self.compact_revision];
        for (slot, field) in bytes.chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (sequence, rest) = bytes.split_first_chunk()?;
        let (revision, rest) = rest.split_first_chunk()?;
        let compact_revision = rest.try_into().ok()?;
        Some(Head {
            sequence: u64::from_le_bytes(*sequence),
            revision: u64::from_le_bytes(*revision),
            compact_revision: u64::from_le_bytes(compact_revision),
        })
    }
}

/// Returns the settings of the database. Every page's checksum is verified whenever the store is
/// opened: the store is small, and a damaged one must never be served.
pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true);
    builder
}

/// Writes the tables of a new store.
pub(super) fn initialise(
    database: &Database,
    identity: Identity,
    state: &Snapshot,
) -> Result<(), Problem> {
    let transaction = database.begin_write()?;
    let head = Head {
        sequence: FIRST_SEQUENCE,
        revision: state.revision,
        compact_revision: state.compact_revision,
    };
    let mut keys = transaction.open_table(KEYS)?;
    keys.insert(HEAD, head.encode().as_slice())?;
    for kv in &state.keys {
        keys.insert(kv.key.as_ref(), codec::encode(kv).as_slice())?;
    }
    drop(keys);
    let mut leases = transaction.open_table(LEASES)?;
    for (id, ttl) in &state.leases {
        leases.insert(id, ttl.as_secs())?;
    }
    drop(leases);
    deletions::initialise(&transaction, FIRST_SEQUENCE)?;
    let mut meta = transaction.open_table(META)?;
    meta.insert(META_FORMAT, FORMAT_VERSION)?;
    meta.insert(META_CLUSTER, identity.cluster_id)?;
    meta.insert(META_MEMBER, identity.member_id)?;
    drop(meta);
    transaction.commit()?;
    Ok(())
}

/// Makes programs that do not know the journal refuse the store from now on.
pub(super) fn upgrade(database: &Database) -> Result<(), Problem> {
    let transaction = database.begin_write()?;
    let mut meta = transaction.open_table(META)?;
    let format = meta.get(META_FORMAT)?.map(|format| format.value());
    if format == Some(FORMAT_WITHOUT_JOURNAL) {
        meta.insert(META_FORMAT, FORMAT_VERSION)?;
        drop(meta);
        transaction.commit()?;
    }
    Ok(())
}

/// Writes a batch in one transaction, as of the commit with this number. After this returns, it
/// survives a power cut.
pub(super) fn write(
    database: &Database,
    batch: &Batch,
    deletions: &Deletions,
    sequence: u64,
) -> Result<(), Problem> {
    let transaction = database.begin_write()?;
    let mut keys = transaction.open_table(KEYS)?;
    let before = parse_head(keys.get(HEAD)?)?;
    let head = Head {
        sequence,
        revision: batch.revision.unwrap_or(before.revision),
        compact_revision: batch.compacted.unwrap_or(before.compact_revision),
    };
    keys.insert(HEAD, head.encode().as_slice())?;
    for (key, kv) in &batch.keys {
        match kv {
            Some(kv) => keys.insert(key.as_ref(), codec::encode(kv).as_slice())?,
            None => keys.remove(key.as_ref())?,
        };
    }
    drop(keys);
    if !batch.leases.is_empty() {
        let mut leases = transaction.open_table(LEASES)?;
        for (id, ttl) in &batch.leases {
            match ttl {
                Some(ttl) => leases.insert(id, ttl.as_secs())?,
                None => leases.remove(id)?,
            };
        }
    }
    deletions.write(&transaction, sequence)?;
    transaction.commit()?;
    Ok(())
}

/// Reads all tables and checks them.
pub(super) fn load(database: &Database) -> Result<LoadedState, Problem> {
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
    let table = transaction.open_table(KEYS)?;
    let head = parse_head(table.get(HEAD)?)?;
    let mut keys = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        if key.value() == HEAD {
            continue;
        }
        let kv = codec::decode(key.value(), value.value())
            .ok_or_else(|| key_problem(key.value(), "is cut short"))?;
        keys.push(Arc::new(kv));
    }
    let snapshot = Snapshot {
        revision: head.revision,
        compact_revision: head.compact_revision,
        keys,
        leases,
    };
    check(&snapshot)?;
    Ok(LoadedState {
        snapshot,
        identity: Identity {
            cluster_id: number(META_CLUSTER)?,
            member_id: number(META_MEMBER)?,
        },
        deletions: deletions::load(&transaction, head.sequence)?,
        last_change: head.revision,
        sequence: head.sequence,
    })
}

/// Parses the head record.
fn parse_head(found: Option<AccessGuard<'_, &'static [u8]>>) -> Result<Head, Problem> {
    let missing = || Problem::Damaged("its head record is missing or damaged".to_string());
    let found = found.ok_or_else(missing)?;
    Head::decode(found.value()).ok_or_else(missing)
}

/// Fails if a state is impossible.
pub(super) fn check(snapshot: &Snapshot) -> Result<(), Problem> {
    let revision = snapshot.revision;
    if !REVISIONS.contains(&revision) || snapshot.compact_revision > revision {
        let detail = format!("its revision {revision} is impossible");
        return Err(Problem::Damaged(detail));
    }
    let is_possible = |(id, ttl): &(LeaseId, Duration)| *id > 0 && TTLS.contains(ttl);
    if let Some((id, ttl)) = snapshot.leases.iter().find(|lease| !is_possible(lease)) {
        let detail = format!("its lease {id} of {} s is impossible", ttl.as_secs());
        return Err(Problem::Damaged(detail));
    }
    for kv in &snapshot.keys {
        check_key(kv, snapshot)?;
    }
    Ok(())
}

fn check_key(kv: &KeyValue, snapshot: &Snapshot) -> Result<(), Problem> {
    let in_order = kv.create_revision <= kv.mod_revision && kv.mod_revision <= snapshot.revision;
    let is_numbered = kv.create_revision > 0 && VERSIONS.contains(&kv.version);
    if kv.key.is_empty() || !is_numbered || !in_order {
        return Err(key_problem(&kv.key, "has impossible revisions"));
    }
    // The leases are stored in ascending order.
    let is_live = |id| {
        (snapshot.leases)
            .binary_search_by_key(&id, |(id, _)| *id)
            .is_ok()
    };
    if kv.lease != 0 && !is_live(kv.lease) {
        return Err(key_problem(
            &kv.key,
            "is attached to a lease that does not exist",
        ));
    }
    Ok(())
}

fn key_problem(key: &[u8], what: &str) -> Problem {
    Problem::Damaged(format!("its key \"{}\" {what}", key.escape_ascii()))
}

//! Tests of the store on a simulated disk.

mod crash;
mod damage;
mod folder;

use super::*;
use crate::machine::Snapshot;
use disk::Disk;

/// Returns a key written at this revision.
fn key(name: &str, revision: Revision, value: &[u8], lease: LeaseId) -> Arc<KeyValue> {
    Arc::new(KeyValue {
        key: Bytes::copy_from_slice(name.as_bytes()),
        value: Bytes::copy_from_slice(value),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease,
    })
}

/// Makes random commits, and knows the state after each.
#[derive(Clone)]
struct Writer {
    chance: fastrand::Rng,
    revision: Revision,
    leases: BTreeMap<LeaseId, Duration>,
    keys: BTreeMap<Bytes, Arc<KeyValue>>,
}

impl Writer {
    fn new(seed: u64) -> Self {
        Self {
            chance: fastrand::Rng::with_seed(seed),
            revision: crate::machine::FIRST_REVISION,
            leases: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }

    fn state(&self) -> Snapshot {
        Snapshot {
            revision: self.revision,
            compact_revision: 0,
            keys: self.keys.values().cloned().collect(),
            leases: self.leases.iter().map(|(id, ttl)| (*id, *ttl)).collect(),
        }
    }

    fn next(&mut self) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..self.chance.usize(1..20) {
            let name = format!("lock/{}", self.chance.u8(..60));
            self.revision += 1;
            batch.revision = Some(self.revision);
            if self.chance.u8(..3) == 0 {
                self.keys.remove(name.as_bytes());
                batch.keys.insert(name.into(), None);
                continue;
            }
            let lease = self.leases.keys().next().copied().unwrap_or(0);
            let length = match self.chance.u8(..20) {
                0 => 20_000,
                small => usize::from(small) * 5,
            };
            let kv = key(&name, self.revision, &vec![b'v'; length], lease);
            self.keys.insert(kv.key.clone(), Arc::clone(&kv));
            batch.keys.insert(kv.key.clone(), Some(kv));
        }
        if self.chance.bool() {
            let id = i64::from(self.chance.u16(1..));
            let ttl = Duration::from_secs(self.chance.u64(1..100));
            self.leases.insert(id, ttl);
            batch.leases.insert(id, Some(ttl));
        }
        // Only a lease without keys, so that the state stays possible.
        if let Some((&id, _)) = self.leases.last_key_value()
            && self.chance.bool()
            && self.keys.values().all(|kv| kv.lease != id)
        {
            self.leases.remove(&id);
            batch.leases.insert(id, None);
            // A key written in this very batch must not refer to the lease either.
            debug_assert!(batch.keys.values().flatten().all(|kv| kv.lease != id));
        }
        batch
    }
}

fn open(disk: &Disk) -> (Store, LoadedState) {
    Store::open(disk.medium(), 0).unwrap()
}

#[test]
fn committed_data_is_there_after_a_reopen() {
    let disk = Disk::with_store();
    let mut writer = Writer::new(1);
    let (mut store, loaded) = open(&disk);
    assert_eq!(loaded.snapshot, writer.state());
    let identity = loaded.identity;
    assert!(identity.cluster_id != 0 && identity.member_id != 0);
    for _ in 0..50 {
        store.commit(writer.next()).unwrap();
    }
    let killed = disk.after_kill();
    drop(store);
    for disk in [killed, disk] {
        let (_, loaded) = open(&disk);
        assert_eq!(loaded.snapshot, writer.state());
        assert_eq!(loaded.identity, identity);
    }
}

#[test]
fn a_commit_costs_one_sync_when_the_file_does_not_grow() {
    let disk = Disk::with_store();
    let (mut store, _) = open(&disk);
    let commit = |store: &mut Store, revision| {
        let mut batch = Batch {
            revision: Some(revision),
            ..Batch::default()
        };
        let kv = key("lock/1", revision, b"v", 0);
        batch.keys.insert(kv.key.clone(), Some(kv));
        store.commit(batch).unwrap();
    };
    commit(&mut store, 2);
    let before = disk.syncs();
    for revision in 3..103 {
        commit(&mut store, revision);
    }
    // Once the journal was full, and the tables were synced instead.
    assert_eq!(disk.syncs() - before, 100);
    store.commit(Batch::default()).unwrap();
    assert_eq!(
        disk.syncs() - before,
        100,
        "nothing to record, nothing done"
    );
}

#[test]
fn a_full_disk_differs_from_a_broken_one() {
    for full_writes in [false, true] {
        let disk = Disk::with_store();
        let (mut store, _) = open(&disk);
        let mut writer = Writer::new(2);
        for _ in 0..5 {
            store.commit(writer.next()).unwrap();
        }
        store.reserve().unwrap();
        disk.fill(full_writes);
        let recorded = writer.state();
        let mut large = writer.next();
        let kv = key("large", writer.revision, &vec![1; 8 << 20], 0);
        large.keys.insert(kv.key.clone(), Some(kv));
        let failed = store.commit(large.clone());
        assert!(
            matches!(failed, Err(Failure::NoSpace(Error::NoSpace { .. }))),
            "{failed:?}"
        );
        let loaded = store.recover().unwrap();
        assert!(!store.is_last_attempt_recorded());
        assert_eq!(loaded.snapshot, recorded);
        // The reserved space is enough for a deletion.
        let mut release = Batch::default();
        release.keys.insert(Bytes::from_static(b"lock/1"), None);
        let small = store.commit(release.clone());
        assert_eq!(small.is_err(), full_writes, "{small:?}");
        if full_writes {
            assert!(matches!(small, Err(Failure::NoSpace(_))), "{small:?}");
            assert_eq!(store.recover().unwrap().snapshot, recorded);
        }
        disk.free();
        store.commit(release).unwrap();
        store.commit(large).unwrap();
        store.reserve().unwrap();
    }
}

#[test]
fn journal_records_survive_although_the_tables_have_no_space() {
    let disk = Disk::with_store();
    let (mut store, _) = open(&disk);
    let mut writer = Writer::new(4);
    store.commit(writer.next()).unwrap();
    disk.fill(false);
    let mut large = writer.next();
    let kv = key("large", writer.revision, &vec![1; 200 << 10], 0);
    writer.keys.insert(kv.key.clone(), Arc::clone(&kv));
    large.keys.insert(kv.key.clone(), Some(kv));
    store.commit(large).unwrap();
    // The first commit that does not fit into the journal has to be written to the tables with it.
    loop {
        let mut next = writer.clone();
        match store.commit(next.next()) {
            Ok(()) => writer = next,
            Err(Failure::NoSpace(_)) => break,
            Err(failed) => panic!("{failed:?}"),
        }
    }
    assert_eq!(store.recover().unwrap().snapshot, writer.state());
    assert!(!store.is_last_attempt_recorded());
    disk.free();
    store.commit(writer.next()).unwrap();
    drop(store);
    assert_eq!(open(&disk).1.snapshot, writer.state());
}

#[test]
fn a_store_opens_and_takes_releases_though_the_tables_have_no_space_for_the_journal() {
    let disk = Disk::with_store();
    let (mut store, _) = open(&disk);
    let mut writer = Writer::new(8);
    let mut large = writer.next();
    let kv = key("large", writer.revision, &vec![1; 200 << 10], 0);
    writer.keys.insert(kv.key.clone(), Arc::clone(&kv));
    large.keys.insert(kv.key.clone(), Some(kv));
    store.commit(large).unwrap();
    drop(store);
    disk.fill(false);
    let (mut store, loaded) = open(&disk);
    assert_eq!(loaded.snapshot, writer.state());
    let mut release = Batch::default();
    release.keys.insert(Bytes::from_static(b"large"), None);
    store.commit(release).unwrap();
    writer.keys.remove(b"large".as_slice());
    drop(store);
    assert_eq!(open(&disk).1.snapshot, writer.state());
}

#[test]
fn the_reserve_is_enough_for_releases_with_a_full_journal() {
    let disk = Disk::with_store();
    disk.keep_log();
    let (mut store, _) = open(&disk);
    let mut writer = Writer::new(7);
    for _ in 0..60 {
        store.commit(writer.next()).unwrap();
    }
    store.reserve().unwrap();
    disk.fill(false);
    let rounds = disk.journal_rounds();
    for _ in 0..100 {
        let mut release = Batch::default();
        release.keys.insert(Bytes::from_static(b"lock/1"), None);
        store.commit(release).unwrap();
    }
    assert!(disk.journal_rounds() > rounds, "the journal was never full");
}

#[test]
fn after_any_other_failure_nothing_is_recorded_any_more() {
    let faults: [fn(&Disk); 3] = [
        |disk| disk.fail_syncs(Some(ErrorKind::Other)),
        // A sync that fails has lost what it had to write, whatever the reason.
        |disk| disk.fail_syncs(Some(ErrorKind::StorageFull)),
        |disk| disk.fail_writes(Some(ErrorKind::Other)),
    ];
    for fault in faults {
        let disk = Disk::with_store();
        let (mut store, _) = open(&disk);
        let mut writer = Writer::new(3);
        store.commit(writer.next()).unwrap();
        fault(&disk);
        let failed = store.commit(writer.next());
        assert!(
            matches!(failed, Err(Failure::Fatal(Error::Io { .. }))),
            "{failed:?}"
        );
        disk.fail_syncs(None);
        disk.fail_writes(None);
        assert!(matches!(
            store.commit(writer.next()),
            Err(Failure::Fatal(_))
        ));
    }
}

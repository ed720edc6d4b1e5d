//! Damage to the files: it is noticed, or it changes nothing that was recorded. There is never a
//! silent loss, and never a panic.

use super::super::disk::{self, Part};
use super::*;

/// Sets the number of bits to flip.
const FLIPS: &str = "TURNLOCK_DAMAGE_FLIPS";

const PAGE: usize = 4096;

const PARTS: [Part; 2] = [Part::Store, Part::Journal];

struct Target {
    disk: Disk,
    bytes: disk::Bytes,
    state: Snapshot,
    noticed: usize,
}

impl Target {
    /// Returns a store in use: closed, or as a kill leaves it.
    fn new(closed: bool) -> Self {
        let disk = Disk::with_store();
        let (mut store, _) = open(&disk);
        let mut writer = Writer::new(7);
        for _ in 0..30 {
            store.commit(writer.next()).unwrap();
        }
        let killed = disk.after_kill();
        drop(store);
        let disk = if closed { disk } else { killed };
        Self {
            bytes: disk.bytes(),
            disk,
            state: writer.state(),
            noticed: 0,
        }
    }

    /// Returns the bytes of one of the files.
    fn part(&self, part: Part) -> Vec<u8> {
        self.bytes.clone().of(part).clone()
    }

    fn check(&mut self, part: Part, damaged: Vec<u8>, context: &str) {
        let mut bytes = self.bytes.clone();
        *bytes.of(part) = damaged;
        let context = format!("{part:?}, {context}");
        match Store::open(self.disk.with_bytes(bytes).medium(), 0) {
            Ok((_, loaded)) => assert_eq!(loaded.snapshot, self.state, "{context}: silent loss"),
            Err(Error::Damaged { path, .. }) => {
                assert_eq!(path, self.disk.path());
                self.noticed += 1;
            }
            Err(error) => panic!("{context}: {error}"),
        }
    }
}

#[test]
fn a_flipped_bit_is_noticed_or_harmless() {
    let flips = std::env::var(FLIPS)
        .ok()
        .and_then(|flips| flips.parse().ok());
    let flips: usize = flips.unwrap_or(120);
    let mut chance = fastrand::Rng::with_seed(8);
    for (closed, part) in [true, false]
        .into_iter()
        .flat_map(|c| PARTS.map(|p| (c, p)))
    {
        let mut target = Target::new(closed);
        let bytes = target.part(part);
        // The places worth damaging: the header, and pages that are not empty.
        let used: Vec<usize> = (bytes.chunks(PAGE).enumerate())
            .filter(|(_, page)| page.iter().any(|&byte| byte != 0))
            .map(|(nth, _)| nth)
            .collect();
        for nth in 0..flips {
            let (page, within) = match nth % 3 {
                0 => (0, 320),
                _ => (used[chance.usize(..used.len())], PAGE),
            };
            let bit = page * PAGE * 8 + chance.usize(..within * 8);
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            target.check(part, damaged, &format!("bit {bit}, closed: {closed}"));
        }
        assert!(target.noticed > 0 || closed, "{part:?}");
    }
}

#[test]
fn a_zeroed_page_is_noticed_or_harmless() {
    for (closed, part) in [true, false]
        .into_iter()
        .flat_map(|c| PARTS.map(|p| (c, p)))
    {
        let mut target = Target::new(closed);
        let bytes = target.part(part);
        for at in (0..bytes.len()).step_by(PAGE) {
            let end = (at + PAGE).min(bytes.len());
            if bytes[at..end].iter().all(|&byte| byte == 0) {
                continue;
            }
            let mut damaged = bytes.clone();
            damaged[at..end].fill(0);
            target.check(part, damaged, &format!("page at {at}, closed: {closed}"));
        }
        assert!(target.noticed > 0 || closed, "{part:?}");
    }
}

#[test]
fn a_file_cut_off_is_noticed_or_harmless() {
    let mut chance = fastrand::Rng::with_seed(9);
    for (closed, part) in [true, false]
        .into_iter()
        .flat_map(|c| PARTS.map(|p| (c, p)))
    {
        let mut target = Target::new(closed);
        let bytes = target.part(part);
        let len = bytes.len();
        let pages = (0..len).step_by(PAGE * 16);
        let odd: Vec<_> = (0..20).map(|_| chance.usize(1..len)).collect();
        for kept in pages
            .skip(1)
            .chain([1, 8, 9, 63, 319, 320, len - 1])
            .chain(odd)
        {
            let damaged = bytes[..kept].to_vec();
            target.check(part, damaged, &format!("cut to {kept}, closed: {closed}"));
        }
        assert!(target.noticed > 0 || closed, "{part:?}");
    }
}

/// Somebody who can write the journal can also write a checksum that fits. The deadline of a lease
/// that is this long would overflow, and so would the revision that follows a revision this high.
#[test]
fn numbers_that_no_coordinator_writes_are_noticed() {
    let with_key = |change: fn(&mut KeyValue)| {
        let mut kv = key("lock/1", 2, b"v", 0);
        change(Arc::make_mut(&mut kv));
        Batch {
            revision: Some(2),
            keys: [(kv.key.clone(), Some(kv))].into(),
            ..Batch::default()
        }
    };
    let with_lease = |seconds| Batch {
        leases: [(7, Some(Duration::from_secs(seconds)))].into(),
        ..Batch::default()
    };
    let at = |revision| Batch {
        revision: Some(revision),
        keys: [(Bytes::from_static(b"gone"), None)].into(),
        ..Batch::default()
    };
    let notices = |batch: Batch| {
        let disk = Disk::with_store();
        let (mut store, _) = open(&disk);
        store.commit(batch).unwrap();
        drop(store);
        match Store::open(disk.medium(), 0) {
            Ok(_) => false,
            Err(Error::Damaged { .. }) => true,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(!notices(with_key(|_| {})) && !notices(with_lease(9)) && !notices(at(2)));
    assert!(notices(with_lease(0)) && notices(with_lease(u64::MAX)));
    assert!(notices(at(1 << 63)) && notices(at(u64::MAX)));
    assert!(notices(with_key(|kv| kv.version = u64::MAX)));
    assert!(notices(with_key(|kv| kv.create_revision = 0)));
}

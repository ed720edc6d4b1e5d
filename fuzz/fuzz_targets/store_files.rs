//! The files beside the tables of a store: its journal, its mark, and the record of its sessions. The
//! first byte of an input chooses the file. The sums are put right: a fuzzer finds none.

#![no_main]

use std::sync::LazyLock;

use backend_embedded::{Config, Coordinator};
use libfuzzer_sys::fuzz_target;
use turnlock_fuzz::folder::{self, JOURNAL, LIFE, MARK, NewStore};
use turnlock_fuzz::{memory, pieces};

/// Records of the journal begin at multiples of this.
const UNIT: usize = 4096;

/// The header of the record of sessions without its sum, and a session without its sum.
const LIFE_HEADER: usize = 96;
const LIFE_SLOT: usize = 28;

/// The tables of a store, and what opening it takes.
const STORE: usize = 64 << 20;

static NEW: LazyLock<NewStore> = LazyLock::new(NewStore::make);

fuzz_target!(init: turnlock_fuzz::begin(seeds), |input: &[u8]| {
    let Some((choice, input)) = input.split_first() else {
        return;
    };
    let (name, content) = match choice % 4 {
        0 => (LIFE, life(input)),
        1 => (MARK, mark(input)),
        _ => (JOURNAL, journal(input)),
    };
    let new = &*NEW;
    let folder = folder::make();
    new.write(folder.path(), name, &content);
    memory::limit(input, STORE, || {
        match Coordinator::open(Config::new(folder.path())) {
            Ok(coordinator) => {
                folder::use_all(&coordinator);
                coordinator.close().expect("it closes");
            }
            Err(error) => drop(error.to_string()),
        }
    });
});

/// Makes a journal with a record of each piece.
fn journal(input: &[u8]) -> Vec<u8> {
    let mut journal = Vec::new();
    for (piece, sequence) in pieces::split(input).zip(NEW.sequence() + 1..) {
        let mut record = Vec::new();
        let length = u32::try_from(piece.len()).expect("a piece is short");
        record.extend(length.to_le_bytes());
        record.extend(NEW.cluster_id.to_le_bytes());
        record.extend(sequence.to_le_bytes());
        record.extend(piece);
        journal.extend(crc32fast::hash(&record).to_le_bytes());
        journal.extend(record);
        journal.resize(journal.len().next_multiple_of(UNIT), 0);
    }
    journal
}

/// Returns a mark with a checksum that fits, by FNV-1a.
fn mark(input: &[u8]) -> Vec<u8> {
    let mut mark = input.to_vec();
    mark.resize(16, 0);
    let sum = mark.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mark.extend(sum.to_le_bytes());
    mark
}

/// Makes a record of sessions.
fn life(input: &[u8]) -> Vec<u8> {
    let (header, sessions) = input.split_at(input.len().min(LIFE_HEADER));
    let seal = |bytes: &[u8], length: usize| {
        let mut bytes = bytes.to_vec();
        bytes.resize(length, 0);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    };
    let mut life = seal(header, LIFE_HEADER);
    life.resize(UNIT, 0);
    for session in sessions.chunks(LIFE_SLOT) {
        life.extend(seal(session, LIFE_SLOT));
    }
    life
}

fn seeds() -> Vec<Vec<u8>> {
    let folder = folder::make();
    let coordinator = Coordinator::open(Config::new(folder.path())).expect("it opens");
    pollster::block_on(async {
        let ttl = std::time::Duration::from_secs(9);
        coordinator.grant(7, ttl).await.expect("a lease");
    });
    folder::use_all(&coordinator);
    let read = |name| std::fs::read(folder.path().join(name)).expect("it is there");
    let (life, journal, mark) = (read(LIFE), read(JOURNAL), read(MARK));
    coordinator.close().expect("it closes");
    let records = journal.chunks(UNIT).map_while(|record| {
        let length = u32::from_le_bytes(*record[4..].first_chunk()?) as usize;
        record
            .get(24..24 + length)
            .filter(|batch| !batch.is_empty())
    });
    let records = pieces::join(records);
    let header = life.get(..LIFE_HEADER).unwrap_or(&life);
    // The highest revision, no compaction, no leases and no keys.
    let highest = [&[1; 1], &u64::MAX.to_le_bytes()[..], &[0; 17]].concat();
    vec![
        [b"2".as_slice(), &pieces::join([highest])].concat(),
        [b"0", header, &[1; LIFE_SLOT]].concat(),
        [b"1", &mark[..16]].concat(),
        [b"2".as_slice(), &records].concat(),
    ]
}

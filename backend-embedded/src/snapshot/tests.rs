use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::decode::read;
use super::restore::{raise, revive};
use super::*;
use crate::machine::Snapshot;
use crate::machine::op::{KeyValue, LeaseId};

const STORE: u64 = 77;
const TAKEN_AT: u64 = 1_700_000_000_000_000;

fn key(key: &str, value: &str, lease: LeaseId) -> Arc<KeyValue> {
    Arc::new(KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        create_revision: 3,
        mod_revision: 9,
        version: 2,
        lease,
    })
}

fn state() -> Snapshot {
    Snapshot {
        revision: 9,
        compact_revision: 4,
        keys: vec![key("a", "", 5), key("b", "value", 0), key("c", "v", 7)],
        leases: vec![(5, Duration::from_secs(10)), (7, Duration::from_secs(60))],
    }
}

/// Returns the pieces of a snapshot, and checks what is said to remain after each.
fn encode(state: Snapshot) -> Vec<Bytes> {
    let mut encoder = Encoder::new(state, STORE, TAKEN_AT);
    let mut remaining = encoder.remaining();
    let mut pieces = Vec::new();
    while remaining > 0 {
        let piece = encoder.next_piece();
        remaining -= piece.len() as u64;
        assert_eq!(encoder.remaining(), remaining);
        pieces.push(piece);
    }
    assert!(encoder.next_piece().is_empty(), "after the end");
    pieces
}

fn bytes() -> Vec<u8> {
    encode(state()).concat()
}

#[test]
fn a_snapshot_is_read_back() {
    let bytes = bytes();
    assert_eq!(bytes.len() % 512, 32, "etcdctl looks for the sum by this");
    let (header, found) = read(&bytes[..]).expect("whole");
    assert_eq!(found, state());
    let expected = Header {
        cluster_id: STORE,
        revision: 9,
        compact_revision: 4,
        taken_at: TAKEN_AT,
        leases: 2,
        keys: 3,
    };
    assert_eq!(header, expected);
    let empty = encode(Snapshot::empty()).concat();
    assert_eq!(read(&empty[..]).expect("whole").1, Snapshot::empty());
}

#[test]
fn a_large_state_comes_in_pieces_that_clients_take() {
    let value = "v".repeat(300_000);
    let large = Snapshot {
        keys: (100..120).map(|n| key(&n.to_string(), &value, 0)).collect(),
        ..state()
    };
    let small = (0..50_000).map(|n| key(&format!("{n:06}"), "value", 0));
    let many = Snapshot {
        keys: small.collect(),
        leases: (1..=20_000)
            .map(|id| (id, Duration::from_secs(9)))
            .collect(),
        ..state()
    };
    for state in [large, many] {
        let pieces = encode(state.clone());
        assert!(pieces.len() > 5, "{}", pieces.len());
        assert!(pieces.iter().all(|piece| piece.len() < 1 << 20));
        assert_eq!(read(&pieces.concat()[..]).expect("whole").1, state);
    }
}

#[test]
fn a_snapshot_that_was_cut_off_is_refused_wherever_that_was() {
    let bytes = bytes();
    for length in 0..bytes.len() {
        let refused = read(&bytes[..length]).expect_err("cut off");
        assert!(
            matches!(refused, RestoreError::CutOff),
            "{length}: {refused}"
        );
    }
    let longer = [bytes, vec![0]].concat();
    let refused = read(&longer[..]).expect_err("longer");
    assert!(matches!(refused, RestoreError::Damaged { .. }), "{refused}");
}

#[test]
fn any_flipped_bit_is_noticed() {
    let bytes = bytes();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        read(&flipped[..]).expect_err("damaged");
    }
}

/// Ends the content with its sum, so that only the content is wrong.
fn seal(mut content: Vec<u8>) -> Vec<u8> {
    content.resize(content.len().next_multiple_of(512), 0);
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content);
    content.extend_from_slice(sum.as_ref());
    content
}

#[test]
fn what_is_no_snapshot_of_ours_is_named() {
    let newer = |version: u64| {
        let mut content = bytes();
        content.truncate(content.len() - SUM);
        content[8..16].copy_from_slice(&version.to_le_bytes());
        seal(content)
    };
    let refused = read(&newer(2)[..]).expect_err("newer");
    assert!(
        refused.to_string().contains("format version 2"),
        "{refused}"
    );
    let mut bolt = vec![0; 8192];
    bolt[16..20].copy_from_slice(&0xED0C_DAED_u32.to_le_bytes());
    let refused = read(&bolt[..]).expect_err("of etcd");
    assert!(
        refused.to_string().contains("etcdutl snapshot restore"),
        "{refused}"
    );
    let refused = read(&[b'x'; 600][..]).expect_err("text");
    assert!(matches!(
        refused,
        RestoreError::NotASnapshot { is_etcds: false }
    ));
}

#[test]
fn a_state_that_no_store_can_have_is_refused_though_its_sum_is_right() {
    let with = |change: &dyn Fn(&mut Snapshot)| {
        let mut state = state();
        change(&mut state);
        encode(state).concat()
    };
    for (what, bytes) in [
        ("no lease", with(&|state| state.leases.truncate(1))),
        ("disorder", with(&|state| state.keys.swap(0, 1))),
        (
            "a key twice",
            with(&|state| state.keys[1] = Arc::clone(&state.keys[0])),
        ),
        ("a revision to come", with(&|state| state.revision = 8)),
        ("a lease 0", with(&|state| state.leases[0].0 = 0)),
    ] {
        let refused = read(&bytes[..]).expect_err(what);
        assert!(
            matches!(refused, RestoreError::Damaged { .. }),
            "{what}: {refused}"
        );
    }
}

#[test]
fn lengths_that_lie_take_no_memory() {
    struct Endless(u64);
    impl Read for Endless {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.0 += out.len() as u64;
            out.fill(0xff);
            Ok(out.len())
        }
    }
    let mut content = bytes()[..64].to_vec();
    content[48..56].copy_from_slice(&0_u64.to_le_bytes());
    content[56..64].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut endless = Endless(0);
    let refused = read(content.chain(&mut endless)).expect_err("a lie");
    assert!(matches!(refused, RestoreError::Damaged { .. }), "{refused}");
    assert!(endless.0 < 1 << 20, "{} bytes were read", endless.0);
}

const DAY: u64 = 24 * 3600 * 1_000_000;

/// Returns the header of an empty snapshot.
fn header(revision: Revision, taken_at: u64) -> Header {
    Header {
        cluster_id: STORE,
        revision,
        compact_revision: 0,
        taken_at,
        leases: 0,
        keys: 0,
    }
}

#[test]
fn the_new_revision_is_above_all_that_the_store_can_have_given_out() {
    // How far the revision was from the clock, how long the store went on, and whether it was then
    // opened once more. It makes a revision in a microsecond, which is more than any store does.
    for behind in [0, 5, 300 * DAY] {
        for ahead in [0, 5, 300 * DAY] {
            for passed in [0, 1, DAY, 400 * DAY] {
                let revision = TAKEN_AT - behind + ahead;
                let now = TAKEN_AT + passed;
                let without_restart = revision + passed;
                let with_restart = (revision + passed / 2).max(TAKEN_AT + passed / 2) + passed / 2;
                let highest = without_restart.max(with_restart);
                for skew in [0, 300 * 1_000_000] {
                    let raised = raise(&header(revision, TAKEN_AT), now - skew);
                    let raised = raised.expect("the clock is right");
                    assert!(raised > highest, "{behind} {ahead} {passed} {skew}");
                }
            }
        }
    }
    let refused = raise(&header(9, TAKEN_AT), TAKEN_AT - DAY).expect_err("the clock is wrong");
    assert!(refused.to_string().contains("86400 s behind"), "{refused}");
    let refused = raise(&header(1 << 63, TAKEN_AT), TAKEN_AT).expect_err("impossible");
    assert!(matches!(refused, RestoreError::Damaged { .. }), "{refused}");
}

#[test]
fn snapshots_are_restored_in_any_order_and_each_time_above_the_time_before() {
    const MINUTE: u64 = 60 * 1_000_000;
    let first = header(TAKEN_AT, TAKEN_AT);
    let restore = |of: &Header, now| raise(of, now).expect("the clock is right");
    let mut now = TAKEN_AT + DAY;
    let mut given = TAKEN_AT + DAY;
    let mut newest = header(TAKEN_AT, TAKEN_AT);
    for _ in 0..5 {
        for of in [&newest, &first, &newest, &first] {
            let begun = restore(of, now);
            assert!(begun > given, "{begun} {given}");
            // It makes ten thousand revisions in a second.
            given = begun + MINUTE / 100;
            now += MINUTE;
        }
        newest = header(given, now);
    }
    assert!(given < now + 11 * MINUTE, "the margins add up");
}

#[test]
fn numbers_that_no_store_has_are_refused() {
    let refused = |change: fn(&mut Snapshot)| {
        let mut state = state();
        change(&mut state);
        let refused = read(&encode(state).concat()[..]).expect_err("impossible");
        assert!(matches!(refused, RestoreError::Damaged { .. }), "{refused}");
    };
    refused(|state| state.leases[0].1 = Duration::ZERO);
    refused(|state| state.leases[0].1 = Duration::from_secs(u64::MAX));
    refused(|state| Arc::make_mut(&mut state.keys[0]).version = u64::MAX);
    refused(|state| Arc::make_mut(&mut state.keys[0]).version = 0);
    refused(|state| Arc::make_mut(&mut state.keys[0]).create_revision = 0);
}

#[test]
fn nobody_knows_the_leases_of_the_new_store_and_their_keys_are_still_theirs() {
    let old = state();
    let new = revive(old.clone(), 1000);
    assert_eq!((new.revision, new.compact_revision), (1000, 1000));
    assert_eq!(new.leases.len(), 2);
    for (id, _) in &new.leases {
        assert!(old.leases.iter().all(|(old, _)| old != id));
    }
    let ttl_of = |state: &Snapshot, key: usize| {
        let lease = state.keys[key].lease;
        let found = state.leases.iter().find(|(id, _)| *id == lease);
        found.map(|(_, ttl)| *ttl)
    };
    for key in 0..3 {
        assert_eq!(ttl_of(&new, key), ttl_of(&old, key));
    }
    assert_eq!(hash_keys(&new), hash_keys(&old));
    assert_ne!(hash_all(&new), hash_all(&old));
}

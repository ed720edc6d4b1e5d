//! Kills and power cuts at any moment: no acknowledged commit is lost, and the state found is the
//! state after some commit, never a mixture.

use super::*;

/// Sets the number of power cuts to try.
const ROUNDS: &str = "TURNLOCK_CRASH_ROUNDS";
/// Sets what the commits and the power cuts are drawn from.
const SEED: &str = "TURNLOCK_SEED";

/// Returns a disk with a log of commits, and the state after each commit by its number.
fn recorded(seed: u64, commits: usize) -> (Disk, BTreeMap<u64, Snapshot>) {
    let disk = Disk::with_store();
    disk.keep_log();
    let mut writer = Writer::new(seed);
    let (mut store, loaded) = open(&disk);
    let mut states = BTreeMap::from([(loaded.sequence, writer.state())]);
    disk.log_acked(loaded.sequence);
    for nth in 0..commits {
        store.commit(writer.next()).unwrap();
        states.insert(store.sequence, writer.state());
        disk.log_acked(store.sequence);
        // Closing the store writes too.
        if nth % 10 == 9 {
            drop(store);
            store = open(&disk).0;
        }
    }
    assert!(disk.journal_rounds() > 1, "the journal was never full");
    (disk, states)
}

fn check(found: &Disk, acked: u64, states: &BTreeMap<u64, Snapshot>, context: &str) {
    let (store, loaded) = Store::open(found.medium(), 0)
        .unwrap_or_else(|error| panic!("{context}: {acked} was acknowledged: {error}"));
    assert!(
        store.sequence >= acked,
        "{context}: {acked} was acknowledged"
    );
    // Before the first commit the state may be that of the tables alone.
    assert_eq!(
        Some(&loaded.snapshot),
        states.get(&store.sequence),
        "{context}"
    );
}

#[test]
fn a_power_cut_loses_nothing_acknowledged() {
    let number = |variable| std::env::var(variable).ok()?.parse().ok();
    let rounds: u64 = number(ROUNDS).unwrap_or(150);
    let mut chance = fastrand::Rng::with_seed(number(SEED).unwrap_or(4));
    let (mut disk, mut states) = recorded(chance.u64(..), 60);
    for round in 0..rounds {
        if round % 50 == 49 {
            (disk, states) = recorded(chance.u64(..), 60);
        }
        let done = chance.usize(5..=disk.log_len());
        let (found, acked) = disk.after_power_cut(done, &mut chance);
        check(
            &found,
            acked,
            &states,
            &format!("round {round}, cut at {done}"),
        );
    }
}

#[test]
fn a_kill_at_any_moment_loses_nothing_acknowledged() {
    let (disk, states) = recorded(5, 60);
    let step = (disk.log_len() / 150).max(1);
    for done in (5..=disk.log_len()).step_by(step) {
        let (found, acked) = disk.after_kill_at(done);
        check(&found, acked, &states, &format!("killed at {done}"));
    }
}

#[test]
fn a_store_that_went_back_is_noticed() {
    let disk = Disk::with_store();
    let (mut store, _) = open(&disk);
    let mut writer = Writer::new(6);
    store.commit(writer.next()).unwrap();
    let old = disk.bytes();
    store.commit(writer.next()).unwrap();
    drop(store);
    let error = Store::open(disk.with_bytes(old).medium(), 0).unwrap_err();
    let Error::Damaged { path, detail } = &error else {
        panic!("{error}");
    };
    assert_eq!(path, disk.path());
    assert!(detail.contains("acknowledged"), "{detail}");
    // A store other than the acknowledged one is noticed as well.
    let other = Disk::with_store();
    open(&other);
    let error = Store::open(disk.with_bytes(other.bytes()).medium(), 0).unwrap_err();
    assert!(error.to_string().contains("another store"), "{error}");
}

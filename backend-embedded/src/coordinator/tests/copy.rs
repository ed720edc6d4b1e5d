//! Copies of the whole state, made while it changes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::machine::op::{Op, Txn};

async fn copy(coordinator: &Coordinator) -> Snapshot {
    let copy = coordinator.copy(0);
    soon("a copy", copy).await.expect("a copy")
}

fn names(state: &Snapshot) -> Vec<String> {
    let name = |kv: &Arc<KeyValue>| String::from_utf8_lossy(&kv.key).into_owned();
    state.keys.iter().map(name).collect()
}

/// Writes both keys of a pair with one value, or removes both.
fn change_pair(pair: usize, value: Option<u64>) -> Txn {
    let ops = ["a", "z"].map(|side| {
        let key = format!("{side}/{pair}");
        match value {
            Some(value) => Op::Put(put(&key, value.to_string())),
            None => Op::Delete(delete(one(&key))),
        }
    });
    Txn {
        then: ops.into(),
        ..Txn::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_that_of_one_revision_while_everything_changes() {
    const PAIRS: usize = 3_000;
    let coordinator = in_memory();
    for pair in 0..PAIRS {
        coordinator.txn(change_pair(pair, Some(0))).await.unwrap();
    }
    let ending = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (coordinator, ending) = (coordinator.clone(), Arc::clone(&ending));
        async move {
            let mut chance = fastrand::Rng::with_seed(7);
            let mut written = 0;
            while !ending.load(Ordering::Relaxed) {
                let value = (chance.u8(..4) > 0).then_some(written);
                let txn = change_pair(chance.usize(..PAIRS), value);
                coordinator.txn(txn).await.unwrap();
                written += 1;
                tokio::task::yield_now().await;
            }
            written
        }
    });
    for _ in 0..20 {
        let state = copy(&coordinator).await;
        let ordered = state.keys.is_sorted_by(|a, b| a.key < b.key);
        assert!(ordered, "in order");
        let newest = state.keys.iter().map(|kv| kv.mod_revision).max();
        assert!(newest.unwrap() <= state.revision);
        let mut pairs: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for kv in &state.keys {
            let name = String::from_utf8_lossy(&kv.key[2..]).into_owned();
            pairs
                .entry(name)
                .or_default()
                .push((kv.mod_revision, kv.value.clone()));
        }
        for (name, sides) in pairs {
            assert!(
                sides.len() == 2 && sides[0] == sides[1],
                "{name}: {sides:?}"
            );
        }
    }
    ending.store(true, Ordering::Relaxed);
    let written = soon("the writer", writer).await.unwrap();
    assert!(written > 100, "{written} changes meanwhile");
    let state = copy(&coordinator).await;
    let now = coordinator
        .range(Range::all(KeyRange::all()))
        .await
        .unwrap();
    assert_eq!((state.keys, state.revision), (now.result.kvs, now.revision));
}

#[tokio::test]
async fn a_copy_has_leases_and_past_states() {
    let coordinator = in_memory();
    coordinator.grant(7, secs(60)).await.unwrap();
    coordinator.grant(3, secs(9)).await.unwrap();
    coordinator.put(put_on("a", 7)).await.unwrap();
    let before = coordinator.put(put("b", "")).await.unwrap().revision;
    coordinator.delete(delete(one("a"))).await.unwrap();
    coordinator.put(put("c", "")).await.unwrap();
    let state = copy(&coordinator).await;
    assert_eq!(names(&state), ["b", "c"]);
    assert_eq!(state.leases, [(3, secs(9)), (7, secs(60))]);
    let past = coordinator.copy(before).await.unwrap();
    assert_eq!(
        (names(&past), past.revision),
        (vec!["a".into(), "b".into()], before)
    );
    coordinator.compact(before + 1).await.unwrap();
    let gone = coordinator.copy(before).await;
    assert!(matches!(gone, Err(Error::Compacted { .. })), "{gone:?}");
    let future = coordinator.copy(before + 9).await;
    assert!(
        matches!(future, Err(Error::FutureRevision { .. })),
        "{future:?}"
    );
    // A copy that was refused holds nothing back.
    assert_eq!(names(&copy(&coordinator).await), ["b", "c"]);
}

#[tokio::test]
async fn a_copy_waits_until_what_it_has_seen_is_durable() {
    let disk = Disk::with_store();
    let coordinator = on(&disk);
    coordinator.put(put("a", "")).await.unwrap();
    disk.hold_syncs(true);
    let mut write = Box::pin(coordinator.put(put("b", "")));
    assert!(is_waiting(&mut write).await);
    until("the commit", || disk.is_sync_held()).await;
    let mut copying = Box::pin(coordinator.copy(0));
    assert!(
        tokio::time::timeout(Duration::from_millis(200), &mut copying)
            .await
            .is_err(),
        "what it has seen may still be lost"
    );
    disk.hold_syncs(false);
    assert_eq!(names(&soon("the copy", copying).await.unwrap()), ["a", "b"]);
    soon("the write", write).await.unwrap();
}

#[tokio::test]
async fn a_copy_never_has_what_was_undone_for_lack_of_space() {
    let disk = Disk::with_store();
    let coordinator = on(&disk);
    coordinator.put(put("a", "")).await.unwrap();
    disk.hold_syncs(true);
    let mut first = Box::pin(coordinator.put(put("b", "")));
    assert!(is_waiting(&mut first).await);
    until("the commit", || disk.is_sync_held()).await;
    let mut write = Box::pin(coordinator.put(put("c", "")));
    assert!(is_waiting(&mut write).await);
    let copying = tokio::spawn({
        let coordinator = coordinator.clone();
        async move { coordinator.copy(0).await }
    });
    until("the copy to have seen it", || {
        let state = coordinator.shared().state();
        state.recording.as_ref().unwrap().pending.requests() == 2
    })
    .await;
    disk.fill(true);
    disk.hold_syncs(false);
    soon("the first", first).await.unwrap();
    soon("the write", write)
        .await
        .expect_err("there is no space");
    let state = soon("the copy", copying).await.unwrap().unwrap();
    assert_eq!(names(&state), ["a", "b"]);
    assert_eq!(state.revision, 3);
}

#[tokio::test]
async fn what_a_copy_retains_is_counted_until_it_is_dropped() {
    let coordinator = in_memory();
    for key in ["a", "b", "c"] {
        coordinator.put(put(key, "1234")).await.unwrap();
    }
    let revision = copy(&coordinator).await.revision;
    let retained = coordinator.retain(revision);
    coordinator.put(put("a", "")).await.unwrap();
    assert_eq!(retained.bytes(), 5);
    coordinator.put(put("a", "new")).await.unwrap();
    coordinator.put(put("d", "new")).await.unwrap();
    coordinator.delete(delete(one("d"))).await.unwrap();
    assert_eq!(retained.bytes(), 5, "the copy has none of these");
    coordinator.delete(delete(KeyRange::all())).await.unwrap();
    assert_eq!(retained.bytes(), 15);
    drop(retained);
    assert!(coordinator.shared().state().retained.upgrade().is_none());
}

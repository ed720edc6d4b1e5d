//! Full and broken disks.

use std::io::ErrorKind;

use super::*;
use crate::machine::op::{Op, Txn};
use crate::store::Medium;

/// Returns a value that makes the file grow after a few puts.
fn large() -> Bytes {
    Bytes::from(vec![7; 1 << 20])
}

fn is_no_space<T>(result: &Result<T, Error>, disk: &Disk) -> bool {
    matches!(result, Err(Error::NoSpace { path, .. }) if path == disk.path())
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_serves_releases_until_there_is_space() {
    let disk = Disk::with_store();
    let coordinator = on(&disk);
    let lease = coordinator.grant(0, secs(60)).await.unwrap();
    let other = coordinator.grant(0, secs(60)).await.unwrap();
    coordinator.put(put_on("held", lease.id)).await.unwrap();
    coordinator.put(put_on("other", other.id)).await.unwrap();
    coordinator.put(put("plain", "")).await.unwrap();
    disk.fill(false);
    // Writes succeed until the reserved space is used up.
    let mut filled = 0;
    while !is_full(&coordinator) {
        assert!(filled < 50, "a write too large for the disk");
        coordinator
            .put(put(&format!("fill/{filled}"), large().slice(..50_000)))
            .await
            .unwrap();
        filled += 1;
        // The committer checks for space after it has answered.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let refusal = soon("a put", coordinator.put(put("new", ""))).await;
    assert!(is_no_space(&refusal, &disk), "{refusal:?}");
    assert!(
        refusal
            .unwrap_err()
            .to_string()
            .contains("/simulated/store.redb")
    );
    let refusal = soon("a grant", coordinator.grant(0, secs(5))).await;
    assert!(is_no_space(&refusal, &disk), "{refusal:?}");
    let txn = Txn {
        or_else: vec![Op::Put(put("new", ""))],
        ..Txn::default()
    };
    let refusal = soon("a transaction", coordinator.txn(txn)).await;
    assert!(is_no_space(&refusal, &disk), "{refusal:?}");

    assert_eq!(coordinator.keep_alive(lease.id).await.unwrap(), secs(60));
    let gone = soon("a delete", coordinator.delete(delete(one("plain")))).await;
    assert_eq!(gone.unwrap().result.0, 1);
    soon("a revoke", coordinator.revoke(other.id))
        .await
        .unwrap();
    let fills = delete(KeyRange::prefix("fill/"));
    soon("a delete", coordinator.delete(fills)).await.unwrap();
    assert_eq!(soon("a read", coordinator.keys()).await, ["held"]);

    disk.free();
    until("writing to resume", || !is_full(&coordinator)).await;
    soon("a put", coordinator.put(put("new", "")))
        .await
        .unwrap();
    coordinator.close().unwrap();
    assert_eq!(on(&disk).keys().await, ["held", "new"]);
}

fn is_full(coordinator: &Coordinator) -> bool {
    let state = coordinator.shared().state();
    (state.recording.as_ref()).is_some_and(|recording| recording.full.is_some())
}

#[tokio::test]
async fn a_commit_that_meets_a_full_disk_leaves_no_trace() {
    let disk = Disk::with_store();
    let coordinator = on(&disk);
    let lease = coordinator.grant(0, secs(60)).await.unwrap();
    coordinator.put(put_on("held", lease.id)).await.unwrap();
    let revoked = coordinator.grant(0, secs(60)).await.unwrap();
    let idle = coordinator.grant(0, secs(60)).await.unwrap();
    let granted = std::time::Instant::now();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut watcher = coordinator.watch(KeyRange::all(), None).unwrap();
    disk.hold_syncs(true);
    let mut first = Box::pin(coordinator.put(put("first", "")));
    assert!(is_waiting(&mut first).await);
    until("the commit", || disk.is_sync_held()).await;
    // These share the next commit. There is no space for it, not even for the release.
    let mut write = Box::pin(coordinator.put(put("second", "")));
    let mut grant = Box::pin(coordinator.grant(77, secs(60)));
    let mut revoke = Box::pin(coordinator.revoke(revoked.id));
    let mut reading = Box::pin(coordinator.range(Range::all(one("second"))));
    assert!(is_waiting(&mut write).await);
    assert!(is_waiting(&mut grant).await);
    assert!(is_waiting(&mut revoke).await);
    assert!(is_waiting(&mut reading).await);
    assert_eq!(coordinator.applied_revision(), 4);
    disk.fill(true);
    disk.hold_syncs(false);
    assert_eq!(soon("the first", first).await.unwrap().revision, 3);
    let refusal = soon("the write", write).await;
    assert!(is_no_space(&refusal, &disk), "{refusal:?}");
    let refusal = soon("the grant", grant).await;
    assert!(is_no_space(&refusal, &disk), "{refusal:?}");
    // The lease lives all the while, and its time is not cut short.
    assert_eq!(coordinator.keep_alive(lease.id).await.unwrap(), secs(60));
    let refusal = soon("the revoke", revoke).await;
    assert!(is_no_space(&refusal, &disk), "{refusal:?}");
    // The read was repeated on what is recorded.
    let found = soon("the read", reading).await.unwrap();
    assert_eq!((found.revision, found.result.count), (3, 0));
    assert_eq!(coordinator.leases().await.unwrap().len(), 3);
    // Its time is not prolonged either.
    let elapsed = granted.elapsed();
    let info = coordinator.time_to_live(idle.id, false).await.unwrap();
    assert!(
        info.remaining <= secs(60) - elapsed,
        "{info:?} after {elapsed:?}"
    );
    disk.free();
    until("writing to resume", || !is_full(&coordinator)).await;
    assert_eq!(soon("a read", coordinator.keys()).await, ["first", "held"]);
    assert!(matches!(
        coordinator.keep_alive(77).await,
        Err(Error::LeaseNotFound { .. })
    ));
    let written = soon("a write", coordinator.put(put("third", "")))
        .await
        .unwrap();
    assert_eq!(written.revision, 4, "the revision that nobody ever saw");
    for (key, revision) in [("first", 3), ("third", 4)] {
        let batch = soon("an event", watcher.next()).await.unwrap();
        assert_eq!(
            (batch.revision, &batch.events[0].kv.key[..]),
            (revision, key.as_bytes())
        );
    }
    let info = coordinator.time_to_live(lease.id, true).await.unwrap();
    assert_eq!(info.keys, [bytes("held")]);
    coordinator.close().unwrap();
    assert_eq!(on(&disk).keys().await, ["first", "held", "third"]);
}

#[tokio::test]
async fn a_return_to_the_recorded_deadlines_stays_ahead_of_the_clock() {
    const CLOCK: Revision = 1_000_000;
    let disk = Disk::with_store();
    let coordinator = Coordinator::open_on(disk.medium(), Limits::default(), CLOCK, None).unwrap();
    assert_eq!(coordinator.status().revision, CLOCK);
    disk.hold_syncs(true);
    let mut first = Box::pin(coordinator.grant(0, secs(60)));
    assert!(is_waiting(&mut first).await);
    until("the commit", || disk.is_sync_held()).await;
    let mut write = Box::pin(coordinator.put(put("a", large())));
    assert!(is_waiting(&mut write).await);
    disk.fill(true);
    disk.hold_syncs(false);
    soon("the grant", first).await.unwrap();
    let refusal = soon("the write", write).await;
    assert!(is_no_space(&refusal, &disk), "{refusal:?}");
    disk.free();
    until("writing to resume", || !is_full(&coordinator)).await;
    let written = soon("a write", coordinator.put(put("a", "")))
        .await
        .unwrap();
    assert_eq!(written.revision, CLOCK + 1);
    coordinator.close().unwrap();
    // A clock that was set back does not set the revision back.
    let again = Coordinator::open_on(disk.medium(), Limits::default(), CLOCK - 5, None).unwrap();
    assert_eq!(again.status().revision, CLOCK + 1);
}

#[tokio::test]
async fn a_release_beside_a_write_that_does_not_fit_is_served() {
    let disk = Disk::with_store();
    let coordinator = on(&disk);
    coordinator.put(put("held", "")).await.unwrap();
    disk.hold_syncs(true);
    let mut first = Box::pin(coordinator.put(put("first", "")));
    assert!(is_waiting(&mut first).await);
    until("the commit", || disk.is_sync_held()).await;
    let names: Vec<_> = (0..8).map(|nth| format!("large/{nth}")).collect();
    let mut writes: Vec<_> = (names.iter())
        .map(|name| Box::pin(coordinator.put(put(name, large()))))
        .collect();
    for write in &mut writes {
        assert!(is_waiting(write).await);
    }
    let mut release = Box::pin(coordinator.delete(delete(one("held"))));
    assert!(is_waiting(&mut release).await);
    disk.fill(false);
    disk.hold_syncs(false);
    soon("the first", first).await.unwrap();
    for write in writes {
        let refusal = soon("a write", write).await;
        assert!(is_no_space(&refusal, &disk), "{refusal:?}");
    }
    let gone = soon("the release", release).await.unwrap();
    assert_eq!((gone.revision, gone.result.0), (4, 1));
    assert_eq!(soon("a read", coordinator.keys()).await, ["first"]);
    disk.free();
    until("writing to resume", || !is_full(&coordinator)).await;
    soon("a write", coordinator.put(put("large", large())))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_disk_that_was_full_all_along_is_known_at_once() {
    let disk = Disk::with_store();
    disk.fill(false);
    let coordinator = on(&disk);
    until("the disk to be found full", || is_full(&coordinator)).await;
    let refusal = coordinator.put(put("a", "")).await;
    assert!(is_no_space(&refusal, &disk), "{refusal:?}");
    disk.free();
    until("writing to resume", || !is_full(&coordinator)).await;
    coordinator.put(put("a", "")).await.unwrap();
}

#[tokio::test]
async fn a_failed_sync_stops_it_for_good() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        let disk = Disk::with_store();
        let coordinator = on(&disk);
        let lease = coordinator.grant(0, secs(60)).await.unwrap();
        coordinator.put(put("kept", "")).await.unwrap();
        let mut watcher = coordinator.watch(KeyRange::all(), None).unwrap();
        disk.hold_syncs(true);
        let mut first = Box::pin(coordinator.put(put("lost", "")));
        assert!(is_waiting(&mut first).await);
        until("the commit", || disk.is_sync_held()).await;
        let mut second = Box::pin(coordinator.put(put("second", "")));
        let mut reading = Box::pin(coordinator.range(Range::all(one("lost"))));
        assert!(is_waiting(&mut second).await);
        assert!(is_waiting(&mut reading).await);
        disk.fail_syncs(Some(kind));
        disk.hold_syncs(false);
        let reason = soon("the end", coordinator.closed()).await;
        assert!(matches!(reason, Error::Stopped { .. }));
        assert!(
            reason.to_string().contains("/simulated/store.redb"),
            "{reason}"
        );
        for result in [
            soon("the first", first).await.map(|_| ()),
            soon("the second", second).await.map(|_| ()),
            soon("the read", reading).await.map(|_| ()),
            soon("the watch", watcher.next()).await.map(|_| ()),
        ] {
            assert!(matches!(result, Err(Error::Stopped { .. })), "{result:?}");
        }
        // Syncs that succeed again change nothing.
        disk.fail_syncs(None);
        let syncs = disk.syncs();
        for result in [
            coordinator.put(put("later", "")).await.map(|_| ()),
            coordinator.range(Range::all(one("kept"))).await.map(|_| ()),
            coordinator.keep_alive(lease.id).await.map(|_| ()),
            coordinator.close(),
        ] {
            assert!(matches!(result, Err(Error::Stopped { .. })), "{result:?}");
        }
        assert_eq!(disk.syncs(), syncs);
        // What was acknowledged is there. What was not may be there or not.
        assert!(on(&disk).keys().await.contains(&"kept".to_string()));
    }
}

#[tokio::test]
async fn a_failed_write_stops_it_for_good() {
    let disk = Disk::with_store();
    let coordinator = on(&disk);
    coordinator.put(put("kept", "")).await.unwrap();
    disk.fail_writes(Some(ErrorKind::Other));
    let failed = soon("a write", coordinator.put(put("lost", ""))).await;
    assert!(matches!(failed, Err(Error::Stopped { .. })), "{failed:?}");
    disk.fail_writes(None);
    let refusal = coordinator.put(put("later", "")).await;
    assert!(matches!(refusal, Err(Error::Stopped { .. })));
    assert_eq!(on(&disk).keys().await, ["kept"]);
}

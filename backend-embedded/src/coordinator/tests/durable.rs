//! Group commit, and the visibility of changes that are not durable yet.

use super::*;

#[tokio::test]
async fn requests_share_commits() {
    let disk = Disk::with_store();
    let coordinator = on(&disk);
    let before = disk.commits();
    disk.hold_syncs(true);
    let first = tokio::spawn({
        let coordinator = coordinator.clone();
        async move { coordinator.put(put("first", "")).await }
    });
    until("the first commit", || disk.is_sync_held()).await;
    let others: Vec<_> = (0..500)
        .map(|nth| {
            let coordinator = coordinator.clone();
            tokio::spawn(async move { coordinator.put(put(&format!("k/{nth}"), "")).await })
        })
        .collect();
    until("all to be applied", || {
        coordinator.applied_revision() == 502
    })
    .await;
    assert_eq!(coordinator.status().revision, 1, "none is durable");
    disk.hold_syncs(false);
    assert_eq!(soon("the first", first).await.unwrap().unwrap().revision, 2);
    let mut revisions = Vec::new();
    for other in others {
        revisions.push(soon("another", other).await.unwrap().unwrap().revision);
    }
    revisions.sort_unstable();
    assert_eq!(
        revisions,
        Vec::from_iter(3..=502),
        "each its own, in one order"
    );
    assert_eq!(disk.commits() - before, 2, "501 puts, two commits");
    assert_eq!(coordinator.status().revision, 502);
}

#[tokio::test]
async fn nothing_is_seen_before_it_is_durable() {
    let disk = Disk::with_store();
    let coordinator = on(&disk);
    let lease = coordinator.grant(0, secs(60)).await.unwrap();
    coordinator.put(put_on("a", lease.id)).await.unwrap();
    let mut watcher = coordinator.watch(KeyRange::all(), None).unwrap();
    disk.hold_syncs(true);
    let mut write = Box::pin(coordinator.put(put("b", "")));
    assert!(is_waiting(&mut write).await);
    until("the commit", || disk.is_sync_held()).await;
    // Everything that depends on it waits with it: reads, requests that change nothing, and
    // refusals.
    let mut reading = Box::pin(coordinator.range(Range::all(one("b"))));
    let mut other = Box::pin(coordinator.range(Range::all(one("a"))));
    let mut nothing = Box::pin(coordinator.delete(delete(one("none"))));
    let mut refusal = Box::pin(coordinator.put(put_on("c", 99)));
    let mut leases = Box::pin(coordinator.leases());
    assert!(is_waiting(&mut reading).await);
    assert!(is_waiting(&mut other).await);
    assert!(is_waiting(&mut nothing).await);
    assert!(is_waiting(&mut refusal).await);
    assert!(is_waiting(&mut leases).await);
    let mut event = Box::pin(watcher.next());
    assert!(is_waiting(&mut event).await);
    assert_eq!(coordinator.status().revision, 2);
    // A renewal does not wait.
    assert_eq!(coordinator.keep_alive(lease.id).await.unwrap(), secs(60));
    disk.hold_syncs(false);
    assert_eq!(soon("the write", write).await.unwrap().revision, 3);
    assert_eq!(soon("the read", reading).await.unwrap().result.count, 1);
    assert_eq!(soon("the other read", other).await.unwrap().revision, 3);
    assert_eq!(soon("no delete", nothing).await.unwrap().revision, 3);
    let refusal = soon("a refusal", refusal).await;
    assert!(matches!(refusal, Err(Error::LeaseNotFound { id: 99 })));
    assert_eq!(soon("the leases", leases).await.unwrap(), [lease.id]);
    assert_eq!(soon("the event", event).await.unwrap().revision, 3);
}

#[tokio::test]
async fn too_much_to_do_refuses_new_work_but_not_releases() {
    let disk = Disk::with_store();
    let limits = Limits {
        pending_requests: 5,
        ..Limits::default()
    };
    let coordinator = with_limits(&disk, limits);
    let lease = coordinator.grant(0, secs(60)).await.unwrap();
    for nth in 0..20 {
        coordinator
            .put(put(&format!("old/{nth}"), ""))
            .await
            .unwrap();
    }
    disk.hold_syncs(true);
    let mut first = Box::pin(coordinator.put(put("first", "")));
    assert!(is_waiting(&mut first).await);
    until("the commit", || disk.is_sync_held()).await;
    let mut admitted: Vec<_> = (0..5)
        .map(|nth| Box::pin(coordinator.put(put(&format!("new/{nth}"), ""))))
        .collect();
    for call in &mut admitted {
        assert!(is_waiting(call).await);
    }
    let refusal = soon("a refusal", coordinator.put(put("new/5", ""))).await;
    assert!(matches!(refusal, Err(Error::Overloaded)));
    let refusal = soon("a refusal", coordinator.grant(0, secs(5))).await;
    assert!(matches!(refusal, Err(Error::Overloaded)));
    assert_eq!(coordinator.keep_alive(lease.id).await.unwrap(), secs(60));
    let mut release = Box::pin(coordinator.delete(delete(one("old/0"))));
    let mut revoke = Box::pin(coordinator.revoke(lease.id));
    assert!(is_waiting(&mut release).await);
    assert!(is_waiting(&mut revoke).await);
    // Releases have a limit too.
    let mut more: Vec<_> = (1..4)
        .map(|nth| Box::pin(coordinator.delete(delete(one(&format!("old/{nth}"))))))
        .collect();
    for call in &mut more {
        assert!(is_waiting(call).await);
    }
    let refusal = soon("a refusal", coordinator.delete(delete(one("old/9")))).await;
    assert!(matches!(refusal, Err(Error::Overloaded)));
    disk.hold_syncs(false);
    soon("the first", first).await.unwrap();
    for call in admitted {
        soon("a put", call).await.unwrap();
    }
    assert_eq!(soon("a release", release).await.unwrap().result.0, 1);
    soon("a revoke", revoke).await.unwrap();
    soon("a put", coordinator.put(put("new/5", "")))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_restart_keeps_the_keys_and_gives_leases_their_full_time() {
    let disk = Disk::with_store();
    let before = on(&disk);
    let lease = before.grant(0, secs(30)).await.unwrap();
    before.put(put_on("held", lease.id)).await.unwrap();
    let gone = before.grant(0, secs(30)).await.unwrap();
    before.put(put_on("gone", gone.id)).await.unwrap();
    before.revoke(gone.id).await.unwrap();
    before.compact(2).await.unwrap();
    until("some time to pass", || {
        let state = before.shared().state();
        let (_, remaining, _) = state
            .machine
            .lease(before.shared().clock().now(), lease.id)
            .unwrap();
        remaining < Duration::from_millis(29_900)
    })
    .await;
    let reported = before.status();
    before.close().unwrap();

    let opened = std::time::Instant::now();
    let after = on(&disk);
    let status = after.status();
    assert_eq!((status.revision, status.compact_revision), (4, 2));
    assert_eq!(status.cluster_id, reported.cluster_id);
    assert_eq!(status.member_id, reported.member_id);
    assert_eq!(status.db_size, disk.bytes().store.len() as u64);
    assert_eq!(after.keys().await, ["held"]);
    assert_eq!(after.leases().await.unwrap(), [lease.id]);
    assert_eq!(*after.live_leases().borrow(), 1);
    let info = after.time_to_live(lease.id, true).await.unwrap();
    assert_eq!(
        (info.granted, &info.keys[..]),
        (secs(30), &[bytes("held")][..])
    );
    assert!(info.remaining + opened.elapsed() >= secs(30), "{info:?}");
    // What was compacted is gone. Of the rest, the last change of each key is kept.
    let refusal = after.watch(KeyRange::all(), Some(1)).err();
    let Some(Error::Compacted {
        compact_revision, ..
    }) = refusal
    else {
        panic!("{refusal:?}");
    };
    let mut watcher = after
        .watch(KeyRange::all(), Some(compact_revision))
        .unwrap();
    for (revision, key, deleted) in [(2, "held", false), (4, "gone", true)] {
        let batch = soon("the past", watcher.next()).await.unwrap();
        assert_eq!(batch.revision, revision);
        let [event] = &batch.events[..] else {
            panic!("{batch:?}");
        };
        assert_eq!((&event.kv.key, event.deleted), (&bytes(key), deleted));
    }
    assert_eq!(after.put(put("new", "")).await.unwrap().revision, 5);
    assert_eq!(soon("the event", watcher.next()).await.unwrap().revision, 5);
}

#[tokio::test]
async fn a_restored_lease_expires() {
    let disk = Disk::with_store();
    let before = on(&disk);
    let lease = before.grant(0, secs(1)).await.unwrap();
    before.put(put_on("held", lease.id)).await.unwrap();
    before.close().unwrap();
    let after = on(&disk);
    let mut watcher = after.watch(one("held"), None).unwrap();
    assert!(soon("the expiry", watcher.next()).await.unwrap().events[0].deleted);
    after.close().unwrap();
    assert_eq!(on(&disk).keys().await, [] as [&str; 0]);
}

#[tokio::test]
async fn closing_answers_pending_requests() {
    let disk = Disk::with_store();
    let coordinator = on(&disk);
    disk.hold_syncs(true);
    let mut write = Box::pin(coordinator.put(put("a", "")));
    assert!(is_waiting(&mut write).await);
    until("the commit", || disk.is_sync_held()).await;
    let mut later = Box::pin(coordinator.put(put("b", "")));
    assert!(is_waiting(&mut later).await);
    let closing = std::thread::spawn({
        let coordinator = coordinator.clone();
        move || coordinator.close()
    });
    until("the close to begin", || {
        coordinator.shared().state().is_over()
    })
    .await;
    disk.hold_syncs(false);
    assert_eq!(soon("the write", write).await.unwrap().revision, 2);
    assert_eq!(soon("the later write", later).await.unwrap().revision, 3);
    closing.join().unwrap().unwrap();
    assert_eq!(on(&disk).keys().await, ["a", "b"]);
}

#[tokio::test]
async fn a_dropped_call_takes_effect_all_the_same() {
    let disk = Disk::with_store();
    let coordinator = on(&disk);
    let mut call = Box::pin(coordinator.put(put("a", "")));
    let _ = is_waiting(&mut call).await;
    drop(call);
    assert_eq!(soon("a read", coordinator.keys()).await, ["a"]);
}

#[tokio::test]
async fn the_folder_is_free_once_closed() {
    let root = tempfile::tempdir().unwrap();
    let config = Config::new(root.path().join("data"));
    let mut revision = 1;
    for _ in 0..3 {
        let coordinator = Coordinator::open(config.clone()).unwrap();
        let refusal = Coordinator::open(config.clone());
        assert!(matches!(refusal, Err(Error::AlreadyOpen { .. })));
        assert!(
            coordinator.status().revision > revision,
            "the clock went on"
        );
        revision = coordinator.put(put("a", "")).await.unwrap().revision;
        coordinator.close().unwrap();
    }
    // If the coordinator is dropped instead, the folder is free soon after.
    drop(Coordinator::open(config.clone()).unwrap());
    until("the folder", || Coordinator::open(config.clone()).is_ok()).await;
}

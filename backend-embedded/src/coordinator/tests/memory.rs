//! What does not depend on durability.

use super::*;

#[tokio::test]
async fn answers_carry_the_revision_after_the_request() {
    let coordinator = in_memory();
    assert_eq!(coordinator.put(put("a", "1")).await.unwrap().revision, 2);
    assert_eq!(coordinator.put(put("b", "1")).await.unwrap().revision, 3);
    let found = coordinator.range(Range::all(one("a"))).await.unwrap();
    assert_eq!((found.revision, found.result.count), (3, 1));
    let gone = coordinator.delete(delete(KeyRange::all())).await.unwrap();
    assert_eq!((gone.revision, gone.result.0), (4, 2));
    assert_eq!(coordinator.compact(4).await.unwrap(), 4);
    let status = coordinator.status();
    assert_eq!((status.revision, status.compact_revision), (4, 4));
    assert_eq!((status.keys, status.db_size_in_use), (0, 0));
    assert!(status.cluster_id != 0 && status.member_id != 0);
}

#[tokio::test]
async fn a_watch_sees_every_change_in_order_from_where_it_starts() {
    let coordinator = in_memory();
    coordinator.put(put("q/1", "")).await.unwrap();
    let mut live = coordinator.watch(KeyRange::prefix("q/"), None).unwrap();
    assert_eq!(live.start_revision(), 3);
    assert_eq!(live.progress(), Some(2));
    coordinator.put(put("q/2", "")).await.unwrap();
    coordinator.put(put("r/1", "")).await.unwrap();
    coordinator
        .delete(delete(KeyRange::prefix("q/")))
        .await
        .unwrap();
    let mut past = coordinator.watch(KeyRange::prefix("q/"), Some(2)).unwrap();
    assert_eq!(past.next().await.unwrap().revision, 2);
    for watcher in [&mut live, &mut past] {
        assert_eq!(watcher.progress(), None);
        let first = watcher.next().await.unwrap();
        assert_eq!((first.revision, first.events.len()), (3, 1));
        let second = watcher.next().await.unwrap();
        assert_eq!((second.revision, second.events.len()), (5, 2));
        assert!(second.events.iter().all(|event| event.deleted));
        assert_eq!(watcher.progress(), Some(5));
    }
    let mut waiting = Box::pin(live.next());
    assert!(is_waiting(&mut waiting).await);
    coordinator.put(put("q/3", "")).await.unwrap();
    assert_eq!(soon("a change", waiting).await.unwrap().revision, 6);
}

#[tokio::test]
async fn a_dropped_watch_is_forgotten() {
    let limits = Limits {
        watches: 1,
        ..Limits::default()
    };
    let coordinator = Coordinator::in_memory(limits).unwrap();
    for _ in 0..3 {
        let watcher = coordinator.watch(one("a"), None).unwrap();
        assert!(coordinator.watch(one("a"), None).is_err());
        drop(watcher);
    }
}

#[tokio::test]
async fn chosen_lease_ids_are_positive_and_differ() {
    let coordinator = in_memory();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let granted = coordinator.grant(0, secs(5)).await.unwrap();
        assert!(granted.id > 0);
        assert!(ids.insert(granted.id));
    }
    let mut listed = coordinator.leases().await.unwrap();
    let taken = listed[0];
    listed.sort_unstable();
    assert_eq!(listed, Vec::from_iter(ids));
    let refusal = coordinator.grant(taken, secs(5)).await;
    assert!(matches!(refusal, Err(Error::LeaseExists { id }) if id == taken));
}

#[tokio::test]
async fn a_lease_expires_with_its_keys_unless_renewed() {
    let coordinator = in_memory();
    let mut count = coordinator.live_leases();
    assert_eq!(*count.borrow_and_update(), 0);
    let start = std::time::Instant::now();
    let dying = coordinator.grant(0, secs(1)).await.unwrap();
    let renewed = coordinator.grant(0, secs(2)).await.unwrap();
    assert_eq!(*count.borrow_and_update(), 2);
    coordinator.put(put_on("dying", dying.id)).await.unwrap();
    coordinator
        .put(put_on("renewed", renewed.id))
        .await
        .unwrap();
    let mut watcher = coordinator.watch(KeyRange::all(), None).unwrap();
    let renewing = tokio::spawn({
        let coordinator = coordinator.clone();
        async move {
            while start.elapsed() < secs(4) {
                let ttl = coordinator.keep_alive(renewed.id).await.unwrap();
                assert_eq!(ttl, secs(2));
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    });
    let gone = soon("the first expiry", watcher.next()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(990), "too early");
    assert_eq!(gone.events[0].kv.key, "dying");
    soon("the count", count.wait_for(|&count| count == 1))
        .await
        .unwrap();
    let refusal = coordinator.keep_alive(dying.id).await;
    assert!(matches!(refusal, Err(Error::LeaseNotFound { id }) if id == dying.id));
    let info = coordinator.time_to_live(renewed.id, true).await.unwrap();
    assert_eq!(
        (info.granted, &info.keys[..]),
        (secs(2), &[bytes("renewed")][..])
    );
    assert!(info.remaining <= secs(2));
    let info = coordinator.time_to_live(renewed.id, false).await.unwrap();
    assert!(info.keys.is_empty());
    renewing.await.unwrap();
    let gone = soon("the second expiry", watcher.next()).await.unwrap();
    assert_eq!(gone.events[0].kv.key, "renewed");
    assert!(start.elapsed() >= secs(5), "too early");
}

#[tokio::test]
async fn leases_that_die_together_all_go() {
    let coordinator = in_memory();
    for nth in 0..1_000 {
        let granted = coordinator.grant(0, secs(1)).await.unwrap();
        coordinator
            .put(put_on(&format!("q/{nth}"), granted.id))
            .await
            .unwrap();
    }
    let mut count = coordinator.live_leases();
    soon("all to go", count.wait_for(|&count| count == 0))
        .await
        .unwrap();
    assert_eq!(coordinator.keys().await, [] as [&str; 0]);
}

#[tokio::test]
async fn closing_ends_everything_once() {
    let coordinator = in_memory();
    let mut watcher = coordinator.watch(one("a"), None).unwrap();
    coordinator.put(put("a", "")).await.unwrap();
    let other = coordinator.clone();
    let mut closed = Box::pin(other.closed());
    assert!(is_waiting(&mut closed).await);
    coordinator.close().unwrap();
    coordinator.close().unwrap();
    assert!(matches!(
        soon("the end", closed).await,
        Error::Stopped { .. }
    ));
    assert!(watcher.next().await.is_ok(), "what was queued comes first");
    assert!(matches!(watcher.next().await, Err(Error::Stopped { .. })));
    assert!(matches!(
        coordinator.put(put("a", "")).await,
        Err(Error::Stopped { .. })
    ));
    assert!(matches!(
        coordinator.watch(one("a"), None),
        Err(Error::Stopped { .. })
    ));
    assert!(matches!(
        coordinator.keep_alive(1).await,
        Err(Error::Stopped { .. })
    ));
}

#[tokio::test]
async fn dropping_the_last_handle_ends_its_watches() {
    let coordinator = in_memory();
    let mut watcher = coordinator.watch(one("a"), None).unwrap();
    drop(coordinator);
    let end = soon("the end", watcher.next()).await;
    assert!(matches!(end, Err(Error::Stopped { .. })));
}

#[test]
fn the_clock_is_believed_within_reason() {
    let at = |secs| to_clock_revision(SystemTime::UNIX_EPOCH + Duration::from_secs(secs));
    assert_eq!(at(1_795_878_583), 1_795_878_583_000_000);
    assert_eq!(at(20_000_000_000), 0, "no such year");
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    assert_eq!(to_clock_revision(before), 0);
}

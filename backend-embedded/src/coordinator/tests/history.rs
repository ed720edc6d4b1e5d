//! The changes from before a restart that a watch delivers.

use futures_util::FutureExt;

use super::*;

/// A change that a watch delivers: the key, and the revision of a put, or the negative revision of
/// a deletion.
type Change = (String, i64);

/// Returns all changes that a watch from `start` delivers by now; `Err` with the revision up to
/// which everything is forgotten.
async fn delivered_changes(
    coordinator: &Coordinator,
    keys: KeyRange,
    start: Revision,
) -> Result<Vec<Change>, Revision> {
    let mut watcher = match coordinator.watch(keys, Some(start)) {
        Ok(watcher) => watcher,
        Err(Error::Compacted {
            compact_revision, ..
        }) => return Err(compact_revision),
        Err(error) => panic!("{error}"),
    };
    let mut changes = Vec::new();
    while let Some(batch) = watcher.next().now_or_never() {
        for event in batch.unwrap().events {
            let key = String::from_utf8_lossy(&event.kv.key).into_owned();
            let revision = event.kv.mod_revision.cast_signed();
            changes.push((key, if event.deleted { -revision } else { revision }));
        }
    }
    assert_eq!(watcher.progress(), Some(coordinator.status().revision));
    Ok(changes)
}

fn all(expected: &[(&str, i64)]) -> Result<Vec<Change>, Revision> {
    let text = |(key, revision): &(&str, i64)| ((*key).to_string(), *revision);
    Ok(expected.iter().map(text).collect())
}

async fn change(coordinator: &Coordinator, keys: &[&str]) {
    for key in keys {
        match key.strip_prefix('-') {
            None => _ = coordinator.put(put(key, "v")).await.unwrap(),
            Some(key) => _ = coordinator.delete(delete(one(key))).await.unwrap(),
        }
    }
}

/// Writes until the journal is full and its content moves to the tables.
async fn fill_the_journal(coordinator: &Coordinator, disk: &Disk) {
    let before = disk.bytes().store;
    while disk.bytes().store == before {
        change(coordinator, &["filler"]).await;
    }
}

#[tokio::test]
async fn a_watch_from_before_a_restart_gets_the_last_change_of_each_key() {
    let disk = Disk::with_store();
    let before = on(&disk);
    change(
        &before,
        &["a", "b", "a", "c", "-b", "-c", "c", "d", "-d", "d", "-d"],
    )
    .await;
    assert_eq!(before.applied_revision(), 12);
    // A kill leaves all of it in the journal.
    let killed = on(&disk.after_kill());
    let expected = [("a", 4), ("b", -6), ("c", 8), ("d", -12)];
    assert_eq!(
        delivered_changes(&killed, KeyRange::all(), 2).await,
        all(&expected)
    );
    assert_eq!(
        delivered_changes(&killed, KeyRange::all(), 6).await,
        all(&expected[1..])
    );
    assert_eq!(
        delivered_changes(&killed, KeyRange::all(), 7).await,
        all(&expected[2..])
    );
    assert_eq!(
        delivered_changes(&killed, KeyRange::all(), 13).await,
        all(&[])
    );
    assert_eq!(
        delivered_changes(&killed, one("b"), 3).await,
        all(&[("b", -6)])
    );
    assert_eq!(delivered_changes(&killed, one("b"), 7).await, all(&[]));
    assert_eq!(delivered_changes(&killed, KeyRange::all(), 1).await, Err(2));
    let mut watcher = killed.watch(KeyRange::all(), Some(11)).unwrap();
    assert_eq!(soon("the past", watcher.next()).await.unwrap().revision, 12);
    change(&killed, &["-a"]).await;
    let now = soon("the present", watcher.next()).await.unwrap();
    assert!(now.events[0].deleted && now.revision > 12);
    killed.close().unwrap();

    // The same holds when the content has moved to the tables, over any number of restarts.
    fill_the_journal(&before, &disk).await;
    before.close().unwrap();
    for _ in 0..3 {
        let again = on(&disk);
        let but_the_filler = KeyRange::Span {
            start: bytes("a"),
            end: Some(bytes("e")),
        };
        assert_eq!(
            delivered_changes(&again, but_the_filler, 2).await,
            all(&expected)
        );
        again.close().unwrap();
    }
}

#[tokio::test]
async fn compacted_revisions_stay_compacted() {
    let disk = Disk::with_store();
    let before = on(&disk);
    change(&before, &["a", "b", "-a", "c", "-c"]).await;
    before.compact(5).await.unwrap();
    before.close().unwrap();
    let after = on(&disk);
    assert_eq!(delivered_changes(&after, KeyRange::all(), 4).await, Err(5));
    assert_eq!(
        delivered_changes(&after, one("b"), 4).await,
        Err(5),
        "by request"
    );
    assert_eq!(
        delivered_changes(&after, KeyRange::all(), 5).await,
        all(&[("c", -6)])
    );
}

#[tokio::test]
async fn deletions_that_share_a_commit_are_reported_at_its_end() {
    let disk = Disk::with_store();
    let before = on(&disk);
    change(&before, &["a", "b"]).await;
    disk.hold_syncs(true);
    let mut first = Box::pin(before.put(put("c", "")));
    assert!(is_waiting(&mut first).await);
    until("the first commit", || disk.is_sync_held()).await;
    // These three share a commit.
    let mut delete_a = Box::pin(before.delete(delete(one("a"))));
    let mut put_d = Box::pin(before.put(put("d", "")));
    let mut delete_b = Box::pin(before.delete(delete(one("b"))));
    assert!(is_waiting(&mut delete_a).await);
    assert!(is_waiting(&mut put_d).await);
    assert!(is_waiting(&mut delete_b).await);
    disk.hold_syncs(false);
    soon("the last", delete_b).await.unwrap();
    let killed = on(&disk.after_kill());
    // Never earlier than the deletion was: a client that knows revision 5 learns what came after
    // it.
    let expected = [("d", 6), ("a", -7), ("b", -7)];
    assert_eq!(
        delivered_changes(&killed, KeyRange::all(), 5).await,
        all(&expected)
    );
    assert_eq!(
        delivered_changes(&killed, one("a"), 7).await,
        all(&[("a", -7)])
    );
}

#[tokio::test]
async fn a_watch_of_one_key_is_served_whatever_was_forgotten() {
    let limits = Limits {
        history_events: 3,
        ..Limits::default()
    };
    let disk = Disk::with_store();
    let before = with_limits(&disk, limits.clone());
    change(&before, &["held", "old", "x", "y", "z", "x", "y", "z"]).await;
    let after = with_limits(&disk.after_kill(), limits);
    // After the restart only the last change of each key counts.
    for (coordinator, known_since) in [(before, 7), (after, 4)] {
        let forgotten = delivered_changes(&coordinator, KeyRange::all(), 3).await;
        assert_eq!(forgotten, Err(known_since));
        assert_eq!(
            delivered_changes(&coordinator, one("held"), 3).await,
            all(&[])
        );
        // The key has changed since, and its earlier state is no longer known.
        assert_eq!(
            delivered_changes(&coordinator, one("old"), 3).await,
            Err(known_since)
        );
        assert_eq!(
            delivered_changes(&coordinator, one("none"), 3).await,
            Err(known_since)
        );
        let mut waiter = coordinator.watch(one("held"), Some(3)).unwrap();
        change(&coordinator, &["-held"]).await;
        let gone = soon("the deletion", waiter.next()).await.unwrap();
        assert!(gone.events[0].deleted);
        assert_eq!(
            delivered_changes(&coordinator, one("held"), 3).await,
            Err(8)
        );
    }
}

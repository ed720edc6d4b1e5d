//! Checks the listing of locks and queues by other clients.

use lock_core::{
    Admission, AnyGuard, Enqueued, Entry, EntryId, ErrorKind, Incarnation, LossReason, Mode, Queue,
    Release, State, rule,
};

use crate::test_bed::{TestBed, ticket};

pub async fn a_queue_lists_its_entries(bed: TestBed) {
    let locks = bed.process();
    let lock = locks.rwlock("a").expect("a valid name");
    let guard = lock.read().await.expect("the lock is free");
    let queue = bed.queue("a").await;
    assert_eq!((queue.entries.len(), queue.holders()), (1, 1));
    let entry = &queue.entries[0];
    assert_eq!(
        (entry.token, entry.mode, entry.session),
        (guard.token(), Mode::Shared, locks.session_id())
    );
    let metadata = entry.metadata.as_ref().expect("ours");
    assert_eq!(
        (metadata.pid, metadata.owner.as_str()),
        (std::process::id(), "suite")
    );
    assert_eq!(metadata.note.as_deref(), Some("a case"));
    assert!(metadata.since_unix_ms > 0 && !metadata.host.is_empty());
}

pub async fn waiters_are_listed_in_order(bed: TestBed) {
    let (holder, guard) = bed.holder("a").await;
    let modes = [Mode::Shared, Mode::Exclusive, Mode::Shared, Mode::Shared];
    let mut expected = vec![(Mode::Exclusive, holder.session_id())];
    let mut waiters = vec![];
    for mode in modes {
        let waiter = bed.waiter("a", mode).await;
        expected.push((mode, waiter.locks.session_id()));
        waiters.push(waiter);
    }
    let queue = bed.queue("a").await;
    let told = queue.entries.iter().map(|e| (e.mode, e.session));
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert!(
        queue
            .entries
            .is_sorted_by(|a, b| a.id.incarnation < b.id.incarnation)
    );
    assert_eq!(queue.holders(), 1);
    drop(guard);
    let first = waiters.remove(0).turn().await;
    let queue = bed.queue("a").await;
    assert_eq!((queue.entries.len(), queue.holders()), (4, 1));
    assert_eq!(queue.entries[0].token, first.token());
}

pub async fn a_holder_says_since_when_and_keeps_its_place(bed: TestBed) {
    let announcing = bed.process_with(bed.options().with_announces(true));
    let lock = announcing.mutex("a").expect("a valid name");
    let guard = lock.acquire().await.expect("the lock is free");
    let waiter = bed.waiter("a", Mode::Exclusive).await;
    let held = |queue: &Queue| {
        queue.entries[0]
            .metadata
            .as_ref()
            .and_then(|m| m.held_unix_ms)
    };
    let before = bed.queue("a").await;
    assert_eq!(held(&before), Some(0), "it has not said");
    guard.announce().await.expect("it is held");
    let after = bed.queue("a").await;
    assert!(held(&after).is_some_and(|ms| ms > 0));
    // Nothing else of the entry has changed, and the entry ends as ever: for the waiter, and with
    // its session.
    let places = |queue: &Queue| {
        let entries = queue.entries.iter();
        let place = |e: &Entry| (e.id.clone(), e.token, e.mode, e.session);
        entries.map(place).collect::<Vec<_>>()
    };
    assert_eq!(places(&before), places(&after));
    let said = |queue: &Queue| queue.entries[0].metadata.as_ref().map(|m| m.note.clone());
    assert_eq!(said(&before), said(&after));
    assert_eq!(guard.state(), State::Held);
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    let next = waiter.turn().await;
    let silent = next.announce().await.expect_err("it never says");
    assert_eq!(silent.kind(), ErrorKind::InvalidArgument);
    assert_eq!(next.release().await.expect("an answer"), Release::Released);

    let guard = lock.acquire().await.expect("the lock is free");
    guard.announce().await.expect("it is held");
    announcing.close().await.expect("an answer");
    bed.depth("a", 0).await;
    let late = guard.announce().await.expect_err("it is lost");
    assert_eq!(late.kind(), ErrorKind::SessionLost(LossReason::Closed));
}

pub async fn a_waiter_reads_what_the_entry_ahead_says(bed: TestBed) {
    let (_, guard) = bed.holder("a").await;
    let session = bed.session().await;
    let ticket = ticket("a", Mode::Exclusive, 1);
    let enqueued = session
        .enqueue(&ticket, rule::ask(ticket.mode), Admission::Always)
        .await;
    let Ok(Enqueued::Placed(placed)) = enqueued else {
        panic!("a place is expected: {enqueued:?}")
    };
    let queue = bed.queue("a").await;
    let (listed, ahead) = (&queue.entries[0], &placed.view.ahead[0].id);
    let said = session.metadata(ahead).await.expect("an answer");
    assert_eq!(said, listed.metadata);
    let own = session.metadata(&placed.entry).await.expect("an answer");
    assert_eq!(own.as_ref(), Some(&*ticket.metadata));
    let number = listed.id.incarnation.expect("listed").get();
    // No incarnation is zero.
    let others = [number - 1, number + 1].map(Incarnation::new);
    for other in others.into_iter().flatten() {
        let other = EntryId {
            key: listed.id.key.clone(),
            incarnation: Some(other),
        };
        let said = session.metadata(&other).await.expect("an answer");
        assert_eq!(said, None, "{other:?}, not {:?}", listed.id);
    }
    drop(guard);
    bed.eventually("the entry is gone", async || {
        session.metadata(ahead).await.expect("an answer").is_none()
    })
    .await;
}

pub async fn a_lock_that_nobody_uses_is_not_listed(bed: TestBed) {
    let locks = bed.process();
    assert_eq!(bed.queue("a").await.entries, []);
    let listed = locks.list("", None, 10).await.expect("an answer");
    assert_eq!(listed, []);
    let (_, guard) = bed.holder("a").await;
    let listed = locks.list("", None, 10).await.expect("an answer");
    assert_eq!(listed, [bed.queue("a").await]);
    drop(guard);
    bed.depth("a", 0).await;
    let listed = locks.list("", None, 10).await.expect("an answer");
    assert_eq!(listed, []);
}

pub async fn pages_follow_each_other(bed: TestBed) {
    let locks = bed.process();
    let names = ["b", "a", "a/b", "a/b/c", "ab", "a%2Fb", "c"];
    let mut guards: Vec<AnyGuard> = vec![];
    for name in names {
        let mutex = locks.mutex(name).expect("a valid name");
        guards.push(mutex.acquire().await.expect("the lock is free").into());
        let shared = locks.rwlock(format!("{name}-2")).expect("a valid name");
        guards.push(shared.read().await.expect("the lock is free").into());
        guards.push(shared.read().await.expect("readers share").into());
    }
    for (prefix, page, expected) in [
        ("", 1, 14),
        ("", 3, 14),
        ("", 100, 14),
        ("a", 2, 10),
        ("a/", 1, 4),
        ("nobody", 5, 0),
    ] {
        let mut found = vec![];
        let mut after = None;
        loop {
            let queues = locks.list(prefix, after.as_ref(), page).await;
            let queues = queues.expect("an answer");
            assert!(queues.len() <= page);
            for queue in &queues {
                let entries = 1 + usize::from(queue.name.as_str().ends_with("-2"));
                assert_eq!(
                    (queue.entries.len(), queue.holders()),
                    (entries, entries),
                    "{}",
                    queue.name
                );
                assert!(queue.name.as_str().starts_with(prefix));
                found.push(queue.name.to_string());
            }
            match queues.last() {
                Some(last) => after = Some(last.name.clone()),
                None => break,
            }
        }
        let listed = found.len();
        found.sort();
        found.dedup();
        assert_eq!(
            (listed, found.len()),
            (expected, expected),
            "{prefix:?} in pages of {page}: {found:?}"
        );
    }
}

//! Checks that an operator can remove another client's entry.

use lock_core::{
    EntryId, ErrorKind, Incarnation, LockName, LossReason, Mode, Release, Removed, State,
};

use crate::test_bed::TestBed;

pub async fn an_evicted_holder_loses_and_the_next_is_served(bed: TestBed) {
    let (_, guard) = bed.holder("a").await;
    let waiter = bed.waiter("a", Mode::Exclusive).await;
    let operator = bed.process();
    let queue = bed.queue("a").await;
    let evicted = operator.evict(&queue.name, &queue.entries[0].id).await;
    assert_eq!(evicted.expect("an answer"), Removed::Removed);
    let reason = bed.soon("the holder is told", guard.lost()).await;
    assert_eq!(reason, LossReason::EntryGone);
    let next = waiter.turn().await;
    assert!(next.token() > guard.token());
    assert_eq!(
        guard.release().await.expect("an answer"),
        Release::AlreadyGone
    );
    assert_eq!(next.release().await.expect("an answer"), Release::Released);
    assert_eq!(operator.session_id(), None, "it needs no session");
}

pub async fn an_evicted_waiter_leaves_the_line(bed: TestBed) {
    let (_, guard) = bed.holder("a").await;
    let waiter = bed.waiter("a", Mode::Exclusive).await;
    let operator = bed.process();
    let queue = bed.queue("a").await;
    let evicted = operator.evict(&queue.name, &queue.entries[1].id).await;
    assert_eq!(evicted.expect("an answer"), Removed::Removed);
    let error = waiter.outcome().await.expect_err("evicted");
    assert_eq!(error.kind(), ErrorKind::Evicted, "{error}");
    assert_eq!(guard.state(), State::Held);
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
}

pub async fn another_incarnation_stays(bed: TestBed) {
    let (_, guard) = bed.holder("a").await;
    let operator = bed.process();
    let queue = bed.queue("a").await;
    let entry = &queue.entries[0].id;
    let number = entry.incarnation.expect("listed").get();
    // No incarnation is zero.
    let others = [number - 1, number + 1].map(Incarnation::new);
    for other in others.into_iter().flatten() {
        let other = EntryId {
            key: entry.key.clone(),
            incarnation: Some(other),
        };
        let evicted = operator.evict(&queue.name, &other).await;
        let evicted = evicted.expect("an answer");
        assert_eq!(evicted, Removed::AlreadyGone, "{other:?}, not {entry:?}");
    }
    // A wrong name does not reach the entry, either.
    let other = LockName::new("a/b").expect("a valid name");
    let error = operator.evict(&other, entry).await;
    let error = error.expect_err("the entry of one lock cannot be evicted from another");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert_eq!(guard.state(), State::Held);
    assert_eq!(bed.queue("a").await.entries, queue.entries);
    let evicted = operator.evict(&queue.name, entry).await;
    assert_eq!(evicted.expect("an answer"), Removed::Removed);
    let again = operator.evict(&queue.name, entry).await;
    assert_eq!(again.expect("an answer"), Removed::AlreadyGone);
    bed.soon("the holder is told", guard.lost()).await;
}

//! Checks that a request that is repeated, because its reply was lost, does not do its work twice.

use std::sync::Arc;
use std::time::Duration;

use lock_core::session::Placed;
use lock_core::{
    Admission, Enqueued, ErrorKind, Mode, Release, Removed, Session, Ticket, Watcher, rule,
};

use crate::fixture::Skip;
use crate::test_bed::{TestBed, is_ours, ticket};

async fn enqueue(session: &Arc<dyn Session>, ticket: &Ticket) -> Placed {
    let ask = rule::ask(ticket.mode);
    match session.enqueue(ticket, ask, Admission::Always).await {
        Ok(Enqueued::Placed(placed)) => placed,
        other => panic!("a place is expected: {other:?}"),
    }
}

pub async fn an_enqueue_tried_again_finds_its_own_entry(bed: TestBed) {
    let session = bed.session().await;
    for (mode, depth) in [(Mode::Exclusive, 1), (Mode::Shared, 2)] {
        let ticket = ticket("a", mode, depth);
        let first = enqueue(&session, &ticket).await;
        for _ in 0..3 {
            let again = enqueue(&session, &ticket).await;
            assert_eq!(again, first);
            assert!(again.view.present);
        }
        bed.depth("a", depth as usize).await;
    }
}

pub async fn a_removal_tried_again_finds_nothing(bed: TestBed) {
    let session = bed.session().await;
    let ticket = ticket("a", Mode::Exclusive, 1);
    let placed = enqueue(&session, &ticket).await;
    for expected in [Removed::Removed, Removed::AlreadyGone] {
        let removed = session.remove(&ticket, Some(&placed.entry), &[]).await;
        assert_eq!(removed.expect("done").removed, expected);
        bed.depth("a", 0).await;
    }
    let gone = session.watch(&placed.entry, Watcher::Owner);
    bed.soon("the change", gone).await.expect("told at once");
}

/// An acquire that was dropped before its enqueue was confirmed, or even sent, removes such an
/// entry.
pub async fn a_removal_may_not_know_the_entry(bed: TestBed) {
    let session = bed.session().await;
    let made = ticket("a", Mode::Exclusive, 1);
    enqueue(&session, &made).await;
    let removed = session.remove(&made, None, &[]).await.expect("done");
    assert_eq!(removed.removed, Removed::Removed);
    let never_made = ticket("a", Mode::Exclusive, 2);
    let removed = session.remove(&never_made, None, &[]).await.expect("done");
    assert_eq!(removed.removed, Removed::AlreadyGone);
    bed.depth("a", 0).await;
}

/// Nothing is removed by name alone, not even a later entry of the same session.
pub async fn an_old_removal_leaves_the_next_entry_alone(bed: TestBed) {
    let session = bed.session().await;
    let old = ticket("a", Mode::Exclusive, 1);
    let old_entry = enqueue(&session, &old).await.entry;
    session
        .remove(&old, Some(&old_entry), &[])
        .await
        .expect("done");
    let new = ticket("a", Mode::Exclusive, 2);
    let new_entry = enqueue(&session, &new).await.entry;
    let again = session
        .remove(&old, Some(&old_entry), &[])
        .await
        .expect("done");
    assert_eq!(again.removed, Removed::AlreadyGone);
    let queue = bed.queue("a").await;
    assert_eq!(queue.entries.len(), 1);
    assert_eq!(queue.entries[0].id, new_entry);
}

pub async fn closing_twice_is_closing_once(bed: TestBed) {
    let session = bed.session().await;
    let first = ticket("a", Mode::Exclusive, 1);
    enqueue(&session, &first).await;
    for _ in 0..2 {
        session.close().await.expect("closed");
        assert_eq!(bed.queue("a").await.entries, []);
    }
    let late = ticket("a", Mode::Exclusive, 2);
    let ask = rule::ask(Mode::Exclusive);
    let error = session.enqueue(&late, ask, Admission::Always).await;
    let error = error.expect_err("nothing is made in a session that is over");
    assert!(matches!(error.kind(), ErrorKind::SessionLost(_)), "{error}");
    assert_eq!(bed.queue("a").await.entries, []);
}

pub async fn the_lost_reply_of_an_acquire_makes_one_entry(bed: TestBed) -> Result<(), Skip> {
    let (link, locks) = bed.distant_process()?;
    let lock = locks.mutex("a").expect("a valid name");
    let guard = lock.acquire().await.expect("the lock is free");
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    link.mute();
    let acquired = bed.soon("an answer in the end", lock.acquire()).await;
    let guard = acquired.expect("the lock is free");
    assert!(link.muted_bytes() > 0, "an answer was lost");
    let queue = bed.queue("a").await;
    assert_eq!(queue.entries.len(), 1, "{queue:?}");
    assert_eq!(queue.entries[0].token, guard.token());
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    bed.depth("a", 0).await;
    Ok(())
}

pub async fn the_lost_reply_of_a_release_frees_the_lock_once(bed: TestBed) -> Result<(), Skip> {
    let (link, locks) = bed.distant_process()?;
    let lock = locks.mutex("a").expect("a valid name");
    let guard = lock.acquire().await.expect("the lock is free");
    link.mute();
    let released = bed.soon("an answer in the end", guard.release()).await;
    assert!(
        !matches!(released, Ok(Release::AlreadyGone)),
        "{released:?}"
    );
    // The same session goes on at once, with a lock that an old removal must not hit.
    let acquired = bed.soon("our turn", lock.acquire()).await;
    let guard = acquired.expect("the lock is free");
    assert!(link.muted_bytes() > 0, "an answer was lost");
    // The pause is longer than the time after which a removal is tried again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(is_ours(&guard), "{guard:?}");
    let queue = bed.queue("a").await;
    assert_eq!(queue.entries.len(), 1, "{queue:?}");
    assert_eq!(queue.entries[0].token, guard.token());
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    Ok(())
}

pub async fn a_lost_wake_up_delays_the_turn_and_no_more(bed: TestBed) -> Result<(), Skip> {
    let bed = bed.with_ttl(Duration::from_secs(30));
    let (_, guard) = bed.holder("a").await;
    let (link, locks) = bed.distant_process()?;
    let waiter = bed.waiter_of(locks, "a", Mode::Exclusive).await;
    link.mute();
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    let turn = waiter.turn().await;
    assert_eq!(turn.release().await.expect("an answer"), Release::Released);
    Ok(())
}

/// The request may be under way, and may arrive when nobody wants its result any more.
pub async fn an_acquire_dropped_behind_a_silent_network_leaves_no_entry(
    bed: TestBed,
) -> Result<(), Skip> {
    let bed = bed.with_ttl(Duration::from_secs(30));
    let (link, locks) = bed.distant_process()?;
    let lock = locks.mutex("a").expect("a valid name");
    let guard = lock.acquire().await.expect("the lock is free");
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    for _ in 0..3 {
        link.silence();
        let dropped = lock.acquire_timeout(Duration::from_millis(50)).await;
        assert!(!matches!(dropped, Ok(Some(_))), "nobody can have answered");
        link.resume();
        // The next holder stands behind the entry that may still arrive, and gets its turn once
        // that entry is gone.
        let (_, next) = bed.holder("a").await;
        assert_eq!(next.release().await.expect("an answer"), Release::Released);
        bed.depth("a", 0).await;
    }
    Ok(())
}

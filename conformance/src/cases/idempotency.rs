//! Checks that a request that is made ten times over does the work of one. The core makes a request
//! again when it does not know what became of it.

use std::future::Future;
use std::sync::Arc;

use lock_core::session::Placed;
use lock_core::token_offset::TokenOffset;
use lock_core::{
    Access, Accessed, Admission, AsOf, DataKey, Enqueued, Error, Metadata, Mode, Raised, Removed,
    Session, Ticket, retry, rule,
};

use crate::fixture::Skip;
use crate::test_bed::{TestBed, ticket};

/// An offset that is above all tokens that a coordinator gives by itself.
const FAR: u64 = 1 << 60;

/// Makes a request ten times, one after another, and returns the results.
async fn ten_times<T, F>(mut request: impl FnMut() -> F) -> Vec<T>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut results = Vec::new();
    for _ in 0..10 {
        results.push(request().await.expect("an answer"));
    }
    results
}

async fn enqueue(session: &Arc<dyn Session>, ticket: &Ticket) -> Placed {
    let ask = rule::ask(ticket.mode);
    let enqueued = ten_times(|| session.enqueue(ticket, ask, Admission::Always)).await;
    let Some(Enqueued::Placed(first)) = enqueued.first() else {
        panic!("a place is expected: {enqueued:?}");
    };
    let is_first = |enqueued: &Enqueued| *enqueued == Enqueued::Placed(first.clone());
    assert!(enqueued.iter().all(is_first), "{enqueued:?}");
    first.clone()
}

pub async fn every_request_of_a_session_does_the_work_of_one(bed: TestBed) {
    let session = bed.session().await;
    let other = bed.session().await;
    let holder = ticket("a", Mode::Exclusive, 1);
    let held = enqueue(&session, &holder).await;
    let waiter = ticket("a", Mode::Shared, 1);
    let waits = enqueue(&other, &waiter).await;
    let queue = bed.queue("a").await;
    let entries: Vec<_> = queue.entries.iter().map(|entry| &entry.id).collect();
    assert_eq!(entries, [&held.entry, &waits.entry]);

    let busy = ticket("a", Mode::Exclusive, 2);
    let ask = rule::ask(busy.mode);
    for found in ten_times(|| other.enqueue(&busy, ask, Admission::IfFree)).await {
        if let Enqueued::Placed(placed) = found {
            // A backend that cannot decide this in one step.
            assert!(!placed.view.ahead.is_empty(), "{placed:?}");
        }
    }
    for removed in ten_times(|| other.remove(&busy, None, &[]))
        .await
        .split_off(1)
    {
        assert_eq!(removed.removed, Removed::AlreadyGone);
    }

    let ask = rule::ask(waiter.mode);
    for view in ten_times(|| other.look(&waiter, &waits.entry, ask, AsOf::Now)).await {
        assert!(view.present && view.ahead.len() == 1, "{view:?}");
    }
    let mut says = Metadata::default();
    "ten".clone_into(&mut says.owner);
    let described = ten_times(|| session.describe(&holder, &held.entry, &says)).await;
    assert_eq!(described, [true; 10]);
    for read in ten_times(|| other.metadata(&held.entry)).await {
        assert_eq!(read.map(|metadata| metadata.owner), Some("ten".to_owned()));
    }
    bed.depth("a", 2).await;

    let key = DataKey::new("ten/times").expect("valid");
    let put = Access::put(&key, b"value").expect("short");
    let value = Some(b"value".to_vec());
    for (access, result) in [
        (put, None),
        (Access::Get, value),
        (Access::Delete, None),
        (Access::Get, None),
    ] {
        let done = ten_times(|| session.access(&holder, &held.entry, &key, &access)).await;
        let expected = Accessed::Done(result);
        assert!(
            done.iter().all(|done| *done == expected),
            "{access:?}: {done:?}"
        );
    }

    let removed = ten_times(|| session.remove(&holder, Some(&held.entry), &[])).await;
    let removed: Vec<_> = removed.into_iter().map(|removal| removal.removed).collect();
    assert_eq!(removed[0], Removed::Removed);
    assert!(removed[1..].iter().all(|it| *it == Removed::AlreadyGone));
    bed.depth("a", 1).await;
    ten_times(|| other.close()).await;
    bed.depth("a", 0).await;
    session.close().await.expect("an answer");
}

pub async fn every_request_without_a_session_does_the_work_of_one(bed: TestBed) {
    let (locks, guard) = bed.holder("a").await;
    let backend = bed.backend();
    let entry = guard.entry().clone();
    let name = guard.name().clone();
    let queues = ten_times(|| backend.queue(&name)).await;
    assert!(
        queues.iter().all(|queue| queue.entries.len() == 1),
        "{queues:?}"
    );
    let key = DataKey::new("ten/times").expect("valid");
    assert_eq!(ten_times(|| backend.get(&key)).await, vec![None; 10]);
    let evicted = ten_times(|| backend.evict(&name, &entry)).await;
    assert_eq!(evicted[0], Removed::Removed);
    assert!(evicted[1..].iter().all(|it| *it == Removed::AlreadyGone));
    bed.depth("a", 0).await;
    drop(guard);
    locks.close().await.expect("an answer");
}

pub async fn sessions_opened_ten_times_leave_nothing_when_they_are_closed(
    bed: TestBed,
) -> Result<(), Skip> {
    let administrator = bed.administrator()?;
    let backend = bed.backend();
    let ttl = bed.ttl();
    let sessions = ten_times(|| retry::retry_briefly(|| backend.open_session(ttl))).await;
    for session in &sessions {
        session.close().await.expect("an answer");
    }
    bed.eventually("no session is left", async || {
        administrator.sessions().await.is_empty()
    })
    .await;
    Ok(())
}

pub async fn an_offset_raised_ten_times_is_raised_once(bed: TestBed) -> Result<(), Skip> {
    bed.whole_store()?;
    let backend = bed.backend();
    let offset = TokenOffset::new(FAR).expect("valid");
    let raised = ten_times(|| backend.raise_token_offset(offset)).await;
    assert!(
        raised
            .iter()
            .all(|it| matches!(it, Raised::To(at) if *at == offset)),
        "{raised:?}"
    );
    Ok(())
}

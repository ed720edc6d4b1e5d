//! Checks that there is one holder at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lock_core::clock::Clock;
use lock_core::{Admission, Enqueued, Locks, LossReason, Mode, Release, rule};

use crate::fixture::Skip;
use crate::test_bed::{TestBed, ticket};

async fn take_turns(bed: &TestBed, clients: Vec<Locks>, turns: usize) {
    let inside = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|locks| {
            let inside = inside.clone();
            tokio::spawn(async move {
                let lock = locks.mutex("a").expect("a valid name");
                for _ in 0..turns {
                    let guard = lock.acquire().await.expect("our turn comes");
                    let others = inside.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(others, 0, "two tasks hold the lock");
                    // The pause is long enough for others to come in, if they could.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
                }
            })
        })
        .collect();
    for task in tasks {
        bed.join("all turns", task).await;
    }
    bed.depth("a", 0).await;
}

pub async fn tasks_that_share_a_session_exclude_each_other(bed: TestBed) {
    let locks = bed.process();
    take_turns(&bed, vec![locks; 8], 20).await;
}

pub async fn processes_exclude_each_other(bed: TestBed) {
    let processes = (0..8).map(|_| bed.process()).collect();
    take_turns(&bed, processes, 20).await;
}

pub async fn contention_is_a_value(bed: TestBed) {
    let (_, guard) = bed.holder("a").await;
    let other = bed.mutex("a");
    let tried = other.try_acquire().await.expect("an answer");
    assert!(tried.is_none(), "a held lock was granted to a try");
    let (started, limit) = (Instant::now(), Duration::from_millis(300));
    let waited = other.acquire_timeout(limit).await;
    let waited = waited.expect("an answer");
    assert!(waited.is_none(), "a held lock was granted to a waiter");
    assert!(
        started.elapsed() >= limit,
        "the wait ended before its limit"
    );
    bed.depth("a", 1).await;
    drop(guard);
    let guard = other.acquire_timeout(bed.limit()).await;
    let guard = guard.expect("an answer").expect("the lock is free again");
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
}

pub async fn a_task_waits_for_itself(bed: TestBed) {
    let lock = bed.mutex("a");
    let guard = lock.acquire().await.expect("the lock is free");
    let again = lock.try_acquire().await.expect("an answer");
    assert!(again.is_none(), "its holder was granted the lock again");
    let again = lock.acquire_timeout(Duration::from_millis(100)).await;
    let again = again.expect("an answer");
    assert!(again.is_none(), "its holder was granted the lock again");
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    let again = lock.try_acquire().await.expect("an answer");
    assert!(again.is_some(), "nothing of the waits is left");
}

pub async fn a_session_does_not_take_the_entry_of_another_for_its_own(bed: TestBed) {
    let ask = rule::ask(Mode::Exclusive);
    let ticket = ticket("a", Mode::Exclusive, 1);
    let (old, new) = (bed.session().await, bed.session().await);
    let enqueued = old.enqueue(&ticket, ask, Admission::Always).await;
    let Ok(Enqueued::Placed(first)) = enqueued else {
        panic!("a place is expected: {enqueued:?}")
    };
    let enqueued = new.enqueue(&ticket, ask, Admission::Always).await;
    let Ok(Enqueued::Placed(second)) = enqueued else {
        panic!("a place is expected: {enqueued:?}")
    };
    assert!(
        second.entry.incarnation > first.entry.incarnation,
        "the second entry, {:?}, has no higher incarnation than the first, {:?}",
        second.entry,
        first.entry
    );
    assert_eq!(second.view.ahead.len(), 1, "{:?}", second.view);
    // Not every store reports the incarnation of the entries ahead, so only the keys are compared.
    assert_eq!(second.view.ahead[0].id.key, first.entry.key);
    new.remove(&ticket, None, &[]).await.expect("removed");
    let queue = bed.queue("a").await;
    assert_eq!(queue.entries.len(), 1);
    assert_eq!(queue.entries[0].id, first.entry);
}

/// The holder's network falls silent, so that the holder has only its clock to go by.
pub async fn a_silent_holder_has_lost_before_the_next_is_granted(bed: TestBed) -> Result<(), Skip> {
    let bed = bed.short_lived();
    let (link, locks) = bed.distant_process()?;
    let lock = locks.mutex("a").expect("a valid name");
    let guard = lock.acquire().await.expect("the lock is free");
    let next = bed.waiter("a", Mode::Exclusive).await;
    link.silence();
    let silent = Instant::now();
    let believing = async {
        // The last deadline in which the holder believed, whenever this task gets to run.
        let mut last = None;
        while let Some(deadline) = guard.deadline() {
            last = Some(deadline);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        last.expect("it was held")
    };
    let granted = async {
        let guard = next.turn().await;
        (Clock::system().now(), guard)
    };
    let (believed, (granted, next)) = tokio::join!(believing, granted);
    assert!(
        believed <= granted,
        "the silent holder relied on the lock until {believed:?}, and the next was granted it at {granted:?}"
    );
    assert_eq!(guard.lost().await, LossReason::Expired);
    assert!(next.token() > guard.token());
    // The limit is twice the time that the server waits, for sessions that come from a new leader,
    // and ten seconds more for a busy machine.
    let freed = silent.elapsed();
    assert!(freed < 2 * bed.ttl() + Duration::from_secs(10), "{freed:?}");
    assert_eq!(next.release().await.expect("an answer"), Release::Released);
    Ok(())
}

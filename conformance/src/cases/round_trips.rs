//! Counts the cost of locks on the wire.

use std::time::Duration;

use lock_core::{AnyGuard, Mode, Release};

use crate::fixture::Skip;
use crate::test_bed::TestBed;

/// The delay in each direction. All messages that a client sends within twice this time belong to
/// one round trip. It is short enough for a hold that is over before its entry is watched.
const DELAY: Duration = Duration::from_millis(5);

/// The time to live. It is so long that renewals, which are not counted here, do not disturb much.
const TTL: Duration = Duration::from_secs(600);

/// Asserts that this number of round trips is enough. A few rounds may exceed it, because a
/// keepalive falls into them.
fn within(budget: usize, counts: &[usize]) {
    let enough = counts.iter().any(|count| *count <= budget);
    assert!(enough, "{budget} should be enough: {counts:?}");
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

pub async fn an_acquire_and_a_release_take_one_each(bed: TestBed) -> Result<(), Skip> {
    let bed = bed.with_ttl(TTL);
    let (link, locks) = bed.distant_process()?;
    let lock = locks.mutex("a").expect("a valid name");
    let guard = lock.acquire().await.expect("the lock is free");
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    link.delay(DELAY);
    let (mut acquires, mut releases) = (vec![], vec![]);
    for _ in 0..15 {
        let before = link.round_trips();
        let guard = lock.acquire().await.expect("the lock is free");
        let between = link.round_trips();
        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
        acquires.push(between - before);
        releases.push(link.round_trips() - between);
    }
    within(link.budget(), &acquires);
    within(link.budget(), &releases);
    Ok(())
}

pub async fn a_try_of_a_held_lock_takes_one(bed: TestBed) -> Result<(), Skip> {
    let bed = bed.with_ttl(TTL);
    let (_, _guard) = bed.holder("a").await;
    let (link, locks) = bed.distant_process()?;
    let lock = locks.mutex("a").expect("a valid name");
    assert!(lock.try_acquire().await.expect("an answer").is_none());
    link.delay(DELAY);
    let mut tries = vec![];
    for _ in 0..15 {
        let before = link.round_trips();
        assert!(lock.try_acquire().await.expect("an answer").is_none());
        tries.push(link.round_trips() - before);
    }
    within(link.budget(), &tries);
    Ok(())
}

/// The other waiters receive nothing and send nothing, however many they are.
pub async fn a_release_wakes_one_waiter(bed: TestBed) -> Result<(), Skip> {
    const WAITERS: usize = 10;
    let bed = bed.with_ttl(TTL);
    let (_, guard) = bed.holder("a").await;
    let mut guard = AnyGuard::from(guard);
    let (mut links, mut waiters) = (vec![], vec![]);
    for _ in 0..WAITERS {
        let (link, locks) = bed.distant_process()?;
        waiters.push(bed.waiter_of(locks, "a", Mode::Exclusive).await);
        links.push(link);
    }
    // The pause lets all waiters settle down, each before the one ahead of it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (mut disturbed, mut done) = (vec![], vec![]);
    for waiter in waiters {
        done.push(links.remove(0));
        let count = || links.iter().map(|link| link.round_trips()).sum::<usize>();
        let before = count();
        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
        guard = waiter.turn().await;
        disturbed.push(count() - before);
    }
    // The last waiter has no others behind it. Keepalives fall into some of the rounds.
    disturbed.pop();
    assert_eq!(disturbed.iter().min(), Some(&0), "{disturbed:?}");
    Ok(())
}

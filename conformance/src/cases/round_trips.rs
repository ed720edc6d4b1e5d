//! What locks cost, counted on the wire.

use std::time::Duration;

use lock_core::{Mode, Release};

use crate::bench::Bench;
use crate::fixture::Skip;

/// Each way. Whatever a client says within it belongs to one round trip.
const DELAY: Duration = Duration::from_millis(15);

/// So long that renewals, which are not counted here, do not disturb much.
const TTL: Duration = Duration::from_secs(600);

/// In half of the rounds it was this or less: a renewal or a sign of life falls into some.
fn median(mut counts: Vec<usize>) -> usize {
    counts.sort_unstable();
    counts[counts.len() / 2]
}

pub async fn an_acquire_and_a_release_take_one_each(bench: Bench) -> Result<(), Skip> {
    let bench = bench.with_ttl(TTL);
    let (link, locks) = bench.distant_process()?;
    let lock = locks.mutex("a").expect("a valid name");
    let guard = lock.acquire().await.expect("the lock is free");
    assert_eq!(guard.release().await, Release::Released);
    link.delay(DELAY);
    let (mut acquires, mut releases) = (vec![], vec![]);
    for _ in 0..15 {
        let before = link.round_trips();
        let guard = lock.acquire().await.expect("the lock is free");
        let between = link.round_trips();
        assert_eq!(guard.release().await, Release::Released);
        acquires.push(between - before);
        releases.push(link.round_trips() - between);
    }
    assert_eq!(median(acquires.clone()), 1, "{acquires:?}");
    assert_eq!(median(releases.clone()), 1, "{releases:?}");
    Ok(())
}

pub async fn a_try_of_a_held_lock_takes_one(bench: Bench) -> Result<(), Skip> {
    let bench = bench.with_ttl(TTL);
    let (_, _guard) = bench.holder("a").await;
    let (link, locks) = bench.distant_process()?;
    let lock = locks.mutex("a").expect("a valid name");
    assert!(lock.try_acquire().await.expect("an answer").is_none());
    link.delay(DELAY);
    let mut tries = vec![];
    for _ in 0..15 {
        let before = link.round_trips();
        assert!(lock.try_acquire().await.expect("an answer").is_none());
        tries.push(link.round_trips() - before);
    }
    assert_eq!(median(tries.clone()), 1, "{tries:?}");
    Ok(())
}

/// The others hear nothing and say nothing, however many they are.
pub async fn a_release_wakes_one_waiter(bench: Bench) -> Result<(), Skip> {
    const WAITERS: usize = 10;
    let bench = bench.with_ttl(TTL);
    let (_, mut guard) = bench.holder("a").await;
    let (mut links, mut waiters) = (vec![], vec![]);
    for _ in 0..WAITERS {
        let (link, locks) = bench.distant_process()?;
        waiters.push(bench.waiter_of(locks, "a", Mode::Exclusive).await);
        links.push(link);
    }
    // Until all have settled down, each before the one ahead of it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut disturbed = vec![];
    for waiter in waiters {
        let _own = links.remove(0);
        let count = || links.iter().map(|link| link.round_trips()).sum::<usize>();
        let before = count();
        assert_eq!(guard.release().await, Release::Released);
        guard = waiter.turn().await;
        disturbed.push(count() - before);
    }
    // Signs of life fall into some of the rounds.
    assert!(median(disturbed.clone()) <= 1, "{disturbed:?}");
    Ok(())
}

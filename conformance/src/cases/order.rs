//! First come, first served.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lock_core::{ErrorKind, Locks, Mode, Release, Token};

use crate::bench::Bench;
use crate::fixture::Skip;

pub async fn first_come_first_served(bench: Bench) {
    let (_, holder) = bench.holder("a").await;
    let order = Arc::new(Mutex::new(Vec::<(usize, Token)>::new()));
    let mut waiters = vec![];
    for i in 0..20 {
        let (lock, order) = (bench.mutex("a"), order.clone());
        waiters.push(tokio::spawn(async move {
            let guard = lock.acquire().await.expect("our turn comes");
            order.lock().expect("no panic").push((i, guard.token()));
            assert_eq!(guard.release().await, Release::Released);
        }));
        bench.depth("a", i + 2).await;
    }
    let first = holder.token();
    assert_eq!(holder.release().await, Release::Released);
    for waiter in waiters {
        bench.soon("a turn", waiter).await.expect("no panic");
    }
    let order = order.lock().expect("no panic").clone();
    assert!(order.iter().map(|(i, _)| *i).eq(0..20), "{order:?}");
    let rises = order.windows(2).all(|pair| pair[0].1 < pair[1].1);
    assert!(order[0].1 > first && rises, "{order:?}");
}

pub async fn waiters_that_leave_do_not_break_the_line(bench: Bench) {
    let (_, holder) = bench.holder("a").await;
    let mut waiters = vec![];
    for _ in 0..12 {
        waiters.push(bench.waiter("a", Mode::Exclusive).await);
    }
    // Their sessions live on.
    let (mut stay, mut left) = (vec![], vec![]);
    for (i, waiter) in waiters.into_iter().enumerate() {
        if i % 3 == 1 || i == 5 {
            waiter.leave();
            left.push(waiter);
        } else {
            stay.push(waiter);
        }
    }
    bench.depth("a", stay.len() + 1).await;
    drop(holder);
    let mut last = Token(0);
    for waiter in stay {
        let guard = waiter.turn().await;
        assert!(guard.token() > last);
        last = guard.token();
        assert_eq!(guard.release().await, Release::Released);
    }
    bench.depth("a", 0).await;
}

/// Sessions that share a client, as the tasks of a process do, may hand locks over to each other.
pub async fn whoever_stands_behind_one_that_gives_up_still_waits_for_the_holder(bench: Bench) {
    const LEAVERS: usize = 8;
    let backend = bench.backend();
    let session = || Locks::new(backend.clone(), bench.options()).expect("options within bounds");
    let guard = session().mutex("a").expect("a valid name").acquire().await;
    let guard = guard.expect("the lock is free");
    let mut waiting = vec![];
    for _ in 0..LEAVERS {
        waiting.push(bench.waiter_of(session(), "a", Mode::Exclusive).await);
    }
    let stayer = bench.waiter_of(session(), "a", Mode::Exclusive).await;
    // Their sessions stay: else the entries could go with those.
    let mut left = vec![];
    // From the one right before it on, each a chance to take somebody else's turn for its own.
    while let Some(leaver) = waiting.pop() {
        leaver.leave();
        left.push(leaver);
        bench.depth("a", waiting.len() + 2).await;
        // A wrong grant comes at once.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(stayer.waits(), "it is held");
    }
    let token = guard.token();
    assert_eq!(guard.release().await, Release::Released);
    assert!(stayer.turn().await.token() > token);
}

pub async fn waiters_whose_sessions_end_do_not_break_the_line(bench: Bench) -> Result<(), Skip> {
    let administrator = bench.administrator()?;
    let (_, holder) = bench.holder("a").await;
    let mut waiters = vec![];
    for _ in 0..6 {
        waiters.push(bench.waiter("a", Mode::Exclusive).await);
    }
    for place in [4, 2, 0] {
        let waiter = waiters.remove(place);
        let session = waiter.locks.session_id().expect("open");
        administrator.end_session(session).await;
        let error = waiter.outcome().await.expect_err("its place is gone");
        assert!(
            matches!(error.kind(), ErrorKind::SessionLost(_) | ErrorKind::Evicted),
            "{error}"
        );
    }
    bench.depth("a", waiters.len() + 1).await;
    assert_eq!(holder.release().await, Release::Released);
    let mut last = Token(0);
    for waiter in waiters {
        let guard = waiter.turn().await;
        assert!(guard.token() > last);
        last = guard.token();
        assert_eq!(guard.release().await, Release::Released);
    }
    bench.depth("a", 0).await;
    Ok(())
}

pub async fn a_storm_of_tries_does_not_hold_up_a_waiter(bench: Bench) {
    let (_, holder) = bench.holder("a").await;
    let waiter = bench.waiter("a", Mode::Exclusive).await;
    let tries = (0..4).map(|_| {
        let lock = bench.mutex("a");
        tokio::spawn(async move {
            for _ in 0..50 {
                let tried = lock.try_acquire().await.expect("an answer");
                assert!(tried.is_none(), "somebody holds it or waits all the time");
            }
        })
    });
    let tries: Vec<_> = tries.collect();
    assert_eq!(holder.release().await, Release::Released);
    let guard = waiter.turn().await;
    for task in tries {
        bench.soon("the tries", task).await.expect("no panic");
    }
    bench.depth("a", 1).await;
    assert_eq!(guard.release().await, Release::Released);
    bench.depth("a", 0).await;
}

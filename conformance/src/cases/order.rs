//! First come, first served; tokens rise.

use std::sync::{Arc, Mutex};

use lock_core::{Release, Token};

use crate::bench::{Bench, soon};

pub async fn first_come_first_served(bench: Bench) {
    let holder = bench.mutex("a").acquire().await.expect("the lock is free");
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
        soon("a turn", waiter).await.expect("no panic");
    }
    let order = order.lock().expect("no panic").clone();
    assert_eq!(
        order.iter().map(|(i, _)| *i).collect::<Vec<_>>(),
        (0..20).collect::<Vec<_>>()
    );
    assert!(
        order[0].1 > first && order.windows(2).all(|pair| pair[0].1 < pair[1].1),
        "{order:?}"
    );
}

pub async fn waiters_that_leave_do_not_break_the_line(bench: Bench) {
    let holder = bench.mutex("a").acquire().await.expect("the lock is free");
    let mut waiters = vec![];
    for i in 0..15 {
        let lock = bench.mutex("a");
        waiters.push(tokio::spawn(async move { lock.acquire().await }));
        bench.depth("a", i + 2).await;
    }
    for waiter in waiters.iter().skip(1).step_by(3) {
        waiter.abort();
    }
    bench.depth("a", 11).await;
    drop(holder);
    let mut last = Token(0);
    for waiter in waiters {
        if let Ok(granted) = soon("a turn, or the end of one that left", waiter).await {
            let guard = granted.expect("granted");
            assert!(guard.token() > last);
            last = guard.token();
            assert_eq!(guard.release().await, Release::Released);
        }
    }
    bench.depth("a", 0).await;
}

pub async fn tokens_rise_over_sessions(bench: Bench) {
    let mut last = Token(0);
    for _ in 0..5 {
        let locks = bench.process();
        let guard = locks
            .mutex("a")
            .expect("a valid name")
            .acquire()
            .await
            .expect("the lock is free");
        assert!(guard.token() > last, "{} after {last}", guard.token());
        last = guard.token();
        assert_eq!(guard.release().await, Release::Released);
        locks.close().await.expect("an answer");
    }
}

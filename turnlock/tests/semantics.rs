//! What every lock promises, on the embedded coordinator in memory.

#![cfg(feature = "embedded")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use turnlock::embedded::machine::op::{Delete, KeyRange};
use turnlock::embedded::{Coordinator, EmbeddedBackend, Limits};
use turnlock::{ErrorKind, LockName, Locks, LossReason, Mode, Options, Release, State};

const PATIENCE: Duration = Duration::from_secs(60);

struct Bench {
    coordinator: Coordinator,
    ttl: Duration,
}

impl Bench {
    fn new() -> Self {
        let coordinator = Coordinator::in_memory(Limits::default()).expect("starts");
        Bench {
            coordinator,
            ttl: Duration::from_secs(10),
        }
    }

    /// Another process, as far as the coordinator can tell.
    fn process(&self) -> Locks {
        let options = Options {
            ttl: self.ttl,
            note: Some("a test".into()),
            ..Options::default()
        };
        Locks::new(EmbeddedBackend::new(self.coordinator.clone()), options).expect("valid")
    }

    async fn depth(&self, name: &str) -> usize {
        let name = LockName::new(name).expect("valid");
        self.process()
            .queue(&name)
            .await
            .expect("answers")
            .entries
            .len()
    }

    async fn eventually_depth(&self, name: &str, depth: usize) {
        eventually(&format!("{depth} in the queue of {name}"), async || {
            self.depth(name).await == depth
        })
        .await;
    }

    async fn delete(&self, prefix: &str) {
        let start = prefix.to_owned();
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let keys = KeyRange::Span {
            start: start.into(),
            end: Some(end.into()),
        };
        self.coordinator
            .delete(Delete {
                keys,
                prev_kv: false,
            })
            .await
            .expect("answers");
    }
}

async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(
            started.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

#[tokio::test]
async fn first_come_first_served_with_rising_tokens() {
    let bench = Bench::new();
    let holder = bench
        .process()
        .mutex("a")
        .expect("valid")
        .acquire()
        .await
        .expect("free");
    let order = Arc::new(std::sync::Mutex::new(vec![]));
    let mut waiters = vec![];
    for i in 0..20 {
        let (lock, order) = (bench.process().mutex("a").expect("valid"), order.clone());
        waiters.push(tokio::spawn(async move {
            let guard = lock.acquire().await.expect("our turn comes");
            order.lock().expect("no panic").push((i, guard.token()));
            assert_eq!(guard.release().await, Release::Released);
        }));
        bench.eventually_depth("a", i + 2).await;
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
    assert!(order[0].1 > first && order.windows(2).all(|pair| pair[0].1 < pair[1].1));
}

#[tokio::test]
async fn tasks_that_share_a_session_exclude_each_other() {
    let bench = Bench::new();
    let locks = bench.process();
    let inside = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (lock, inside) = (locks.mutex("a").expect("valid"), inside.clone());
            tokio::spawn(async move {
                for _ in 0..50 {
                    let guard = lock.acquire().await.expect("our turn comes");
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    tokio::task::yield_now().await;
                    assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                    drop(guard);
                }
            })
        })
        .collect();
    for task in tasks {
        soon("all turns", task).await.expect("no panic");
    }
    bench.eventually_depth("a", 0).await;
}

#[tokio::test]
async fn contention_is_a_value_and_leaves_nothing_behind() {
    let bench = Bench::new();
    let guard = bench
        .process()
        .mutex("a")
        .expect("valid")
        .try_acquire()
        .await
        .expect("answers")
        .expect("free");
    let other = bench.process().mutex("a").expect("valid");
    assert!(other.try_acquire().await.expect("answers").is_none());
    let started = Instant::now();
    assert!(
        other
            .acquire_timeout(Duration::from_millis(50))
            .await
            .expect("answers")
            .is_none()
    );
    assert!(started.elapsed() >= Duration::from_millis(50));
    assert_eq!(bench.depth("a").await, 1);
    drop(guard);
    assert!(
        soon("the lock is free", other.acquire_timeout(PATIENCE))
            .await
            .expect("answers")
            .is_some()
    );
}

#[tokio::test]
async fn readers_share_and_a_waiting_writer_stops_new_readers() {
    let bench = Bench::new();
    let lock = || bench.process().rwlock("a").expect("valid");
    let (one, two) = (
        lock().read().await.expect("free"),
        lock().read().await.expect("shared"),
    );
    assert_eq!(two.mode(), Mode::Shared);
    let writer = tokio::spawn({
        let lock = lock();
        async move { lock.write().await }
    });
    bench.eventually_depth("a", 3).await;
    assert!(
        lock().try_read().await.expect("answers").is_none(),
        "the writer came first"
    );
    assert!(
        bench
            .process()
            .mutex("a")
            .expect("valid")
            .try_acquire()
            .await
            .expect("answers")
            .is_none()
    );
    let late = tokio::spawn({
        let lock = lock();
        async move { lock.read().await }
    });
    bench.eventually_depth("a", 4).await;
    one.release().await;
    assert!(!writer.is_finished());
    two.release().await;
    let writer = soon("the writer's turn", writer)
        .await
        .expect("no panic")
        .expect("granted");
    assert!(!late.is_finished());
    writer.release().await;
    let late = soon("the late reader's turn", late).await.expect("no panic").expect("granted");
    assert_eq!(late.release().await, Release::Released);
}

#[tokio::test]
async fn names_that_begin_alike_are_different_locks() {
    let bench = Bench::new();
    let locks = bench.process();
    let mut guards = vec![];
    for name in ["a", "a/b", "a/b/c", "ab", "a%2Fb"] {
        let guard = locks
            .mutex(name)
            .expect("valid")
            .try_acquire()
            .await
            .expect("answers");
        guards.push(guard.unwrap_or_else(|| panic!("{name} is free")));
    }
    let raw = LockName::raw("a").expect("valid");
    guards.push(
        locks
            .mutex(&raw)
            .expect("valid")
            .try_acquire()
            .await
            .expect("answers")
            .expect("free"),
    );
    let mut listed: Vec<String> = locks
        .list("a", None, 100)
        .await
        .expect("answers")
        .iter()
        .map(|q| q.name.to_string())
        .collect();
    listed.sort();
    assert_eq!(listed, ["a", "a%2Fb", "a/b", "a/b/c", "ab"]);
    let mut paged = vec![];
    let mut after = None;
    while let [queue] = locks
        .list("", after.as_ref(), 1)
        .await
        .expect("answers")
        .as_slice()
    {
        assert_eq!((queue.entries.len(), queue.holders()), (1, 1));
        let metadata = queue.entries[0].metadata.clone().expect("ours");
        assert_eq!(
            (metadata.pid, metadata.note.as_deref()),
            (std::process::id(), Some("a test"))
        );
        paged.push(queue.name.to_string());
        after = Some(queue.name.clone());
    }
    paged.sort();
    assert_eq!(paged, listed);
}

/// Polls a future a number of times, then drops it.
async fn abandon<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        if let Poll::Ready(done) = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            return Some(done);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None
}

#[tokio::test]
async fn an_acquire_dropped_at_any_await_leaves_no_entry() {
    let bench = Bench::new();
    for held in [false, true] {
        let holder = match held {
            true => Some(
                bench
                    .process()
                    .mutex("a")
                    .expect("valid")
                    .acquire()
                    .await
                    .expect("free"),
            ),
            false => None,
        };
        for polls in 0..12 {
            let lock = bench.process().mutex("a").expect("valid");
            let _ = abandon(lock.acquire(), polls).await;
            let _ = abandon(lock.acquire_timeout(Duration::from_millis(3)), polls).await;
            let _ = abandon(lock.try_acquire(), polls).await;
        }
        bench.eventually_depth("a", usize::from(held)).await;
        drop(holder);
        bench.eventually_depth("a", 0).await;
    }
}

#[tokio::test]
async fn waiters_that_leave_do_not_break_the_line() {
    let bench = Bench::new();
    let holder = bench
        .process()
        .mutex("a")
        .expect("valid")
        .acquire()
        .await
        .expect("free");
    let mut waiters = vec![];
    for i in 0..30 {
        let lock = bench.process().mutex("a").expect("valid");
        waiters.push(tokio::spawn(async move { lock.acquire().await }));
        bench.eventually_depth("a", i + 2).await;
    }
    for waiter in waiters.iter().skip(1).step_by(3) {
        waiter.abort();
    }
    bench.eventually_depth("a", 21).await;
    drop(holder);
    for waiter in waiters {
        if let Ok(granted) = soon("a turn, or the end of one that left", waiter).await {
            drop(granted.expect("granted"));
        }
    }
    bench.eventually_depth("a", 0).await;
}

#[tokio::test]
async fn a_dropped_guard_frees_the_lock_also_after_its_runtime_ended() {
    let bench = Bench::new();
    let locks = bench.process();
    let lock = locks.mutex("a").expect("valid");
    let guard = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(lock.acquire()).expect("free")
    })
    .join()
    .expect("no panic");
    assert_eq!(guard.state(), State::Held);
    std::thread::spawn(move || drop(guard))
        .join()
        .expect("drop does not need a runtime");
    bench.eventually_depth("a", 0).await;
}

#[test]
fn renewal_goes_on_while_the_executor_is_blocked() {
    let bench = Bench {
        ttl: Duration::from_secs(1),
        ..Bench::new()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let guard = bench
            .process()
            .mutex("a")
            .expect("valid")
            .acquire()
            .await
            .expect("free");
        std::thread::sleep(Duration::from_secs(3));
        assert!(!matches!(guard.state(), State::Lost(_)), "{guard:?}");
        assert!(guard.remaining() > Duration::ZERO);
        assert_eq!(guard.release().await, Release::Released);
    });
}

#[test]
fn any_executor_will_do() {
    let bench = Bench::new();
    let lock = bench.process().mutex("a").expect("valid");
    let guard = futures_executor::block_on(lock.acquire()).expect("free");
    let nobody = lock.acquire_timeout(Duration::from_millis(20));
    assert!(
        futures_executor::block_on(nobody)
            .expect("answers")
            .is_none()
    );
    assert_eq!(
        futures_executor::block_on(guard.release()),
        Release::Released
    );
}

#[tokio::test]
async fn an_entry_taken_away_is_a_loss_for_the_holder_and_an_error_for_waiters() {
    let bench = Bench::new();
    let guard = bench
        .process()
        .mutex("a")
        .expect("valid")
        .acquire()
        .await
        .expect("free");
    let waiter = tokio::spawn({
        let lock = bench.process().mutex("a").expect("valid");
        async move { lock.acquire().await }
    });
    bench.eventually_depth("a", 2).await;
    bench.delete("turnlock/a/").await;
    assert_eq!(
        soon("the holder is told", guard.lost()).await,
        LossReason::EntryGone
    );
    assert_eq!(guard.state(), State::Lost(LossReason::EntryGone));
    assert_eq!(guard.remaining(), Duration::ZERO);
    let error = soon("the waiter is told", waiter)
        .await
        .expect("no panic")
        .expect_err("evicted");
    assert_eq!(error.kind(), ErrorKind::Evicted);
    assert_eq!(guard.release().await, Release::AlreadyGone);
}

#[tokio::test]
async fn a_session_that_ended_is_lost_for_ever_and_the_next_acquire_opens_another() {
    let bench = Bench {
        ttl: Duration::from_secs(1),
        ..Bench::new()
    };
    let locks = bench.process();
    let guard = locks
        .mutex("a")
        .expect("valid")
        .acquire()
        .await
        .expect("free");
    let waiting = bench.process();
    let waiter = tokio::spawn({
        let lock = waiting.mutex("a").expect("valid");
        async move { lock.acquire().await }
    });
    bench.eventually_depth("a", 2).await;
    let (first, second) = (
        locks.session_id().expect("open"),
        waiting.session_id().expect("open"),
    );
    bench.coordinator.revoke(second.0).await.expect("answers");
    let error = soon("the waiter is told", waiter)
        .await
        .expect("no panic")
        .expect_err("its session is gone");
    assert!(
        matches!(error.kind(), ErrorKind::SessionLost(_) | ErrorKind::Evicted),
        "{error}"
    );

    bench.coordinator.revoke(first.0).await.expect("answers");
    let reason = soon("the holder is told", guard.lost()).await;
    assert!(
        matches!(reason, LossReason::SessionGone | LossReason::EntryGone),
        "{reason:?}"
    );
    assert!(matches!(guard.state(), State::Lost(_)));
    let old = guard.token();
    eventually("the loss of the session is known", async || {
        locks.session_id() != Some(first)
    })
    .await;
    let guard = locks
        .mutex("a")
        .expect("valid")
        .acquire()
        .await
        .expect("free again");
    assert!(guard.token() > old);
    assert_ne!(locks.session_id(), Some(first));
}

#[tokio::test]
async fn closing_ends_every_hold() {
    let bench = Bench::new();
    let locks = bench.process();
    let guard = locks
        .mutex("a")
        .expect("valid")
        .acquire()
        .await
        .expect("free");
    locks.close().await.expect("answers");
    assert_eq!(guard.state(), State::Lost(LossReason::Closed));
    assert_eq!(bench.depth("a").await, 0);
    assert!(
        bench
            .coordinator
            .leases()
            .await
            .expect("answers")
            .is_empty()
    );
    drop(guard);
    drop(locks);
}

#[tokio::test]
async fn sessions_that_nobody_uses_any_more_are_closed() {
    let bench = Bench::new();
    let guard = bench
        .process()
        .mutex("a")
        .expect("valid")
        .acquire()
        .await
        .expect("free");
    assert_eq!(bench.coordinator.leases().await.expect("answers").len(), 1);
    drop(guard);
    eventually("no lease is left", async || {
        bench
            .coordinator
            .leases()
            .await
            .expect("answers")
            .is_empty()
    })
    .await;
}

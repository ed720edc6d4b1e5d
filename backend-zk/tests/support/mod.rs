//! Helpers that the tests share: processes on a real ensemble, and waiting for conditions.

#![allow(dead_code, reason = "each test file uses its part")]

use std::future::Future;
use std::time::{Duration, Instant};

use backend_zk::{Config, ZkBackend};
use lock_core::{Guard, LockName, Locks, Options};
use testkit::fixtures::zk::Ensemble;

/// A generous limit, since the machine may be busy with other things.
pub const SOON: Duration = Duration::from_secs(60);

/// Returns the locks of a process. Each call makes a client of its own.
pub fn locks(url: &str, ttl: Duration) -> Locks {
    with_parameters(url, "", ttl)
}

/// Does the same for a configuration with the servers' tick.
pub fn locks_that_know_the_tick(url: &str, tick: Duration, ttl: Duration) -> Locks {
    let tick = format!("&tick_time={}ms", tick.as_millis());
    with_parameters(url, &tick, ttl)
}

fn with_parameters(url: &str, more: &str, ttl: Duration) -> Locks {
    process(&format!("{url}?allow_short_sessions=true{more}"), ttl)
}

/// Returns the locks of a process, by a URL with all its parameters.
pub fn process(url: &str, ttl: Duration) -> Locks {
    let options = Options::default().with_ttl(ttl);
    with_options(url, options)
}

/// Does the same with options.
pub fn with_options(url: &str, options: Options) -> Locks {
    let config = Config::from_url(url).expect("a valid URL");
    let backend = ZkBackend::new(config).expect("a usable configuration");
    Locks::new(backend, options).expect("valid options")
}

/// Returns the name of a native lock.
pub fn name(text: &str) -> LockName {
    LockName::new(text).expect("a valid name")
}

/// Acquires a lock, or fails the test.
pub async fn acquire(locks: &Locks, name: &LockName) -> Guard {
    let mutex = locks.mutex(name).expect("a valid name");
    let guard = soon("our turn", mutex.acquire()).await;
    guard.unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Waits for a future. Fails the test if it takes too long.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {SOON:?}: {what}"),
    }
}

/// Waits until a condition holds.
pub async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a lock's queue has this many entries.
pub async fn depth(locks: &Locks, name: &LockName, depth: usize) {
    eventually(&format!("{depth} in the queue"), async || {
        let queue = locks.queue(name).await;
        queue.is_ok_and(|queue| queue.entries.len() == depth)
    })
    .await;
}

/// Returns how many requests a server without peers has had, including this question.
pub fn requests(ensemble: &Ensemble) -> usize {
    ensemble.count(0, "zk_packets_received")
}

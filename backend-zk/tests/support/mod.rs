//! What the tests share: processes on a real ensemble, and waiting for conditions.

#![allow(dead_code, reason = "each test file uses its part")]

use std::future::Future;
use std::time::{Duration, Instant};

use backend_zk::{Config, ZkBackend};
use lock_core::{Guard, LockName, Locks, Options};
use testkit::fixtures::zk::Ensemble;

/// Generous: the machine may be busy with other things.
pub const SOON: Duration = Duration::from_secs(60);

/// A process's locks: each call makes a client of its own.
pub fn locks(url: &str, ttl: Duration) -> Locks {
    with_parameters(url, "", ttl)
}

/// The same, where the servers' tick is known.
pub fn locks_that_know_the_tick(url: &str, tick: Duration, ttl: Duration) -> Locks {
    let tick = format!("&tick_time={}ms", tick.as_millis());
    with_parameters(url, &tick, ttl)
}

fn with_parameters(url: &str, more: &str, ttl: Duration) -> Locks {
    process(&format!("{url}?allow_short_sessions=true{more}"), ttl)
}

/// A process's locks by a URL that has all its parameters.
pub fn process(url: &str, ttl: Duration) -> Locks {
    let options = Options::default().with_ttl(ttl);
    with_options(url, options)
}

/// The same, with more said about the process.
pub fn with_options(url: &str, options: Options) -> Locks {
    let config = Config::from_url(url).expect("a valid URL");
    let backend = ZkBackend::new(config).expect("a usable configuration");
    Locks::new(backend, options).expect("valid options")
}

/// The name of a native lock.
pub fn name(text: &str) -> LockName {
    LockName::new(text).expect("a valid name")
}

/// Takes a lock, or fails the test.
pub async fn acquire(locks: &Locks, name: &LockName) -> Guard {
    let mutex = locks.mutex(name).expect("a valid name");
    let guard = soon("our turn", mutex.acquire()).await;
    guard.unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Fails the test instead of hanging.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {SOON:?}: {what}"),
    }
}

/// Waits until something is so.
pub async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until so many stand in a lock's queue.
pub async fn depth(locks: &Locks, name: &LockName, depth: usize) {
    eventually(&format!("{depth} in the queue"), async || {
        let queue = locks.queue(name).await;
        queue.is_ok_and(|queue| queue.entries.len() == depth)
    })
    .await;
}

/// How many requests a server that stands alone has had, this question among them.
pub fn requests(ensemble: &Ensemble) -> usize {
    ensemble.count(0, "zk_packets_received")
}

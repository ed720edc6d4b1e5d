//! What the cases work with: clients of one deployment, and waiting for conditions.

use std::future::Future;
use std::time::{Duration, Instant};

use lock_core::{LockName, Locks, Mutex, Options, Queue, RwLock};

use crate::cases::Case;
use crate::fixture::{Deployment, Fixture};

/// Bounds a wait for something that takes milliseconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One case's deployment.
pub struct Bench {
    deployment: Box<dyn Deployment>,
    ttl: Duration,
}

/// Runs one case on a deployment of its own.
pub(crate) fn run(fixture: &dyn Fixture, case: &Case) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime for the case");
    let bench = Bench {
        deployment: fixture.start(),
        ttl: Duration::from_secs(10),
    };
    runtime.block_on(case.run(bench));
}

impl Bench {
    /// With sessions of another time to live than 10 s.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// What can be done to the coordinator behind the backend's back.
    pub fn server(&self) -> &dyn Deployment {
        &*self.deployment
    }

    /// The locks of another process.
    pub fn process(&self) -> Locks {
        let options = Options {
            ttl: self.ttl,
            owner: "suite".into(),
            note: Some("a case".into()),
            ..Options::default()
        };
        Locks::new(self.deployment.backend(), options).expect("options within bounds")
    }

    /// A mutex of another process.
    pub fn mutex(&self, name: &str) -> Mutex {
        self.process().mutex(name).expect("a valid name")
    }

    /// A read/write lock of another process.
    pub fn rwlock(&self, name: &str) -> RwLock {
        self.process().rwlock(name).expect("a valid name")
    }

    /// A lock's queue.
    pub async fn queue(&self, name: &str) -> Queue {
        let name = LockName::new(name).expect("a valid name");
        self.process()
            .queue(&name)
            .await
            .expect("the coordinator answers")
    }

    /// Waits until so many stand in the queue.
    pub async fn depth(&self, name: &str, depth: usize) {
        let what = format!("{depth} in the queue of {name}");
        eventually(&what, async || {
            self.queue(name).await.entries.len() == depth
        })
        .await;
    }
}

/// Waits until something is so.
///
/// # Panics
/// If it is not within [`PATIENCE`].
pub async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(
            started.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Awaits something that must come.
///
/// # Panics
/// If it has not come within [`PATIENCE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

//! What the cases work with: processes that contend on one deployment, and waiting for conditions.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lock_core::guard_mode::GuardMode;
use lock_core::{
    AcquireOptions, AnyGuard, Backend, DEFAULT_TTL, Error, Guard, LockName, Locks, Metadata, Mode,
    Mutex, Options, Queue, RwLock, Session, State, Ticket, retry,
};
use tokio::task::JoinHandle;

use crate::fixture::{Administrator, Deployment, Members, Skip};
use crate::link::Link;

/// One case's deployment.
pub struct TestBed {
    deployment: Box<dyn Deployment>,
    ttl: Duration,
    limit: Duration,
}

impl TestBed {
    pub(crate) fn new(deployment: Box<dyn Deployment>, limit: Duration) -> Self {
        TestBed {
            deployment,
            ttl: DEFAULT_TTL,
            limit,
        }
    }

    /// With sessions that end soon.
    #[must_use]
    pub fn short_lived(self) -> Self {
        let ttl = self.deployment.shortest_ttl();
        self.with_ttl(ttl)
    }

    /// With sessions of another time to live than the default.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// The time to live that is asked for.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// How long something is waited for that takes milliseconds on an idle machine.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Who can act behind the backend's back, if anybody can.
    pub fn administrator(&self) -> Result<&dyn Administrator, Skip> {
        self.deployment.administrator()
    }

    /// The processes that serve, if they are ours to stop.
    pub fn members(&self) -> Result<&dyn Members, Skip> {
        self.deployment.members()
    }

    /// The same where one of them can be away and the others go on.
    pub fn cluster(&self) -> Result<&dyn Members, Skip> {
        let members = self.members()?;
        match members.count() {
            1 => Err(Skip::because("it has one member")),
            _ => Ok(members),
        }
    }

    /// Kills all members, starts them on their old data and waits until all of them serve.
    pub async fn restart_all(&self, members: &dyn Members) {
        for member in 0..members.count() {
            members.kill(member).await;
        }
        for member in 0..members.count() {
            members.start(member).await;
        }
        for member in 0..members.count() {
            self.eventually("it serves again", async || members.serves(member).await)
                .await;
        }
    }

    /// A process that may raise the token offset, if nobody minds that it stays.
    pub fn offset_raiser(&self) -> Result<Locks, Skip> {
        self.deployment.whole_store()?;
        Ok(self.process())
    }

    /// A raw name, if nobody else can be using it.
    pub fn raw(&self, name: &str) -> Result<LockName, Skip> {
        self.deployment.whole_store()?;
        Ok(LockName::raw(name).expect("a valid name"))
    }

    /// A client of its own.
    pub fn backend(&self) -> Arc<dyn Backend> {
        self.deployment.backend()
    }

    /// The locks of another process.
    pub fn process(&self) -> Locks {
        self.process_with(self.options())
    }

    /// What a process says about itself unless it says something else.
    pub fn options(&self) -> Options {
        Options {
            ttl: self.ttl,
            owner: "suite".into(),
            note: Some("a case".into()),
            ..Options::default()
        }
    }

    /// The locks of another process with options of its own.
    pub fn process_with(&self, options: Options) -> Locks {
        Locks::new(self.deployment.backend(), options).expect("options within bounds")
    }

    /// The locks of another process behind a network that can fail.
    pub fn distant_process(&self) -> Result<(Link, Locks), Skip> {
        let link = self.deployment.link()?;
        let locks = Locks::new(link.backend(), self.options()).expect("options within bounds");
        Ok((link, locks))
    }

    /// A mutex of another process.
    pub fn mutex(&self, name: &str) -> Mutex {
        self.process().mutex(name).expect("a valid name")
    }

    /// A read/write lock of another process.
    pub fn rwlock(&self, name: &str) -> RwLock {
        self.process().rwlock(name).expect("a valid name")
    }

    /// Another process that holds a lock that is free.
    pub async fn holder(&self, name: &str) -> (Locks, Guard) {
        let locks = self.process();
        let guard = locks.mutex(name).expect("a valid name").acquire().await;
        (locks, guard.expect("the lock is free"))
    }

    /// Another process that stands at the end of a queue.
    pub async fn waiter(&self, name: &str, mode: Mode) -> Waiter {
        self.waiter_of(self.process(), name, mode).await
    }

    /// The same as a task of this process.
    pub async fn waiter_of(&self, locks: Locks, name: &str, mode: Mode) -> Waiter {
        let ahead = self.queue(name).await.entries.len();
        let lock = locks.rwlock(name).expect("a valid name");
        let task = tokio::spawn(async move {
            let guard = lock.acquire_with(AcquireOptions::new().mode(mode)).await?;
            Ok(guard.expect("a wait without a limit ends with a guard"))
        });
        self.depth(name, ahead + 1).await;
        let limit = self.limit;
        Waiter { locks, task, limit }
    }

    /// A session of another process.
    pub async fn session(&self) -> Arc<dyn Session> {
        let backend = self.deployment.backend();
        let session = retry::briefly(|| backend.open_session(self.ttl)).await;
        session.expect("a session is opened")
    }

    /// A lock's queue.
    pub async fn queue(&self, name: &str) -> Queue {
        let name = LockName::new(name).expect("a valid name");
        let queue = self.process().queue(&name).await;
        queue.expect("the coordinator answers")
    }

    /// Waits until so many stand in the queue.
    pub async fn depth(&self, name: &str, depth: usize) {
        let what = format!("{depth} in the queue of {name}");
        self.eventually(&what, async || {
            self.queue(name).await.entries.len() == depth
        })
        .await;
    }

    /// Waits until something is so.
    ///
    /// # Panics
    /// If it is not in time.
    pub async fn eventually(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let started = Instant::now();
        while !is_so().await {
            assert!(
                started.elapsed() < self.limit,
                "not within {:?}: {what}",
                self.limit
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Awaits something that must come.
    ///
    /// # Panics
    /// If it has not come in time.
    pub async fn soon<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        within(self.limit, what, future).await
    }
}

async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(limit, future).await;
    outcome.unwrap_or_else(|_| panic!("not within {limit:?}: {what}"))
}

/// A process that waits for a lock.
pub struct Waiter {
    /// Its locks.
    pub locks: Locks,
    task: JoinHandle<Result<AnyGuard, Error>>,
    limit: Duration,
}

impl Waiter {
    /// Whether it has neither been granted the lock nor failed.
    pub fn waits(&self) -> bool {
        !self.task.is_finished()
    }

    /// It waits no more.
    pub fn leave(&self) {
        self.task.abort();
    }

    /// How its wait ends.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn outcome(self) -> Result<AnyGuard, Error> {
        let outcome = within(self.limit, "the end of a wait", self.task).await;
        outcome.expect("no panic")
    }

    /// Its turn.
    ///
    /// # Panics
    /// If the turn does not come in time.
    pub async fn turn(self) -> AnyGuard {
        self.outcome().await.expect("its turn comes")
    }
}

/// Whether the lock is not lost.
pub fn is_ours<M: GuardMode>(guard: &Guard<M>) -> bool {
    !matches!(guard.state(), State::Lost(_))
}

/// A wish to hold a lock, for those who speak to a session themselves.
pub fn ticket(name: &str, mode: Mode, serial: u64) -> Ticket {
    Ticket {
        name: LockName::new(name).expect("a valid name"),
        mode,
        serial,
        metadata: Arc::new(Metadata::default()),
    }
}

//! The tools of the cases: processes that contend on one deployment, and waits for conditions.

use std::future::Future;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lock_core::guard_mode::GuardMode;
use lock_core::{
    AcquireOptions, AnyGuard, Backend, DEFAULT_TTL, Error, Guard, LockName, Locks, Metadata, Mode,
    Mutex, Options, Queue, RwLock, Session, State, Ticket, retry,
};
use tokio::task::{JoinError, JoinHandle};

use crate::fixture::{Administrator, Deployment, Members, Skip};
use crate::link::Link;

/// The deployment of one case, and how long its events are waited for.
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

    /// Sets the shortest time to live for all sessions.
    #[must_use]
    pub fn short_lived(self) -> Self {
        let ttl = self.deployment.shortest_ttl();
        self.with_ttl(ttl)
    }

    /// Sets the time to live of all sessions.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Returns the time to live that sessions ask for.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Returns how long an event is waited for that takes milliseconds on an idle machine.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Returns the administrator of the deployment.
    pub fn administrator(&self) -> Result<&dyn Administrator, Skip> {
        self.deployment.administrator()
    }

    /// Returns `Ok` if nobody else uses the store.
    pub fn whole_store(&self) -> Result<(), Skip> {
        self.deployment.whole_store()
    }

    /// Returns the processes that serve the deployment, if the suite may stop them.
    pub fn members(&self) -> Result<&dyn Members, Skip> {
        self.deployment.members()
    }

    /// Returns the same if the others go on while one of them is away.
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

    /// Returns the locks of a process that may raise the token offset, which is never lowered
    /// again.
    pub fn offset_raiser(&self) -> Result<Locks, Skip> {
        self.whole_store()?;
        Ok(self.process())
    }

    /// Returns a raw name, if nobody else can be using it.
    pub fn raw(&self, name: &str) -> Result<LockName, Skip> {
        self.whole_store()?;
        Ok(LockName::raw(name).expect("a valid name"))
    }

    /// Returns a new client.
    pub fn backend(&self) -> Arc<dyn Backend> {
        self.deployment.backend()
    }

    /// Returns the locks of another process.
    pub fn process(&self) -> Locks {
        self.process_with(self.options())
    }

    /// Returns the default options of a process.
    pub fn options(&self) -> Options {
        Options::default()
            .with_ttl(self.ttl)
            .with_owner("suite")
            .with_note("a case")
    }

    /// Returns the locks of another process with these options.
    pub fn process_with(&self, options: Options) -> Locks {
        Locks::new(self.deployment.backend(), options).expect("options within bounds")
    }

    /// Returns the locks of another process behind a network that can fail.
    pub fn distant_process(&self) -> Result<(Link, Locks), Skip> {
        let link = self.deployment.link()?;
        let locks = Locks::new(link.backend(), self.options()).expect("options within bounds");
        Ok((link, locks))
    }

    /// Returns a mutex of another process.
    pub fn mutex(&self, name: &str) -> Mutex {
        self.process().mutex(name).expect("a valid name")
    }

    /// Returns a read/write lock of another process.
    pub fn rwlock(&self, name: &str) -> RwLock {
        self.process().rwlock(name).expect("a valid name")
    }

    /// Starts another process that takes a free lock, and returns its locks and its guard.
    pub async fn holder(&self, name: &str) -> (Locks, Guard) {
        let locks = self.process();
        let guard = locks.mutex(name).expect("a valid name").acquire().await;
        (locks, guard.expect("the lock is free"))
    }

    /// Starts another process that waits at the end of a queue.
    pub async fn waiter(&self, name: &str, mode: Mode) -> Waiter {
        self.waiter_of(self.process(), name, mode).await
    }

    /// Starts a task of this process that waits at the end of a queue.
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

    /// Opens a session of another process.
    pub async fn session(&self) -> Arc<dyn Session> {
        let backend = self.deployment.backend();
        let session = retry::retry_briefly(|| backend.open_session(self.ttl)).await;
        session.expect("a session is opened")
    }

    /// Returns the queue of a lock.
    pub async fn queue(&self, name: &str) -> Queue {
        let name = LockName::new(name).expect("a valid name");
        let queue = self.process().queue(&name).await;
        queue.expect("the coordinator answers")
    }

    /// Waits until the queue has this many entries.
    pub async fn depth(&self, name: &str, depth: usize) {
        let what = format!("{depth} in the queue of {name}");
        self.eventually(&what, async || {
            self.queue(name).await.entries.len() == depth
        })
        .await;
    }

    /// Waits until a condition holds.
    ///
    /// # Panics
    /// If it does not hold in time.
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

    /// Awaits a future that must resolve.
    ///
    /// # Panics
    /// If it does not resolve in time.
    pub async fn soon<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        within(self.limit, what, future).await
    }

    /// Waits until a task ends, and returns its result.
    ///
    /// # Panics
    /// As the task panicked; and if it does not end in time.
    pub async fn join<T>(&self, what: &str, task: JoinHandle<T>) -> T {
        to_result(self.soon(what, task).await)
    }
}

/// Returns the result of a task.
///
/// # Panics
/// With the message of the task, if it panicked: that is the assertion that failed.
pub fn to_result<T>(ended: Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(cancelled) => panic!("a task of the case was cancelled: {cancelled}"),
    })
}

/// Locks a mutex of the suite. A task that failed while it had the mutex does not hide its message
/// behind failures of the others.
pub fn lock_ignoring_poison<T>(mutex: &StdMutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(limit, future).await;
    outcome.unwrap_or_else(|_| panic!("not within {limit:?}: {what}"))
}

/// A process that waits for a lock.
pub struct Waiter {
    /// The locks of the process.
    pub locks: Locks,
    task: JoinHandle<Result<AnyGuard, Error>>,
    limit: Duration,
}

impl Waiter {
    /// Returns whether the process still waits: it has neither been granted the lock nor failed.
    pub fn waits(&self) -> bool {
        !self.task.is_finished()
    }

    /// Cancels the wait.
    pub fn leave(&self) {
        self.task.abort();
    }

    /// Waits until the wait ends, and returns its outcome.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn outcome(self) -> Result<AnyGuard, Error> {
        to_result(within(self.limit, "the end of a wait", self.task).await)
    }

    /// Waits until the process is granted the lock, and returns the guard.
    ///
    /// # Panics
    /// If the turn does not come in time.
    pub async fn turn(self) -> AnyGuard {
        self.outcome().await.expect("its turn comes")
    }
}

/// Returns whether the lock is held and not lost.
pub fn is_ours<M: GuardMode>(guard: &Guard<M>) -> bool {
    !matches!(guard.state(), State::Lost(_))
}

/// Returns a ticket for a lock, for cases that use a session directly.
pub fn ticket(name: &str, mode: Mode, serial: u64) -> Ticket {
    Ticket {
        name: LockName::new(name).expect("a valid name"),
        mode,
        serial,
        metadata: Arc::new(Metadata::default()),
    }
}

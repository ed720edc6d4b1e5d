//! A lock with one holder at a time.

use std::time::Duration;

use crate::acquire_options::AcquireOptions;
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::guard::Guard;
use crate::held_lock::Release;
use crate::name::LockName;
use crate::named::Named;
#[cfg(doc)]
use crate::options::OnSessionLoss;
use crate::sticky::{Sticky, StickyLock, StickyStats};

/// A lock with one holder at a time, first come first served.
///
/// Each acquire is a contender of its own, also when tasks share a session; only the tasks that use a
/// [sticky](Mutex::sticky) lock stand in the queue for each other. So a task that acquires
/// a mutex that it already holds waits for itself, for ever: give the guard to the code that needs
/// it instead. After a second of such a wait a warning is logged with [`tracing`].
#[derive(Debug, Clone)]
pub struct Mutex(Named);

impl Mutex {
    pub(crate) fn new(named: Named) -> Self {
        Mutex(named)
    }

    /// Returns the same lock as a *sticky* one: after a release, this process keeps it while nobody
    /// else wants it, so that a task of the process takes it again without a request. All sticky
    /// handles of one name and one [`Locks`](crate::Locks) share what is kept.
    ///
    /// - The tasks of the process wait for each other first come first served. The first of them
    ///   stands in the lock's queue for all. Its place stays theirs if it gives up, as long as they
    ///   agree on [`OnSessionLoss`]. An error of this common acquire ends the waits of all.
    /// - Once somebody else queues, whatever client it uses, the lock is given up: if it is not in use,
    ///   two round trips later; else when the hold ends, or a few holds later if [`Sticky::turns`]
    ///   says so. A hold that has just begun may end before this process knows of them: then the lock
    ///   is kept for the three round trips that this takes. After that it is not kept for a while, so
    ///   a lock that two processes share costs what it costs without this.
    /// - It is also given up after [`Sticky::idle`], by [`give_up`](Mutex::give_up) and
    ///   [`Locks::close`](crate::Locks::close), if the coordinator does not say within 5 s who waits,
    ///   and after a hold that leaves a write in doubt. It is not taken again while the session is in
    ///   jeopardy.
    /// - All holds in between have the same [token](Guard::token), and [`Guard::turn`] counts them. A
    ///   resource that checks tokens tells processes apart, not the tasks of one process.
    ///
    /// The price: to others, a lock that is kept looks held. A [`try_acquire`](Mutex::try_acquire) of
    /// theirs finds it busy. If this process dies while it keeps the lock, they wait for the time to
    /// live although nobody was inside. If the store loses the event that somebody has queued, they wait
    /// for 5 to 10 s, or up to 4 minutes in a process that keeps very many locks. The page
    /// `docs/sticky-locks.md` of the repository has more.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if [`Sticky::turns`] is zero; [`ErrorKind::Forked`] in a forked
    /// child.
    ///
    /// ```
    /// # futures_executor::block_on(async {
    /// # let backend = backend_embedded::EmbeddedBackend::open("embedded:memory").await?;
    /// # let locks = lock_core::Locks::new(backend, lock_core::Options::default())?;
    /// use lock_core::{Release, Sticky};
    ///
    /// let ledger = locks.mutex("accounts/ledger")?.sticky(Sticky::default())?;
    /// let first = ledger.acquire().await?;
    /// let token = first.token();
    /// assert_eq!(first.release().await?, Release::Kept);
    /// let second = ledger.acquire().await?; // no request, if nobody else has queued
    /// assert_eq!((second.token(), second.turn()), (token, 1));
    /// # Ok::<(), lock_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn sticky(self, sticky: Sticky) -> Result<Self, Error> {
        Ok(Mutex(self.0.with_sticky(sticky)?))
    }

    /// Gives the lock up now if it is kept and no task of this process uses it. Returns what the
    /// coordinator found, or `None` if there was nothing to give up. At most one round trip.
    ///
    /// # Errors
    /// The kinds of [`Guard::release`]. The lock is then given up in the background.
    ///
    /// # Cancel safety
    /// Dropped at any await, the lock is given up in the background.
    pub async fn give_up(&self) -> Result<Option<Release>, Error> {
        match self.0.sticky() {
            Some(sticky) => sticky.give_up(self.name()).await,
            None => Ok(None),
        }
    }

    /// Returns what became of the acquires of this lock, over all its sticky handles. The numbers begin
    /// anew some time after the last handle is gone, and are zero for a lock that is not sticky.
    pub fn sticky_stats(&self) -> StickyStats {
        self.0.sticky().map(StickyLock::stats).unwrap_or_default()
    }

    /// Returns the name of the lock.
    pub fn name(&self) -> &LockName {
        self.0.name()
    }

    /// Waits until the lock is held, without a limit. Uncontended: one round trip.
    ///
    /// # Errors
    /// - [`ErrorKind::SessionLost`] or [`ErrorKind::Evicted`]: the place in the queue is gone.
    ///   Acquire again to queue anew, or see [`OnSessionLoss::Requeue`].
    /// - [`ErrorKind::Unreachable`]: no session is open, and the coordinator does not answer.
    /// - [`ErrorKind::Exhausted`]: the coordinator has been short of something for 5 s, or this
    ///   process is.
    /// - [`ErrorKind::Refused`], [`ErrorKind::Configuration`], [`ErrorKind::Unsupported`]: the
    ///   coordinator denies it.
    /// - [`ErrorKind::Forked`]: this is a forked child.
    ///
    /// # Cancel safety
    /// Dropped at any await, it leaves no entry behind, and gives up its place in the queue. That of a
    /// [sticky](Mutex::sticky) lock goes to the next task of the process that waits.
    ///
    /// ```
    /// # futures_executor::block_on(async {
    /// # let backend = backend_embedded::EmbeddedBackend::open("embedded:memory").await?;
    /// # let locks = lock_core::Locks::new(backend, lock_core::Options::default())?;
    /// use lock_core::Release;
    ///
    /// let ledger = locks.mutex("accounts/ledger")?;
    /// let guard = ledger.acquire().await?;
    /// assert!(ledger.try_acquire().await?.is_none());
    /// assert_eq!(guard.release().await?, Release::Released);
    /// # Ok::<(), lock_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn acquire(&self) -> Result<Guard, Error> {
        self.0.acquire_forever(AcquireOptions::new()).await
    }

    /// Takes the lock if nobody holds it or waits for it; returns `None` otherwise. One round trip,
    /// two when the lock is not free.
    ///
    /// # Errors
    /// The kinds of [`acquire`](Mutex::acquire). [`ErrorKind::Unreachable`] comes after 5 s without
    /// an answer, [`ErrorKind::Exhausted`] at once.
    ///
    /// # Cancel safety
    /// That of [`acquire`](Mutex::acquire).
    pub async fn try_acquire(&self) -> Result<Option<Guard>, Error> {
        self.acquire_with(AcquireOptions::new().no_wait()).await
    }

    /// Waits for the lock for at most this long; returns `None` if others held it all the time.
    ///
    /// # Errors
    /// The kinds of [`acquire`](Mutex::acquire). [`ErrorKind::Unreachable`] means that the
    /// coordinator did not take us into the queue in that time, or does not answer at its end.
    ///
    /// # Cancel safety
    /// That of [`acquire`](Mutex::acquire).
    pub async fn acquire_timeout(&self, limit: Duration) -> Result<Option<Guard>, Error> {
        self.acquire_with(AcquireOptions::new().timeout(limit))
            .await
    }

    /// Acquires the lock as these options say: the general form of the other methods. Returns
    /// `None` if others held it for as long as the options wait.
    ///
    /// # Errors
    /// The kinds of [`acquire`](Mutex::acquire), [`try_acquire`](Mutex::try_acquire) or
    /// [`acquire_timeout`](Mutex::acquire_timeout), whichever waits as these options do.
    ///
    /// # Cancel safety
    /// That of [`acquire`](Mutex::acquire).
    pub async fn acquire_with(&self, options: AcquireOptions) -> Result<Option<Guard>, Error> {
        self.0.acquire(options).await
    }
}

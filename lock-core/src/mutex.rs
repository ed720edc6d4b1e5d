//! A lock with one holder at a time.

use std::time::Duration;

use crate::acquire_options::AcquireOptions;
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::guard::Guard;
use crate::name::LockName;
use crate::named::Named;
#[cfg(doc)]
use crate::options::OnSessionLoss;

/// A lock with one holder at a time, first come first served.
///
/// Each acquire is a contender of its own, also when tasks share a session. So a task that acquires
/// a mutex that it already holds waits for itself, for ever: give the guard to the code that needs
/// it instead. After a second of such a wait a warning is logged with [`tracing`].
#[derive(Debug, Clone)]
pub struct Mutex(Named);

impl Mutex {
    pub(crate) fn new(named: Named) -> Self {
        Mutex(named)
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
    /// Dropped at any await, it leaves no entry behind, and gives up its place in the queue.
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

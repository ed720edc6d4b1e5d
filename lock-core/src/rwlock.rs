//! A lock with one writer or many readers.

use std::time::Duration;

use crate::acquire_options::AcquireOptions;
use crate::error::Error;
use crate::guard::{Guard, ReadGuard};
use crate::guard_mode::GuardMode;
#[cfg(doc)]
use crate::mutex::Mutex;
use crate::name::LockName;
use crate::named::Named;

/// A lock with one writer or many readers, first come first served. A writer that waits stops new
/// readers.
///
/// A reader that acquires the lock again may wait for ever: for itself, as a [`Mutex`]'s holder
/// does, if it wants to write; and if it wants to read, for a writer that waits for it.
///
/// ```
/// # futures_executor::block_on(async {
/// # let backend = backend_embedded::EmbeddedBackend::open("embedded:memory").await?;
/// # let locks = lock_core::Locks::new(backend, lock_core::Options::default())?;
/// let config = locks.rwlock("config")?;
/// let (one, two) = (config.read().await?, config.read().await?);
/// assert!(config.try_write().await?.is_none());
/// drop((one, two));
/// let writer = config.write().await?;
/// writer.put("config/version", "7").await?;
/// # Ok::<(), lock_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct RwLock(Named);

impl RwLock {
    pub(crate) fn new(named: Named) -> Self {
        RwLock(named)
    }

    /// Returns the name of the lock.
    pub fn name(&self) -> &LockName {
        self.0.name()
    }

    /// Waits until the lock is held together with other readers, without a limit.
    ///
    /// # Errors
    /// The kinds of [`Mutex::acquire`].
    ///
    /// # Cancel safety
    /// That of [`Mutex::acquire`].
    pub async fn read(&self) -> Result<ReadGuard, Error> {
        self.0.acquire_forever(AcquireOptions::new().shared()).await
    }

    /// Takes the lock for reading if no writer holds it or waits for it; returns `None` otherwise.
    ///
    /// # Errors
    /// The kinds of [`Mutex::try_acquire`].
    ///
    /// # Cancel safety
    /// That of [`Mutex::acquire`].
    pub async fn try_read(&self) -> Result<Option<ReadGuard>, Error> {
        self.acquire_with(AcquireOptions::new().shared().no_wait())
            .await
    }

    /// Waits for at most this long to hold the lock for reading; returns `None` if writers held it
    /// all the time.
    ///
    /// # Errors
    /// The kinds of [`Mutex::acquire_timeout`].
    ///
    /// # Cancel safety
    /// That of [`Mutex::acquire`].
    pub async fn read_timeout(&self, limit: Duration) -> Result<Option<ReadGuard>, Error> {
        self.acquire_with(AcquireOptions::new().shared().timeout(limit))
            .await
    }

    /// Waits until the lock is held exclusively, without a limit.
    ///
    /// # Errors
    /// The kinds of [`Mutex::acquire`].
    ///
    /// # Cancel safety
    /// That of [`Mutex::acquire`].
    pub async fn write(&self) -> Result<Guard, Error> {
        self.0.acquire_forever(AcquireOptions::new()).await
    }

    /// Takes the lock exclusively if nobody holds it or waits for it; returns `None` otherwise.
    ///
    /// # Errors
    /// The kinds of [`Mutex::try_acquire`].
    ///
    /// # Cancel safety
    /// That of [`Mutex::acquire`].
    pub async fn try_write(&self) -> Result<Option<Guard>, Error> {
        self.acquire_with(AcquireOptions::new().no_wait()).await
    }

    /// Waits for at most this long to hold the lock exclusively; returns `None` if others held it
    /// all the time.
    ///
    /// # Errors
    /// The kinds of [`Mutex::acquire_timeout`].
    ///
    /// # Cancel safety
    /// That of [`Mutex::acquire`].
    pub async fn write_timeout(&self, limit: Duration) -> Result<Option<Guard>, Error> {
        self.acquire_with(AcquireOptions::new().timeout(limit))
            .await
    }

    /// Acquires the lock as these options say: the general form of the other methods. Returns
    /// `None` if others held it for as long as the options wait.
    ///
    /// # Errors
    /// The kinds of [`Mutex::acquire_with`].
    ///
    /// # Cancel safety
    /// That of [`Mutex::acquire`].
    ///
    /// ```
    /// # futures_executor::block_on(async {
    /// # let backend = backend_embedded::EmbeddedBackend::open("embedded:memory").await?;
    /// # let locks = lock_core::Locks::new(backend, lock_core::Options::default())?;
    /// use lock_core::{AcquireOptions, AnyGuard, Mode};
    ///
    /// let mode = if std::env::args().len() > 1 { Mode::Exclusive } else { Mode::Shared };
    /// let options = AcquireOptions::new().mode(mode).no_wait();
    /// let guard: Option<AnyGuard> = locks.rwlock("config")?.acquire_with(options).await?;
    /// assert_eq!(guard.map(|guard| guard.mode()), Some(mode));
    /// # Ok::<(), lock_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn acquire_with<M: GuardMode>(
        &self,
        options: AcquireOptions<M>,
    ) -> Result<Option<Guard<M>>, Error> {
        self.0.acquire(options).await
    }
}

//! The same locks for programs without an executor: each call waits on the calling thread.
//!
//! Sessions are renewed on Turnlock's own thread, as for async programs, so a thread that is busy
//! or asleep keeps its locks. The semantics, the limits and the errors are those of the async
//! types, and both kinds of programs stand in the same queues.
//!
//! Do not call this module from async code: it would block the executor's thread. Use the types at
//! the root of this crate there.
//!
//! ```
//! let locks = turnlock::blocking::connect("embedded:memory")?;
//! let guard = locks.mutex("accounts/ledger")?.acquire()?;
//! guard.put("accounts/total", "7")?;
//! assert_eq!(guard.release()?, turnlock::Release::Released);
//! assert_eq!(locks.get("accounts/total")?.as_deref(), Some(&b"7"[..]));
//! # Ok::<(), turnlock::Error>(())
//! ```

use std::time::Duration;

use pollster::block_on;

use crate::guard_mode::{Exclusive, GuardMode, Shared};
use crate::{
    AcquireOptions, EntryId, Error, LockName, LossReason, Mode, Options, Queue, Raised, Release,
    Removed, State, Sticky, StickyStats, Token,
};

/// Returns the locks of the coordinator that the URL names, as [`crate::connect`] does. Does no
/// I/O.
///
/// # Errors
/// As [`crate::connect`].
pub fn connect(url: &str) -> Result<Locks, Error> {
    crate::connect(url).map(Locks)
}

/// Returns the locks of the coordinator that the URL names, with these options.
///
/// # Errors
/// As [`crate::connect_with`].
pub fn connect_with(url: &str, options: Options) -> Result<Locks, Error> {
    crate::connect_with(url, options).map(Locks)
}

/// A process's connection to a coordinator: [`crate::Locks`] with methods that block.
#[derive(Debug, Clone)]
pub struct Locks(crate::Locks);

impl Locks {
    /// Returns the mutex of this name, as [`crate::Locks::mutex`] does.
    ///
    /// # Errors
    /// As there.
    pub fn mutex<N>(&self, name: N) -> Result<Mutex, Error>
    where
        N: TryInto<LockName>,
        Error: From<N::Error>,
    {
        self.0.mutex(name).map(Mutex)
    }

    /// Returns the read/write lock of this name, as [`crate::Locks::rwlock`] does.
    ///
    /// # Errors
    /// As there.
    pub fn rwlock<N>(&self, name: N) -> Result<RwLock, Error>
    where
        N: TryInto<LockName>,
        Error: From<N::Error>,
    {
        self.0.rwlock(name).map(RwLock)
    }

    /// Returns the holders and the waiters of a lock, as [`crate::Locks::queue`] does.
    ///
    /// # Errors
    /// As there.
    pub fn queue(&self, name: &LockName) -> Result<Queue, Error> {
        block_on(self.0.queue(name))
    }

    /// Returns the queues of the locks whose names begin with `prefix`, as [`crate::Locks::list`]
    /// does.
    ///
    /// # Errors
    /// As there.
    pub fn list(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Queue>, Error> {
        block_on(self.0.list(prefix, after, limit))
    }

    /// Removes an entry of a lock, as [`crate::Locks::evict`] does.
    ///
    /// # Errors
    /// As there.
    pub fn evict(&self, name: &LockName, entry: &EntryId) -> Result<Removed, Error> {
        block_on(self.0.evict(name, entry))
    }

    /// Returns the value that holders keep at this key, as [`crate::Locks::get`] does.
    ///
    /// # Errors
    /// As there.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        block_on(self.0.get(key))
    }

    /// Raises the tokens above this offset, as [`crate::Locks::raise_token_offset`] does.
    ///
    /// # Errors
    /// As there.
    pub fn raise_token_offset(&self, offset: u64) -> Result<Raised, Error> {
        block_on(self.0.raise_token_offset(offset))
    }

    /// Ends the session, as [`crate::Locks::close`] does.
    ///
    /// # Errors
    /// As there.
    pub fn close(&self) -> Result<(), Error> {
        block_on(self.0.close())
    }

    /// Returns the async form of the same locks, which shares their session.
    pub fn as_async(&self) -> &crate::Locks {
        &self.0
    }
}

/// Blocks on the session that async code uses.
impl From<crate::Locks> for Locks {
    fn from(locks: crate::Locks) -> Self {
        Locks(locks)
    }
}

/// A lock with one holder at a time, first come first served: [`crate::Mutex`] with methods that
/// block.
#[derive(Debug, Clone)]
pub struct Mutex(crate::Mutex);

impl Mutex {
    /// Returns the lock's name.
    pub fn name(&self) -> &LockName {
        self.0.name()
    }

    /// Makes the lock sticky, as [`crate::Mutex::sticky`] does.
    ///
    /// # Errors
    /// As there.
    pub fn sticky(self, sticky: Sticky) -> Result<Self, Error> {
        self.0.sticky(sticky).map(Mutex)
    }

    /// Gives a sticky lock up, as [`crate::Mutex::give_up`] does.
    ///
    /// # Errors
    /// As there.
    pub fn give_up(&self) -> Result<Option<Release>, Error> {
        block_on(self.0.give_up())
    }

    /// Returns what became of the acquires of a sticky lock, as [`crate::Mutex::sticky_stats`] does.
    pub fn sticky_stats(&self) -> StickyStats {
        self.0.sticky_stats()
    }

    /// Waits for the lock, as [`crate::Mutex::acquire`] does.
    ///
    /// # Errors
    /// As there.
    pub fn acquire(&self) -> Result<Guard, Error> {
        block_on(self.0.acquire()).map(Guard)
    }

    /// Takes the lock if it is free, as [`crate::Mutex::try_acquire`] does.
    ///
    /// # Errors
    /// As there.
    pub fn try_acquire(&self) -> Result<Option<Guard>, Error> {
        Ok(block_on(self.0.try_acquire())?.map(Guard))
    }

    /// Waits for the lock at most this long, as [`crate::Mutex::acquire_timeout`] does.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let locks = turnlock::blocking::connect("embedded:memory")?;
    /// let mutex = locks.mutex("nightly")?;
    /// let held = mutex.acquire()?;
    /// assert!(mutex.acquire_timeout(Duration::from_millis(10))?.is_none());
    /// # drop(held);
    /// # Ok::<(), turnlock::Error>(())
    /// ```
    ///
    /// # Errors
    /// As there.
    pub fn acquire_timeout(&self, limit: Duration) -> Result<Option<Guard>, Error> {
        Ok(block_on(self.0.acquire_timeout(limit))?.map(Guard))
    }

    /// Acquires as the options say: see [`crate::Mutex::acquire_with`].
    ///
    /// # Errors
    /// As there.
    pub fn acquire_with(&self, options: AcquireOptions) -> Result<Option<Guard>, Error> {
        Ok(block_on(self.0.acquire_with(options))?.map(Guard))
    }
}

/// A lock with one writer or many readers: [`crate::RwLock`] with methods that block.
#[derive(Debug, Clone)]
pub struct RwLock(crate::RwLock);

impl RwLock {
    /// Returns the lock's name.
    pub fn name(&self) -> &LockName {
        self.0.name()
    }

    /// Waits to hold the lock together with other readers, as [`crate::RwLock::read`] does.
    ///
    /// # Errors
    /// As there.
    pub fn read(&self) -> Result<ReadGuard, Error> {
        block_on(self.0.read()).map(Guard)
    }

    /// Waits to hold the lock alone, as [`crate::RwLock::write`] does.
    ///
    /// # Errors
    /// As there.
    pub fn write(&self) -> Result<Guard, Error> {
        block_on(self.0.write()).map(Guard)
    }

    /// Acquires as the options say, for any mode and any limit: see
    /// [`crate::RwLock::acquire_with`].
    ///
    /// ```
    /// use turnlock::AcquireOptions;
    ///
    /// let locks = turnlock::blocking::connect("embedded:memory")?;
    /// let lock = locks.rwlock("ledger")?;
    /// let reader = lock.acquire_with(AcquireOptions::new().shared().no_wait())?;
    /// assert!(reader.is_some());
    /// # Ok::<(), turnlock::Error>(())
    /// ```
    ///
    /// # Errors
    /// As there.
    pub fn acquire_with<M: GuardMode>(
        &self,
        options: AcquireOptions<M>,
    ) -> Result<Option<Guard<M>>, Error> {
        Ok(block_on(self.0.acquire_with(options))?.map(Guard))
    }
}

/// A held lock: [`crate::Guard`] with methods that block. Dropping it releases the lock in the
/// background.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct Guard<M: GuardMode = Exclusive>(crate::Guard<M>);

/// A lock held together with other readers.
pub type ReadGuard = Guard<Shared>;

impl<M: GuardMode> Guard<M> {
    /// Returns the name of the lock.
    pub fn name(&self) -> &LockName {
        self.0.name()
    }

    /// Returns the fencing token, which is higher than that of every earlier grant of this lock.
    pub fn token(&self) -> Token {
        self.0.token()
    }

    /// Returns which hold with this token it is, as [`crate::Guard::turn`] does.
    pub fn turn(&self) -> u64 {
        self.0.turn()
    }

    /// Returns how the lock is held.
    pub fn mode(&self) -> Mode {
        self.0.mode()
    }

    /// Returns the state of the hold now. Costs no round trip: ask before each step of the work.
    pub fn state(&self) -> State {
        self.0.state()
    }

    /// Returns the time for which the lock is certainly held if nothing is renewed from now on;
    /// zero once it is lost.
    pub fn remaining(&self) -> Duration {
        self.0.remaining()
    }

    /// Waits until the lock is lost, and returns the reason: for a thread that watches over the
    /// work of others.
    pub fn lost(&self) -> LossReason {
        block_on(self.0.lost())
    }

    /// Returns the value at this key, as [`crate::Guard::get`] does.
    ///
    /// # Errors
    /// As there.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        block_on(self.0.get(key))
    }

    /// Gives the lock back, and returns what the coordinator found: see [`crate::Guard::release`].
    ///
    /// # Errors
    /// As there.
    pub fn release(self) -> Result<Release, Error> {
        block_on(self.0.release())
    }

    /// Returns the async form of this guard, such as
    /// [`fence::FencingToken::of`](crate::fence::FencingToken::of) takes.
    pub fn as_async(&self) -> &crate::Guard<M> {
        &self.0
    }
}

impl Guard {
    /// Stores a value in the coordinator in one step with the proof that the lock is held, as
    /// [`crate::Guard::put`] does.
    ///
    /// # Errors
    /// As there.
    pub fn put(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        block_on(self.0.put(key, value))
    }

    /// Removes the value at this key under the same proof, as [`crate::Guard::delete`] does.
    ///
    /// # Errors
    /// As there.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        block_on(self.0.delete(key))
    }
}

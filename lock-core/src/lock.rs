//! The connection to a coordinator, which locks are made from.

#[cfg(doc)]
use crate::{error::ErrorKind, guard::Guard};
use std::future::Future;
use std::sync::Arc;

use crate::background;
use crate::client::Client;
use crate::data::DataKey;
use crate::entry::{EntryId, SessionId};
use crate::error::Error;
use crate::mutex::Mutex;
use crate::name::LockName;
use crate::named::Named;
use crate::operation::Operation;
use crate::options::Options;
use crate::queue::Queue;
use crate::retry;
use crate::rwlock::RwLock;
use crate::session::{Backend, Removed};
use crate::token_offset::{Raised, TokenOffset};

/// A process's connection to a coordinator, which makes its locks. A clone is cheap, and shares the
/// session.
///
/// The session is opened by the first acquire, and opened anew by the first acquire after it was
/// lost. It is closed when the last clone, lock and guard is gone, or by [`close`](Locks::close).
///
/// ```
/// # futures_executor::block_on(async {
/// # let backend = backend_embedded::EmbeddedBackend::open("embedded:memory").await?;
/// use lock_core::{Locks, Options};
///
/// // A backend, such as `turnlock::backend` returns it.
/// let locks = Locks::new(backend, Options::default().with_note("nightly build"))?;
/// let guard = locks.mutex("builds/nightly")?.acquire().await?;
/// let queue = locks.queue(guard.name()).await?;
/// assert_eq!(queue.entries[0].token, guard.token());
/// drop(guard);
/// locks.close().await?; // at the end of a program: nothing stays in a queue
/// # Ok::<(), lock_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Locks {
    client: Arc<Client>,
}

impl Locks {
    /// Returns locks on this backend. Does no I/O.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if an option is out of bounds.
    pub fn new(backend: Arc<dyn Backend>, options: Options) -> Result<Self, Error> {
        Ok(Locks {
            client: Arc::new(Client::new(backend, options)?),
        })
    }

    /// Returns the mutex of this name: one holder at a time, first come first served. Does no I/O.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`] if the name breaks a rule; the text names the rule and the place.
    pub fn mutex<N>(&self, name: N) -> Result<Mutex, Error>
    where
        N: TryInto<LockName>,
        Error: From<N::Error>,
    {
        Ok(Mutex::new(self.named_lock(name)?))
    }

    /// Returns the read/write lock of this name: one writer or many readers, first come first
    /// served. A writer that waits stops new readers. A mutex of the same name is the same lock,
    /// held by a writer. Does no I/O.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`] if the name breaks a rule; the text names the rule and the place.
    pub fn rwlock<N>(&self, name: N) -> Result<RwLock, Error>
    where
        N: TryInto<LockName>,
        Error: From<N::Error>,
    {
        Ok(RwLock::new(self.named_lock(name)?))
    }

    fn named_lock<N>(&self, name: N) -> Result<Named, Error>
    where
        N: TryInto<LockName>,
        Error: From<N::Error>,
    {
        Ok(Named::new(self.client.clone(), name.try_into()?))
    }

    /// Returns the holders and waiters of a lock, in the order of arrival. One round trip for a
    /// short queue; opens no session.
    ///
    /// # Errors
    /// - [`ErrorKind::Unreachable`], [`ErrorKind::Exhausted`]: the coordinator has not answered for
    ///   some seconds, or has not answered the latest requests (see
    ///   [`circuit_breaker`](Options::circuit_breaker)), or is short of something.
    /// - [`ErrorKind::Refused`], [`ErrorKind::Configuration`]: the coordinator denies it.
    /// - [`ErrorKind::Forked`]: this is a forked child.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn queue(&self, name: &LockName) -> Result<Queue, Error> {
        let read = async {
            background::check_process()?;
            let sessions = self.client.sessions();
            let (backend, gate) = (sessions.backend(), sessions.gate());
            retry::read_through(gate, || backend.queue(name)).await
        };
        explain(Operation::ReadQueue, Some(name), read).await
    }

    /// Returns the queues of the native locks whose names begin with `prefix` (all, if it is
    /// empty), in the order of the store's keys: at most `limit` of them, those after the lock
    /// `after`. Opens no session.
    ///
    /// # Errors
    /// The kinds of [`queue`](Locks::queue).
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Queue>, Error> {
        let list = async {
            background::check_process()?;
            let sessions = self.client.sessions();
            let (backend, gate) = (sessions.backend(), sessions.gate());
            retry::read_through(gate, || backend.locks(prefix, after, limit)).await
        };
        explain(Operation::ListLocks, None, list).await
    }

    /// Removes an entry of this lock, of this process or another, as [`queue`](Locks::queue) has
    /// shown it. It removes that incarnation alone, so a contender that came meanwhile keeps its
    /// place. The entry's holder or waiter is notified that it was evicted. One round trip; opens
    /// no session of ours.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidArgument`]: the entry is not one of this lock.
    /// - Else the kinds of [`queue`](Locks::queue). It may be called again.
    ///
    /// # Cancel safety
    /// Dropped at any await, it may have removed the entry, and may be called again.
    pub async fn evict(&self, name: &LockName, entry: &EntryId) -> Result<Removed, Error> {
        let evict = retry::evict(self.client.sessions().backend(), name, entry);
        explain(Operation::Evict, Some(name), evict).await
    }

    /// Returns the value that holders keep in the coordinator at this key: see [`Guard::put`]. It
    /// is not older than the call. One round trip, on ZooKeeper with a session of its own; opens no
    /// session of ours.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidArgument`]: the key breaks a rule of lock names.
    /// - Else the kinds of [`queue`](Locks::queue).
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let get = async {
            background::check_process()?;
            let sessions = self.client.sessions();
            let (backend, gate) = (sessions.backend(), sessions.gate());
            let key = DataKey::new(key)?;
            retry::read_through(gate, || backend.get(&key)).await
        };
        explain(Operation::Get, None, get).await
    }

    /// Makes every token that a native lock of this namespace gives out from now on higher than
    /// `offset`: the highest one of the coordinator that its users come from. It never lowers
    /// anything. A few round trips; opens no session of ours.
    ///
    /// Nothing is changed while the namespace is in use: while a native lock has an entry in its
    /// queue, and on ZooKeeper while a session is open, idle or not. Raw locks have no offset,
    /// because other clients in their queues would not know of it.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidArgument`]: the offset is above
    ///   [`MAX_TOKEN_OFFSET`](crate::token_offset::MAX_TOKEN_OFFSET).
    /// - Else the kinds of [`queue`](Locks::queue). It may be called again.
    ///
    /// # Cancel safety
    /// Dropped at any await, it may have raised the offset, and may be called again.
    pub async fn raise_token_offset(&self, offset: u64) -> Result<Raised, Error> {
        let raise = async {
            background::check_process()?;
            let backend = self.client.sessions().backend();
            let offset = TokenOffset::new(offset)?;
            retry::retry_briefly(|| backend.raise_token_offset(offset)).await
        };
        explain(Operation::RaiseTokenOffset, None, raise).await
    }

    /// Returns the identity of the session that is open now, if one is.
    pub fn session_id(&self) -> Option<SessionId> {
        if background::is_forked() {
            return None;
        }
        self.client.sessions().current().map(|t| t.session().id())
    }

    /// Closes the session, and with it ends every hold and every wait of all clones. The next
    /// acquire opens a new one. One round trip.
    ///
    /// # Errors
    /// - [`ErrorKind::Unreachable`] or another kind of the coordinator's: it does not answer, or
    ///   denies it. The close goes on in the background, and the session ends with its time to live
    ///   at the latest.
    /// - [`ErrorKind::Forked`]: this is a forked child, and the session is the parent's.
    ///
    /// # Cancel safety
    /// Dropped at any await, the close goes on in the background once it has begun.
    pub async fn close(&self) -> Result<(), Error> {
        let close = async {
            background::check_process()?;
            self.client.sessions().close().await
        };
        explain(Operation::CloseSession, None, close).await
    }
}

/// Awaits this work, and adds the operation and the lock to its error.
async fn explain<T>(
    operation: Operation,
    lock: Option<&LockName>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    work.await.map_err(|error| error.during(operation, lock))
}

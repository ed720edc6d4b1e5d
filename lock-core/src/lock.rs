//! The connection to a coordinator, which locks are made from.

#[cfg(doc)]
use crate::guard::Guard;
use std::sync::Arc;

use crate::background;
use crate::clock;
use crate::data::DataKey;
use crate::entry::{EntryId, Metadata, SessionId};
use crate::error::{Error, ErrorKind};
use crate::janitor::SharedSession;
use crate::mutex::Mutex;
use crate::name::LockName;
use crate::named::Named;
use crate::options::{MAX_TTL, MIN_TTL, OnRequeue, OnSessionLoss, Options};
use crate::queue::Queue;
use crate::retry;
use crate::rwlock::RwLock;
use crate::session::{Backend, Removed};
use crate::session_slot::SessionSlot;
use crate::token_offset::{Raised, TokenOffset};

/// A process's connection to a coordinator; locks are made from it. Cheap to clone: clones share
/// one session.
///
/// The session is opened by the first acquire, and opened anew by the first acquire after it was
/// lost. It is closed when the last clone, lock and guard is gone, or by [`close`](Locks::close).
#[derive(Debug, Clone)]
pub struct Locks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sessions: Arc<SessionSlot>,
    on_session_loss: OnSessionLoss,
    on_requeue: Option<OnRequeue>,
    metadata: Metadata,
}

impl Locks {
    /// Locks on this backend. Does no I/O.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if an option is out of bounds.
    pub fn new(backend: Arc<dyn Backend>, options: Options) -> Result<Self, Error> {
        let Options {
            ttl,
            owner,
            note,
            command,
            announces,
            on_session_loss,
            on_requeue,
        } = options;
        if !(MIN_TTL..=MAX_TTL).contains(&ttl) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "a time to live of {ttl:?} is out of bounds: give {MIN_TTL:?} to {MAX_TTL:?}"
                ),
            ));
        }
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let metadata = Metadata {
            owner,
            host,
            pid: std::process::id(),
            since_unix_ms: 0,
            note,
            command,
            held_unix_ms: announces.then_some(0),
        };
        metadata.check()?;
        let shared = Shared {
            sessions: SessionSlot::new(backend, ttl),
            on_session_loss,
            on_requeue,
            metadata,
        };
        Ok(Locks {
            shared: Arc::new(shared),
        })
    }

    /// The mutex of this name: one holder at a time, first come first served.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`] says which rule the name breaks, and where.
    pub fn mutex<N>(&self, name: N) -> Result<Mutex, Error>
    where
        N: TryInto<LockName>,
        Error: From<N::Error>,
    {
        Ok(Mutex::new(self.named(name)?))
    }

    /// The read/write lock of this name: one writer or many readers, first come first served; a
    /// waiting writer stops new readers. A mutex of the same name is the same lock, held by a
    /// writer.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`] says which rule the name breaks, and where.
    pub fn rwlock<N>(&self, name: N) -> Result<RwLock, Error>
    where
        N: TryInto<LockName>,
        Error: From<N::Error>,
    {
        Ok(RwLock::new(self.named(name)?))
    }

    fn named<N>(&self, name: N) -> Result<Named, Error>
    where
        N: TryInto<LockName>,
        Error: From<N::Error>,
    {
        Ok(Named::new(self.clone(), name.try_into()?))
    }

    /// Who holds and who waits for a lock, in order. One round trip; opens no session.
    ///
    /// # Errors
    /// As the backend's: unreachable, refused.
    pub async fn queue(&self, name: &LockName) -> Result<Queue, Error> {
        background::check_process()?;
        let backend = self.shared.sessions.backend();
        retry::briefly(|| backend.queue(name)).await
    }

    /// The queues of the native locks whose names begin with `prefix` (all, if it is empty), in the
    /// order of the store's keys: at most `limit` of them, those after the lock `after`. Opens no
    /// session.
    ///
    /// # Errors
    /// As the backend's: unreachable, refused.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Queue>, Error> {
        background::check_process()?;
        let backend = self.shared.sessions.backend();
        retry::briefly(|| backend.locks(prefix, after, limit)).await
    }

    /// Removes an entry of this lock, whoever's it is, as [`queue`](Locks::queue) has shown it: this
    /// incarnation, so that one who came meanwhile keeps its place. Its holder or waiter is told
    /// that it was evicted. One round trip; opens no session of ours.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if the entry is not one of this lock; as the backend's:
    /// unreachable, refused. It may be called again.
    pub async fn evict(&self, name: &LockName, entry: &EntryId) -> Result<Removed, Error> {
        retry::evict(self.shared.sessions.backend(), name, entry).await
    }

    /// The value that holders keep in the coordinator at this key: see [`Guard::put`]. Not older than
    /// the call. One round trip, on ZooKeeper with a session of its own; opens no session of ours.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if the key breaks a rule; as the backend's: unreachable,
    /// refused.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        background::check_process()?;
        let backend = self.shared.sessions.backend();
        let key = DataKey::new(key)?;
        retry::briefly(|| backend.get(&key)).await
    }

    /// Has every token that a native lock of this namespace gives out from now on be higher than
    /// `offset`, which is that of another coordinator that its users come from. Never lowers
    /// anything. A few round trips; opens no session of ours.
    ///
    /// Not done while the namespace is in use: while somebody stands in the queue of a native lock,
    /// and on ZooKeeper while a session is open, idle or not. Raw locks have no offset, since other
    /// clients in their queues would know nothing of it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] above [`MAX_TOKEN_OFFSET`](crate::token_offset::MAX_TOKEN_OFFSET); as the backend's:
    /// unreachable, refused. It may be called again.
    pub async fn raise_token_offset(&self, offset: u64) -> Result<Raised, Error> {
        background::check_process()?;
        let backend = self.shared.sessions.backend();
        let offset = TokenOffset::new(offset)?;
        retry::briefly(|| backend.raise_token_offset(offset)).await
    }

    /// The session that is open now, if any.
    pub fn session_id(&self) -> Option<SessionId> {
        if background::is_forked() {
            return None;
        }
        self.shared.sessions.current().map(|t| t.session().id())
    }

    /// Ends the session, and with it every hold and every wait of all clones, and says so to the
    /// coordinator now instead of in the background. The next acquire opens a new one.
    ///
    /// # Errors
    /// If the coordinator cannot be told yet: it is told in the background, and the session ends
    /// with its time to live at the latest.
    pub async fn close(&self) -> Result<(), Error> {
        background::check_process()?;
        self.shared.sessions.close().await
    }

    /// The session; opens one if there is none.
    pub(crate) async fn shared_session(&self) -> Result<Arc<SharedSession>, Error> {
        self.shared.sessions.shared_session().await
    }

    /// Returns what becomes of waits whose acquire does not say.
    pub(crate) fn on_session_loss(&self) -> OnSessionLoss {
        self.shared.on_session_loss
    }

    /// Reports that a wait queues anew.
    pub(crate) fn notify_requeue(&self, name: &LockName, error: &Error) {
        if let Some(on_requeue) = &self.shared.on_requeue {
            on_requeue.notify(name, error);
        }
    }

    /// Returns what an entry that is made now says about its contender.
    pub(crate) fn metadata(&self) -> Metadata {
        Metadata {
            since_unix_ms: clock::unix_millis(),
            ..self.shared.metadata.clone()
        }
    }
}

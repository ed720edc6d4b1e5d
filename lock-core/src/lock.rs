//! What users hold: the connection to a coordinator, and the locks on it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::background;
use crate::clock;
use crate::data::DataKey;
use crate::entry::{EntryId, Metadata, Mode, SessionId};
use crate::error::{Error, ErrorKind};
use crate::guard::Guard;
use crate::janitor::SharedSession;
use crate::name::LockName;
use crate::named::Named;
use crate::queue::Queue;
use crate::retry;
use crate::session::{Backend, Removed};
use crate::session_slot::SessionSlot;
use crate::token_offset::{Raised, TokenOffset};
use crate::wait_limit::WaitLimit;

/// Shortest time to live that can be asked for. The coordinator may grant a longer one.
pub const MIN_TTL: Duration = Duration::from_secs(1);
/// Longest time to live that can be asked for.
pub const MAX_TTL: Duration = Duration::from_secs(3600);
/// The time to live when none is asked for: room for a change of leader and some lost renewals.
pub const DEFAULT_TTL: Duration = Duration::from_secs(10);

/// What a process says about itself and asks of the coordinator.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long the locks outlive a process that died; also how long a holder can be cut off before
    /// it loses them. Between [`MIN_TTL`] and [`MAX_TTL`].
    pub ttl: Duration,
    /// Shown to others in the queue: the user or service.
    pub owner: String,
    /// Shown to others in the queue: what the locks are for.
    pub note: Option<String>,
    /// Shown to others in the queue: the program that does the work.
    pub command: Option<String>,
    /// Whoever waits for long calls [`Guard::announce`](crate::Guard::announce) once it holds the
    /// lock, so that others know since when. Of one that does not, nobody may conclude from its
    /// silence that it had not to wait.
    pub announces: bool,
    /// What becomes of waits when the session is lost.
    pub on_session_loss: OnSessionLoss,
    /// Told when a wait has lost its place and queues anew.
    pub on_requeue: Option<OnRequeue>,
}

/// A function that is told of each wait that has lost its place in the queue and begins anew at its
/// end, and by what error. It must not block.
#[derive(Clone)]
pub struct OnRequeue(Arc<Told>);

type Told = dyn Fn(&LockName, &Error) + Send + Sync;

impl OnRequeue {
    /// Tells this function.
    pub fn new(told: impl Fn(&LockName, &Error) + Send + Sync + 'static) -> Self {
        OnRequeue(Arc::new(told))
    }

    pub(crate) fn tell(&self, name: &LockName, error: &Error) {
        (self.0)(name, error);
    }
}

impl fmt::Debug for OnRequeue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnRequeue").finish_non_exhaustive()
    }
}

/// What becomes of a wait when its session is lost, and with it its place in the queue. A hold is
/// lost either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnSessionLoss {
    /// It fails with [`ErrorKind::SessionLost`], so that the caller knows that others may have gone
    /// first.
    #[default]
    Fail,
    /// It opens a new session and queues anew, at the end, for what is left of its time; without a
    /// limit, through an outage of any length. It tries again, with growing pauses, while the
    /// coordinator is out of reach or short of something, and fails when that refuses us, and by
    /// [`Locks::close`].
    Requeue,
}

impl Default for Options {
    /// [`DEFAULT_TTL`], the user's login name as far as the environment tells it (else the user's
    /// number), no note, no command.
    fn default() -> Self {
        let owner = ["USER", "LOGNAME"]
            .iter()
            .find_map(|v| std::env::var(v).ok());
        let number = || format!("uid:{}", rustix::process::getuid().as_raw());
        Options {
            ttl: DEFAULT_TTL,
            owner: owner.unwrap_or_else(number),
            note: None,
            command: None,
            announces: false,
            on_session_loss: OnSessionLoss::default(),
            on_requeue: None,
        }
    }
}

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
        Ok(Mutex(self.named(name)?))
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
        Ok(RwLock(self.named(name)?))
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

    pub(crate) fn requeues(&self) -> bool {
        self.shared.on_session_loss == OnSessionLoss::Requeue
    }

    /// Says that a wait queues anew.
    pub(crate) fn tell_requeue(&self, name: &LockName, error: &Error) {
        if let Some(told) = &self.shared.on_requeue {
            told.tell(name, error);
        }
    }

    /// What an entry that is made now says about us.
    pub(crate) fn metadata(&self) -> Metadata {
        Metadata {
            since_unix_ms: clock::unix_millis(),
            ..self.shared.metadata.clone()
        }
    }
}

/// A lock with one holder at a time, first come first served. Each acquire is a contender of its
/// own, also when tasks share a session: a task that acquires a mutex it already holds waits for
/// itself.
#[derive(Debug, Clone)]
pub struct Mutex(Named);

impl Mutex {
    /// Its name.
    pub fn name(&self) -> &LockName {
        self.0.name()
    }

    /// Waits for our turn, without limit. Uncontended: one round trip.
    ///
    /// # Errors
    /// [`ErrorKind::SessionLost`] or [`ErrorKind::Evicted`] when our place in the queue is gone
    /// (acquire again to queue anew, or see [`OnSessionLoss::Requeue`]); what the backend says when
    /// it refuses; an unreachable coordinator when there is no session yet.
    ///
    /// *Cancel safety:* dropped at any await, it leaves no entry behind.
    pub async fn acquire(&self) -> Result<Guard, Error> {
        self.0.acquire_forever(Mode::Exclusive).await
    }

    /// Takes the lock if nobody holds it or waits for it. `None` if somebody does. One round trip,
    /// two when it is not free.
    ///
    /// # Errors
    /// As [`acquire`](Mutex::acquire); [`ErrorKind::Unreachable`] if nobody has answered for 5 s.
    /// *Cancel safety:* the same.
    pub async fn try_acquire(&self) -> Result<Option<Guard>, Error> {
        self.0.acquire(Mode::Exclusive, WaitLimit::for_try()).await
    }

    /// Waits for our turn at most this long. `None` if others held it all the time.
    ///
    /// # Errors
    /// As [`acquire`](Mutex::acquire); [`ErrorKind::Unreachable`] if the coordinator did not take us
    /// into the queue in that time, or does not answer at its end. *Cancel safety:* the same.
    pub async fn acquire_timeout(&self, limit: Duration) -> Result<Option<Guard>, Error> {
        self.0
            .acquire(Mode::Exclusive, WaitLimit::from_duration(limit))
            .await
    }
}

/// A lock with one writer or many readers, first come first served.
#[derive(Debug, Clone)]
pub struct RwLock(Named);

impl RwLock {
    /// Its name.
    pub fn name(&self) -> &LockName {
        self.0.name()
    }

    /// Waits for our turn to hold it together with other readers. See [`Mutex::acquire`] for errors
    /// and cancel safety.
    ///
    /// # Errors
    /// As [`Mutex::acquire`].
    pub async fn read(&self) -> Result<Guard, Error> {
        self.0.acquire_forever(Mode::Shared).await
    }

    /// Holds it for reading if no writer holds it or waits for it. See [`Mutex::try_acquire`].
    ///
    /// # Errors
    /// As [`Mutex::acquire`].
    pub async fn try_read(&self) -> Result<Option<Guard>, Error> {
        self.0.acquire(Mode::Shared, WaitLimit::for_try()).await
    }

    /// Waits at most this long to hold it for reading. See [`Mutex::acquire_timeout`].
    ///
    /// # Errors
    /// As [`Mutex::acquire_timeout`].
    pub async fn read_timeout(&self, limit: Duration) -> Result<Option<Guard>, Error> {
        self.0
            .acquire(Mode::Shared, WaitLimit::from_duration(limit))
            .await
    }

    /// Waits for our turn to hold it alone. See [`Mutex::acquire`].
    ///
    /// # Errors
    /// As [`Mutex::acquire`].
    pub async fn write(&self) -> Result<Guard, Error> {
        self.0.acquire_forever(Mode::Exclusive).await
    }

    /// Holds it alone if nobody holds it or waits for it. See [`Mutex::try_acquire`].
    ///
    /// # Errors
    /// As [`Mutex::acquire`].
    pub async fn try_write(&self) -> Result<Option<Guard>, Error> {
        self.0.acquire(Mode::Exclusive, WaitLimit::for_try()).await
    }

    /// Waits at most this long to hold it alone. See [`Mutex::acquire_timeout`].
    ///
    /// # Errors
    /// As [`Mutex::acquire_timeout`].
    pub async fn write_timeout(&self, limit: Duration) -> Result<Option<Guard>, Error> {
        self.0
            .acquire(Mode::Exclusive, WaitLimit::from_duration(limit))
            .await
    }
}

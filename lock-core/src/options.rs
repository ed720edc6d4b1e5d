//! What a process says about itself and asks of the coordinator.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::entry::SessionId;
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
#[cfg(doc)]
use crate::lock::Locks;
use crate::name::LockName;
use crate::nesting::{Nesting, NestingOf};
use crate::observe::Observer;

/// Shortest time to live that can be asked for. The coordinator may grant a longer one.
pub const MIN_TTL: Duration = Duration::from_secs(1);
/// Longest time to live that can be asked for.
pub const MAX_TTL: Duration = Duration::from_secs(3600);
/// The time to live when none is asked for: room for a change of leader and some lost renewals.
pub const DEFAULT_TTL: Duration = Duration::from_secs(10);

/// The settings of a process's locks: its session, and what it shows to others in a queue.
///
/// ```
/// use std::time::Duration;
/// use lock_core::{OnSessionLoss, Options};
///
/// let options = Options::default()
///     .with_ttl(Duration::from_secs(30))
///     .with_note("nightly build")
///     .with_on_session_loss(OnSessionLoss::Requeue);
/// assert_eq!(options.ttl.as_secs(), 30);
/// ```
#[derive(Debug, Clone)]
#[must_use = "options do nothing before they are given to `Locks::new`"]
#[non_exhaustive]
pub struct Options {
    /// How long the locks outlive a process that died; also how long a holder can be cut off before
    /// it loses them. Between [`MIN_TTL`] and [`MAX_TTL`].
    pub ttl: Duration,
    /// Shown to others in the queue: the user or service. At most
    /// [`MAX_NOTE_BYTES`](crate::entry::MAX_NOTE_BYTES), as the next two.
    pub owner: String,
    /// Shown to others in the queue: what the locks are for.
    pub note: Option<String>,
    /// Shown to others in the queue: the program that does the work.
    pub command: Option<String>,
    /// Whether holders that had to wait call [`Guard::announce`](crate::Guard::announce), so that
    /// others see since when the lock is held. Without it, nobody may conclude from a holder's
    /// silence that it did not have to wait.
    pub announces: bool,
    /// What becomes of a wait when the session is lost.
    pub on_session_loss: OnSessionLoss,
    /// Called when a wait has lost its place and queues anew.
    pub on_requeue: Option<OnRequeue>,
    /// Receives the events of the locks and of the session.
    pub observer: Option<Arc<dyn Observer>>,
    /// How many acquires may be under way at once, with those that wait in a queue. One more fails
    /// with [`ErrorKind::Exhausted`] at once, without a request. There is no limit by default.
    pub max_pending_acquires: Option<usize>,
    /// Whether requests are held back while the coordinator cannot be reached. After five in a row
    /// that did not reach it, renewals among them, one request at a time finds out whether it is
    /// back, after pauses that grow to 3 s. Meanwhile an acquire waits without a request; a try and
    /// a read fail at once with [`ErrorKind::Unreachable`]. Renewals go on, and a renewal that is
    /// answered ends the state; so do releases, and whatever a holder does. On by default.
    pub circuit_breaker: bool,
    /// Whether retries are held back while many requests fail. Each failure that may pass costs one
    /// token of ten, and each success gives a tenth of a token back, or all of them after two
    /// seconds in which requests succeeded and none failed. With five tokens or fewer, all callers
    /// together retry once a second, until a request succeeds. Holders are not affected. On by
    /// default.
    pub retry_budget: bool,
    /// Ties the entries to the hold around this process.
    pub nesting: Option<NestingOf>,
}

impl Options {
    /// Sets the time to live of the locks.
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the user or service that others see in the queue.
    pub fn with_owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = owner.into();
        self
    }

    /// Sets what the locks are for, as others see it in the queue.
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Sets the program that does the work, as others see it in the queue.
    pub fn with_command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }

    /// Sets whether holders that had to wait [announce](crate::Guard::announce) their holds.
    pub fn with_announces(mut self, announces: bool) -> Self {
        self.announces = announces;
        self
    }

    /// Sets what becomes of a wait when the session is lost.
    pub fn with_on_session_loss(mut self, policy: OnSessionLoss) -> Self {
        self.on_session_loss = policy;
        self
    }

    /// Sets the function that is called when a wait has lost its place and queues anew. It must not
    /// block.
    pub fn with_on_requeue(
        mut self,
        callback: impl Fn(&LockName, &Error) + Send + Sync + 'static,
    ) -> Self {
        self.on_requeue = Some(OnRequeue::new(callback));
        self
    }

    /// Sets what receives the events of the locks and of the session: see [`Observer`].
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Sets how many acquires may be under way at once: a bulkhead, so that a service whose requests
    /// wait for locks refuses some of them instead of filling up with all of them. At least 1.
    pub fn with_max_pending_acquires(mut self, limit: usize) -> Self {
        self.max_pending_acquires = Some(limit);
        self
    }

    /// Sets whether requests are held back while the coordinator cannot be reached: see
    /// [`circuit_breaker`](Options::circuit_breaker).
    pub fn with_circuit_breaker(mut self, is_on: bool) -> Self {
        self.circuit_breaker = is_on;
        self
    }

    /// Sets whether retries are held back while many requests fail: see
    /// [`retry_budget`](Options::retry_budget).
    pub fn with_retry_budget(mut self, is_on: bool) -> Self {
        self.retry_budget = is_on;
        self
    }

    /// Sets the function that ties the entries of a session to the hold around this process: see
    /// [`Nesting`]. It must not block.
    pub fn with_nesting(
        mut self,
        describe: impl Fn(SessionId) -> Nesting + Send + Sync + 'static,
    ) -> Self {
        self.nesting = Some(NestingOf::new(describe));
        self
    }
}

/// A function that is called for each wait that has lost its place in the queue and begins anew at
/// its end, with the name of the lock and the error that the place was lost by. It must not block.
#[derive(Clone)]
pub struct OnRequeue(Arc<Callback>);

type Callback = dyn Fn(&LockName, &Error) + Send + Sync;

impl OnRequeue {
    /// Returns a callback that calls this function.
    pub fn new(callback: impl Fn(&LockName, &Error) + Send + Sync + 'static) -> Self {
        OnRequeue(Arc::new(callback))
    }

    pub(crate) fn notify(&self, name: &LockName, error: &Error) {
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
#[non_exhaustive]
pub enum OnSessionLoss {
    /// The wait fails with [`ErrorKind::SessionLost`], so that the caller knows that others may
    /// have gone first.
    #[default]
    Fail,
    /// The wait opens a new session and queues anew, at the end, for what is left of its time;
    /// without a limit, through an outage of any length. It tries again, with growing pauses, while
    /// the coordinator cannot be reached or is short of something. It fails when the coordinator
    /// refuses it, and by [`Locks::close`].
    Requeue,
}

impl Default for Options {
    /// Returns [`DEFAULT_TTL`], the user's login name from the environment (or else the user's
    /// number), no note and no command.
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
            observer: None,
            max_pending_acquires: None,
            circuit_breaker: true,
            retry_budget: true,
            nesting: None,
        }
    }
}

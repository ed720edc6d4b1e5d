//! What a process says about itself and asks of the coordinator.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
#[cfg(doc)]
use crate::lock::Locks;
use crate::name::LockName;

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
pub struct OnRequeue(Arc<Callback>);

type Callback = dyn Fn(&LockName, &Error) + Send + Sync;

impl OnRequeue {
    /// Calls this function.
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

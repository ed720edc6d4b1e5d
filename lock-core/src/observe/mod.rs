//! What happens to locks and sessions, told where it happens: the source of metrics and traces.
//!
//! The core has no metrics of its own. An [`Observer`] turns its events into those of a library: the
//! crates `observe-prometheus` and `observe-otel` are two. Without an observer an event costs a
//! branch: no clock is read for it, and nothing is allocated.

mod acquire_record;
mod blocked;
mod observed;
pub(crate) mod spans;
pub(crate) mod trace_context;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::acquire_record::AcquireRecord;
pub(crate) use self::blocked::BlockedRecord;
pub(crate) use self::observed::{Observed, ObservedRetries};
pub use self::trace_context::{TraceContext, TraceContextError};
use crate::clock::BootInstant;
use crate::entry::{Metadata, Mode, SessionId};
use crate::error::{Error, ErrorKind, LossReason};
use crate::liveness::Liveness;
use crate::name::LockName;
use crate::operation::Operation;
use crate::token::Token;

/// Receives the events of locks and sessions.
///
/// It is called where an event happens: on the caller's thread, and on the thread that renews the
/// sessions of the process. So it must return at once, and must not block. It is never called while
/// a mutex of Turnlock's is locked, so it may call back. If it panics, that is logged, once, and the
/// observer is called for later events all the same.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use lock_core::observe::{Event, Observer, TraceContext};
/// use lock_core::{Locks, Options};
///
/// /// Counts the locks that were lost.
/// #[derive(Debug, Default)]
/// struct Losses(AtomicU64);
///
/// impl Observer for Losses {
///     fn observe(&self, event: &Event<'_>) {
///         if let Event::HoldEnded { end, .. } = event
///             && end.is_loss()
///         {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
///
///     fn trace_context(&self) -> Option<TraceContext> {
///         None
///     }
/// }
///
/// # futures_executor::block_on(async {
/// # let backend = backend_embedded::EmbeddedBackend::open("embedded:memory").await?;
/// let losses = Arc::new(Losses::default());
/// let locks = Locks::new(backend, Options::default().with_observer(losses.clone()))?;
/// let guard = locks.mutex("nightly")?.acquire().await?;
/// locks.close().await?; // under the guard
/// // The thread that renews the sessions tells it, a moment later.
/// while losses.0.load(Ordering::Relaxed) == 0 {
///     std::thread::yield_now();
/// }
/// # drop(guard);
/// # Ok::<(), lock_core::Error>(())
/// # }).unwrap();
/// ```
pub trait Observer: fmt::Debug + Send + Sync {
    /// Receives an event.
    fn observe(&self, event: &Event<'_>);

    /// Returns the trace that the calling task works for, which is stored with the entry that it is
    /// about to make. Called once in each acquire, on the caller's thread, within the span of the
    /// acquire. `None` if the task is in no trace, or in one that is not recorded.
    fn trace_context(&self) -> Option<TraceContext>;
}

/// An event of a lock or of a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// An acquire has begun. [`Acquired`](Event::Acquired) or [`NotAcquired`](Event::NotAcquired)
    /// follows.
    Acquiring {
        /// The lock.
        lock: &'a LockName,
        /// How it is to be held.
        mode: Mode,
        /// When it began. The event of its end has the same instant.
        begun: BootInstant,
    },
    /// An acquire has stood behind one contender for 50 ms. Told once in an acquire at most, and not
    /// at all if the wait ends before the contender's entry is read.
    Blocked {
        /// The lock.
        lock: &'a LockName,
        /// How it is to be held.
        mode: Mode,
        /// What the contender that is waited for says of itself: the nearest ahead, or the nearest
        /// exclusive one. It is read only if [`trace_context`](Observer::trace_context) returned
        /// something for the acquire. `None` if it was not read, if it could not be read, or if it
        /// breaks the limits of [`Metadata::check`]. Others can write into a queue whatever they
        /// like: its texts may have control characters in them, and none of it is proven.
        by: Option<&'a Metadata>,
    },
    /// A lock was acquired. [`HoldEnded`](Event::HoldEnded) follows.
    Acquired {
        /// The lock.
        lock: &'a LockName,
        /// How it is held.
        mode: Mode,
        /// The fencing token.
        token: Token,
        /// When the acquire began.
        begun: BootInstant,
        /// How long the acquire took.
        waited: Duration,
        /// Whether the acquire had to wait for another contender.
        contended: bool,
    },
    /// An acquire ended without the lock.
    NotAcquired {
        /// The lock.
        lock: &'a LockName,
        /// How it was to be held.
        mode: Mode,
        /// When the acquire began.
        begun: BootInstant,
        /// How long the acquire took.
        waited: Duration,
        /// Whether the acquire had to wait for another contender.
        contended: bool,
        /// Why there is no lock.
        why: NotAcquired<'a>,
    },
    /// A hold has ended.
    HoldEnded {
        /// The lock.
        lock: &'a LockName,
        /// How it was held.
        mode: Mode,
        /// The fencing token.
        token: Token,
        /// How long it was held.
        held: Duration,
        /// How the hold ended.
        end: HoldEnd,
    },
    /// A session was opened.
    SessionOpened {
        /// The session.
        session: SessionId,
        /// Its deadline, which an observer may keep and read at any time, best as a
        /// [`Weak`](std::sync::Weak).
        liveness: &'a Arc<Liveness>,
        /// How long the opening took, with all its tries.
        took: Duration,
    },
    /// A session has ended. Its holds have ended, too, or end now.
    SessionEnded {
        /// The session.
        session: SessionId,
        /// Why it ended.
        reason: LossReason,
    },
    /// A renewal was acknowledged.
    Renewed {
        /// The session.
        session: SessionId,
        /// How long the acknowledgement took.
        took: Duration,
        /// The time that was left until the deadline when the acknowledgement came.
        left: Duration,
        /// For how long the session is proven to live, counted from the sending of the renewal.
        validity: Duration,
    },
    /// A renewal failed. Another one follows soon.
    RenewalFailed {
        /// The session.
        session: SessionId,
        /// The error; `None` if there was no answer in time.
        error: Option<&'a Error>,
        /// How long it took until it failed or was given up.
        took: Duration,
        /// The time that is left until the deadline.
        left: Duration,
    },
    /// A request failed and will be tried again.
    Retried {
        /// The operation that the request is a part of.
        operation: Operation,
        /// Why it failed.
        error: &'a Error,
        /// The time until the next try.
        pause: Duration,
    },
    /// The [circuit breaker](crate::Options::circuit_breaker) has opened: the latest requests did
    /// not reach the coordinator.
    BreakerOpened {
        /// Why the latest of them failed.
        error: &'a Error,
        /// The time until a request finds out whether the coordinator is back.
        pause: Duration,
    },
    /// The circuit breaker has closed: the coordinator answers again, or no request will be made any
    /// more.
    BreakerClosed,
}

impl Event<'_> {
    /// Returns the name of the event for logs, in snake case.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Acquiring { .. } => "acquiring",
            Event::Blocked { .. } => "blocked",
            Event::Acquired { .. } => "acquired",
            Event::NotAcquired { .. } => "not_acquired",
            Event::HoldEnded { .. } => "hold_ended",
            Event::SessionOpened { .. } => "session_opened",
            Event::SessionEnded { .. } => "session_ended",
            Event::Renewed { .. } => "renewed",
            Event::RenewalFailed { .. } => "renewal_failed",
            Event::Retried { .. } => "retried",
            Event::BreakerOpened { .. } => "breaker_opened",
            Event::BreakerClosed => "breaker_closed",
        }
    }
}

/// Why an acquire ended without the lock.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum NotAcquired<'a> {
    /// Another contender has the lock, and the acquire did not wait.
    Busy,
    /// The time to wait was over.
    TimedOut,
    /// The caller dropped the acquire.
    Cancelled,
    /// It failed.
    Failed(&'a Error),
}

impl NotAcquired<'_> {
    /// Returns the name of the outcome for metrics, traces and logs, in snake case.
    pub fn name(self) -> &'static str {
        match self {
            NotAcquired::Busy => "busy",
            NotAcquired::TimedOut => "timeout",
            NotAcquired::Cancelled => "cancelled",
            NotAcquired::Failed(error) => match error.kind() {
                ErrorKind::SessionLost(_) => "lost",
                ErrorKind::Evicted => "evicted",
                _ => "error",
            },
        }
    }
}

/// How a hold ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HoldEnd {
    /// The guard gave the lock back.
    Released,
    /// The guard ended, and this process keeps the [sticky](crate::Mutex::sticky) lock.
    Kept,
    /// The guard gave the lock back, but the entry was gone before: the lock had been lost.
    AlreadyGone,
    /// The guard gave the lock back, and the coordinator did not confirm it. That goes on in the
    /// background.
    Unconfirmed,
    /// The guard was dropped. The lock is given back in the background.
    Dropped,
    /// The lock was lost.
    Lost(LossReason),
}

impl HoldEnd {
    /// Returns the name of the end for metrics, traces and logs, in snake case.
    pub fn name(self) -> &'static str {
        match self {
            HoldEnd::Released => "released",
            HoldEnd::Kept => "kept",
            HoldEnd::AlreadyGone => "already_gone",
            HoldEnd::Unconfirmed => "unconfirmed",
            HoldEnd::Dropped => "dropped",
            HoldEnd::Lost(_) => "lost",
        }
    }

    /// Returns whether the lock was lost while it was held. A session that this process closed
    /// counts: its guard was still there.
    pub fn is_loss(self) -> bool {
        matches!(self, HoldEnd::Lost(_) | HoldEnd::AlreadyGone)
    }
}

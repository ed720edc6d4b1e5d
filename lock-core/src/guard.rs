//! A held lock.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::BootInstant;
use crate::entry::{EntryId, Mode, Ticket};
use crate::janitor::Tenancy;
use crate::liveness::{LossReason, State};
use crate::name::LockName;
use crate::session::Removed;
use crate::token::Token;

/// What the guard and the janitor share of one hold.
#[derive(Debug)]
pub(crate) struct Hold {
    ticket: Ticket,
    entry: EntryId,
    /// Why it is over; set once.
    end: OnceLock<End>,
    ended: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Lost(LossReason),
    /// The guard is giving the lock back, or is gone.
    Released,
}

impl Hold {
    pub(crate) fn new(ticket: Ticket, entry: EntryId) -> Arc<Self> {
        Arc::new(Hold {
            ticket,
            entry,
            end: OnceLock::new(),
            ended: Notify::new(),
        })
    }

    pub(crate) fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    pub(crate) fn entry(&self) -> &EntryId {
        &self.entry
    }

    pub(crate) fn serial(&self) -> u64 {
        self.ticket.serial
    }

    /// The lock is not ours any more. Answers the reason that came first, which stays.
    pub(crate) fn lose(&self, reason: LossReason) -> LossReason {
        match self.end(End::Lost(reason)) {
            End::Lost(first) => first,
            End::Released => LossReason::Closed,
        }
    }

    fn end(&self, end: End) -> End {
        let mut first = false;
        let settled = *self.end.get_or_init(|| {
            first = true;
            end
        });
        if first {
            self.ended.notify_waiters();
        }
        settled
    }

    fn loss(&self) -> Option<LossReason> {
        match self.end.get() {
            Some(End::Lost(reason)) => Some(*reason),
            Some(End::Released) | None => None,
        }
    }

    /// Resolves once it is lost or released.
    pub(crate) async fn over(&self) {
        let ended = self.ended.notified();
        if self.end.get().is_none() {
            ended.await;
        }
    }
}

/// What became of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Release {
    /// The lock was ours until now, and is free for the next one.
    Released,
    /// Our entry was gone before: the lock had been lost. What was done under it may have raced
    /// with another holder.
    AlreadyGone,
    /// The coordinator did not answer. It goes on in the background until it is done or the session
    /// is over.
    Unknown,
}

/// A held lock. Dropping it releases the lock in the background; [`release`](Guard::release) says
/// how that went. A process that ends right after the drop takes the background with it, and the
/// lock stays taken for the time to live: end with `release`, or with
/// [`Locks::close`](crate::Locks::close).
///
/// While the guard lives the session is renewed on a thread of its own, also when the user's
/// executor is blocked. Two holders can believe at once only if the coordinator breaks its lease
/// contract, or a clock or process breaks the stated bounds ([`clock::DRIFT`](crate::clock::DRIFT),
/// [`clock::MARGIN`](crate::clock::MARGIN)); writes are ordered for certain only by a resource that
/// checks the [`token`](Guard::token).
#[must_use = "the lock is released when the guard is dropped"]
pub struct Guard {
    hold: Arc<Hold>,
    tenancy: Arc<Tenancy>,
    released: bool,
}

impl Guard {
    pub(crate) fn new(tenancy: Arc<Tenancy>, hold: Arc<Hold>) -> Self {
        Guard {
            hold,
            tenancy,
            released: false,
        }
    }

    /// The fencing token: higher than that of every earlier grant of this lock.
    pub fn token(&self) -> Token {
        self.hold.entry.token
    }

    /// The lock.
    pub fn name(&self) -> &LockName {
        &self.hold.ticket.name
    }

    /// How it is held.
    pub fn mode(&self) -> Mode {
        self.hold.ticket.mode
    }

    /// The state now, by the clock and by all that the coordinator told. Costs no round trip. Once
    /// lost, for ever lost.
    pub fn state(&self) -> State {
        if let Some(reason) = self.hold.loss() {
            return State::Lost(reason);
        }
        match self.tenancy.session().liveness().state() {
            State::Lost(reason) => State::Lost(self.hold.lose(reason)),
            state => state,
        }
    }

    /// The time for which the lock is certainly ours if nothing is renewed from now on; zero once
    /// it is lost.
    pub fn remaining(&self) -> Duration {
        self.deadline().map_or(Duration::ZERO, |deadline| {
            let now = self.tenancy.session().liveness().clock().now();
            deadline.saturating_since(now)
        })
    }

    /// The instant up to which the coordinator cannot have given the lock to anybody else, as
    /// proved so far; renewals move it on. `None` once the lock is lost.
    pub fn deadline(&self) -> Option<BootInstant> {
        if self.hold.loss().is_some() {
            return None;
        }
        self.tenancy.session().liveness().deadline()
    }

    /// Resolves when the lock is lost, with the reason: at the deadline at the latest, and as soon
    /// as the coordinator tells that our session or entry is gone. *Cancel safe.*
    pub async fn lost(&self) -> LossReason {
        tokio::select! {
            () = self.hold.over() => {}
            reason = self.tenancy.session().liveness().lost() => {
                self.hold.lose(reason);
            }
        }
        // Only `release` and `drop` end a hold otherwise, and they consume the guard.
        self.hold.loss().unwrap_or(LossReason::Closed)
    }

    /// Gives the lock back and says how it went. One round trip.
    ///
    /// *Cancel safety:* dropped midway, it goes on in the background.
    pub async fn release(mut self) -> Release {
        let session = self.tenancy.session();
        match session
            .remove(&self.hold.ticket, Some(&self.hold.entry))
            .await
        {
            Ok(removed) => {
                self.released = true;
                match removed {
                    Removed::Removed => Release::Released,
                    Removed::AlreadyGone => Release::AlreadyGone,
                }
            }
            Err(error) => {
                tracing::debug!(%error, lock = %self.hold.ticket.name, "a release goes on in the background");
                Release::Unknown
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.hold.end(End::Released);
        self.tenancy.unregister(self.hold.serial());
        if !self.released {
            self.tenancy
                .discard(self.hold.ticket.clone(), Some(self.hold.entry.clone()));
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("name", self.name())
            .field("mode", &self.mode())
            .field("token", &self.token())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

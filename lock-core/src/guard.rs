//! A held lock.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::background;
use crate::clock::{self, BootInstant};
use crate::data::{Access, Accessed, DataKey};
use crate::entry::{EntryId, Metadata, Mode};
use crate::error::{Error, ErrorKind, LossReason};
use crate::hold::{End, Hold};
use crate::janitor::SharedSession;
use crate::liveness::State;
use crate::name::LockName;
use crate::retry::{self, Doubt, RetryPolicy, retry};
use crate::session::Removed;
use crate::token::Token;

/// What became of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Release {
    /// The lock was ours until now, and is free for the next one.
    Released,
    /// Our entry was gone before: the lock had been lost. What was done under it may have raced
    /// with another holder.
    AlreadyGone,
    /// The coordinator did not answer. It goes on in the background until it is done or the session
    /// is over. In a forked child: the lock is the parent's.
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
    shared_session: Arc<SharedSession>,
    released: bool,
}

impl Guard {
    pub(crate) fn new(shared_session: Arc<SharedSession>, hold: Arc<Hold>) -> Self {
        Guard {
            hold,
            shared_session,
            released: false,
        }
    }

    /// Our entry in the queue, for who is to [remove it](crate::Locks::evict) should this process die.
    pub fn entry(&self) -> &EntryId {
        self.hold.entry()
    }

    /// The fencing token: higher than that of every earlier grant of this lock.
    pub fn token(&self) -> Token {
        self.hold.token()
    }

    /// The lock.
    pub fn name(&self) -> &LockName {
        &self.hold.ticket().name
    }

    /// How it is held.
    pub fn mode(&self) -> Mode {
        self.hold.ticket().mode
    }

    /// The state now, by the clock and by all that the coordinator told. Costs no round trip. Once
    /// lost, for ever lost.
    pub fn state(&self) -> State {
        if let Some(reason) = self.hold.loss() {
            return State::Lost(reason);
        }
        match self.shared_session.session().liveness().state() {
            State::Lost(reason) => State::Lost(self.hold.lose(reason)),
            state => state,
        }
    }

    /// The time for which the lock is certainly ours if nothing is renewed from now on; zero once
    /// it is lost.
    pub fn remaining(&self) -> Duration {
        self.deadline().map_or(Duration::ZERO, |deadline| {
            let now = self.shared_session.session().liveness().clock().now();
            deadline.saturating_since(now)
        })
    }

    /// The time to live that the coordinator granted, which may be less or more than
    /// [`Options::ttl`](crate::Options::ttl) asked for. Without a renewal the lock is free so long
    /// after the last one.
    pub fn ttl(&self) -> Duration {
        self.shared_session.session().liveness().ttl()
    }

    /// The least that [`remaining`](Guard::remaining) ever is while every renewal is answered at
    /// once: what is to be done between the first sign of trouble and the deadline must fit in.
    pub fn assured(&self) -> Duration {
        self.shared_session.session().liveness().assured()
    }

    /// The instant up to which the coordinator cannot have given the lock to anybody else, as
    /// proven so far; renewals move it on. `None` once the lock is lost.
    pub fn deadline(&self) -> Option<BootInstant> {
        if self.hold.loss().is_some() {
            return None;
        }
        self.shared_session.session().liveness().deadline()
    }

    /// Resolves when the lock is lost, with the reason: at the deadline at the latest, and as soon
    /// as the coordinator tells that our session or entry is gone. *Cancel safe.*
    pub async fn lost(&self) -> LossReason {
        tokio::select! {
            () = self.hold.wait_for_end() => {}
            reason = self.shared_session.session().liveness().lost() => {
                self.hold.lose(reason);
            }
        }
        // Only `release` and `drop` end a hold otherwise, and they consume the guard.
        self.hold.loss().unwrap_or(LossReason::Closed)
    }

    /// Keeps a value in the coordinator, where everybody can read it with
    /// [`Locks::get`](crate::Locks::get): in one transaction with the proof that the lock is still
    /// ours, so that a holder that was paused changes nothing after it has lost the lock. One round
    /// trip; on ZooKeeper a few for the first value at a key.
    ///
    /// Any lock can be used for any key: have all who write to a key write to it under the same
    /// lock. A key is 1 to 1,024 bytes, by the rules of lock names; a value at most
    /// [`MAX_VALUE_BYTES`](crate::data::MAX_VALUE_BYTES).
    ///
    /// A request whose answer is lost is sent again for as long as the lock is ours. That makes no
    /// difference, since nobody else can have written meanwhile, and accesses of one guard are done
    /// one after another.
    ///
    /// # Errors
    /// [`ErrorKind::SessionLost`] or [`ErrorKind::Evicted`] when the lock is lost: nothing was
    /// changed after that, and with [`Effect::None`](crate::Effect::None) nothing at all.
    /// [`ErrorKind::InvalidArgument`], before anything is sent, if the key or the value breaks a
    /// limit, or the lock is shared, as readers hold it; what the coordinator says when it refuses.
    ///
    /// *Cancel safety:* it may be done, or may yet be done as long as the lock is ours, but not
    /// after a later access of this guard has been answered.
    pub async fn put(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        let key = DataKey::new(key)?;
        let access = Access::put(&key, value.as_ref())?;
        self.change(&key, access).await
    }

    /// Removes the value at this key, if there is one, as [`put`](Guard::put) sets it. One round
    /// trip.
    ///
    /// # Errors
    /// As [`put`](Guard::put). *Cancel safety:* the same.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        self.change(&DataKey::new(key)?, Access::Delete).await
    }

    /// The value at this key, read while the lock is certainly ours, shared or not. One round trip.
    ///
    /// # Errors
    /// As [`put`](Guard::put). *Cancel safe.*
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.access(&DataKey::new(key)?, Access::Get).await
    }

    async fn change(&self, key: &DataKey, access: Access) -> Result<(), Error> {
        if self.mode() == Mode::Shared {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "the lock {:?} is held in shared mode, in which {key:?} can only be read: take it exclusively",
                    self.name().as_str()
                ),
            ));
        }
        self.access(key, access).await.map(drop)
    }

    async fn access(&self, key: &DataKey, access: Access) -> Result<Option<Vec<u8>>, Error> {
        background::check_process()?;
        let (ticket, entry) = (self.hold.ticket(), self.hold.entry());
        let _turn = self.hold.waits().access.lock().await;
        if let State::Lost(reason) = self.state() {
            return Err(Error::hold_lost(reason));
        }
        let doubt = Doubt::default();
        let session = self.shared_session.session();
        let accessed = retry(RetryPolicy::Usual, || {
            doubt.observe(session.access(ticket, entry, key, &access))
        });
        let outcome = tokio::select! {
            biased;
            outcome = accessed => outcome,
            // A removal of our entry alone is not among them: the answer tells of it for certain.
            reason = session.liveness().lost() => Err(Error::hold_lost(self.hold.lose(reason))),
        };
        let error = match outcome {
            Ok(Accessed::Done(value)) => return Ok(value),
            Ok(Accessed::NotOurs) => Error::hold_lost(self.hold.lose(LossReason::EntryGone)),
            Err(error) => error,
        };
        Err(doubt.apply(error))
    }

    /// Tells those who look at the queue that we hold the lock since now; of themselves they know only
    /// since when we queue. One write, which nobody needs to wait for: to be called after a long
    /// wait, by whoever [announces](crate::Options::announces).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] without that option; [`ErrorKind::SessionLost`] or
    /// [`ErrorKind::Evicted`] when the lock is lost; as the backend's: unreachable, refused. It is
    /// not tried again.
    ///
    /// *Cancel safe.*
    pub async fn announce(&self) -> Result<(), Error> {
        let (ticket, entry) = (self.hold.ticket(), self.hold.entry());
        if let State::Lost(reason) = self.state() {
            return Err(Error::hold_lost(reason));
        }
        if ticket.metadata.held_unix_ms.is_none() {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "the locks were not made to announce holds: set `Options::announces`",
            ));
        }
        let metadata = Metadata {
            held_unix_ms: Some(clock::unix_millis()),
            ..(*ticket.metadata).clone()
        };
        let session = self.shared_session.session();
        match session.describe(ticket, entry, &metadata).await? {
            true => Ok(()),
            false => Err(Error::hold_lost(self.hold.lose(LossReason::EntryGone))),
        }
    }

    /// Gives the lock back and says how it went. One round trip.
    ///
    /// *Cancel safety:* dropped midway, it goes on in the background.
    pub async fn release(mut self) -> Release {
        if background::is_forked() {
            return Release::Unknown;
        }
        let session = &**self.shared_session.session();
        match retry::remove(session, self.hold.ticket(), Some(self.hold.entry())).await {
            Ok(removed) => {
                self.released = true;
                match removed {
                    Removed::Removed => Release::Released,
                    Removed::AlreadyGone => Release::AlreadyGone,
                }
            }
            Err(error) => {
                tracing::debug!(%error, lock = %self.hold.ticket().name, "a release goes on in the background");
                Release::Unknown
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if background::is_forked() {
            // The lock is the parent's.
            return;
        }
        self.hold.end(End::Released);
        self.shared_session.unregister(self.hold.serial());
        if !self.released {
            self.shared_session
                .discard(self.hold.ticket().clone(), Some(self.hold.entry().clone()));
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

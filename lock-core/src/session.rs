//! What a backend implements: a queue of ephemeral entries, and the session that keeps them alive.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use crate::data::{Access, Accessed, DataKey};
use crate::entry::{EntryId, Metadata, SessionId, Ticket};
use crate::error::{Effect, Error, ErrorKind};
use crate::liveness::Liveness;
use crate::name::LockName;
use crate::queue::Queue;
use crate::rule::{Ask, View};
use crate::token::Token;
use crate::token_offset::{Raised, TokenOffset};

/// A coordinator that sessions are opened on.
///
/// # For implementors
/// All I/O must go on while the user's executor is blocked: run it on [`crate::background`]. Every
/// method can be dropped at any await.
#[async_trait]
pub trait Backend: Debug + Send + Sync {
    /// Returns the name of this kind of coordinator for traces, in snake case: `embedded`, `etcd`,
    /// `zk`, or one of its own. Does no I/O.
    fn name(&self) -> &'static str;

    /// Opens a session that lives at least `ttl` after its last renewal. The store may raise a
    /// small `ttl`, and the deadlines count with what it granted. The session renews itself until
    /// it is closed or dropped.
    ///
    /// # Cancel safety
    /// When the call is dropped, no session stays that is renewed: it is closed again, or ends with
    /// its time to live.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] if the coordinator did not answer in time;
    /// [`ErrorKind::Exhausted`] if it is short of something; another kind if it refuses for good.
    /// The methods below fail with the same kinds.
    async fn open_session(&self, ttl: Duration) -> Result<Arc<dyn Session>, Error>;

    /// Returns the whole queue of one lock, which is empty if there is no entry. Needs no session.
    ///
    /// # Cancel safety
    /// Changes nothing.
    ///
    /// # Errors
    /// Those of [`open_session`](Backend::open_session).
    async fn queue(&self, name: &LockName) -> Result<Queue, Error>;

    /// Returns the queues of the native locks whose names begin with this text, in the order of the
    /// store's keys: at most `limit` of them, from behind the lock `after`. Needs no session.
    ///
    /// # Cancel safety
    /// Changes nothing.
    ///
    /// # Errors
    /// Those of [`open_session`](Backend::open_session).
    async fn locks(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Queue>, Error>;

    /// Returns the value that holders keep at this key, not older than the call. Needs no session.
    ///
    /// # Cancel safety
    /// Changes nothing.
    ///
    /// # Errors
    /// Those of [`open_session`](Backend::open_session).
    async fn get(&self, key: &DataKey) -> Result<Option<Vec<u8>>, Error>;

    /// Removes an entry of this lock, of any session: this incarnation, never "whatever has this
    /// name". Needs no session. A copy of the request that is still under way when the call returns
    /// removes nothing else.
    ///
    /// # Cancel safety
    /// When the call is dropped, the entry may or may not have been removed: call it again.
    ///
    /// # Errors
    /// Those of [`open_session`](Backend::open_session), and [`ErrorKind::InvalidArgument`] if the
    /// entry is one of another lock.
    async fn evict(&self, name: &LockName, entry: &EntryId) -> Result<Removed, Error>;

    /// Raises the [offset](crate::token_offset) under the tokens of the namespace's native locks,
    /// and never lowers it. The step that raises it also proves that there is no entry of such a
    /// lock, and that no session will make one without knowing the new offset.
    ///
    /// # Cancel safety
    /// When the call is dropped or fails, the offset may or may not have been raised: call it
    /// again.
    ///
    /// # Errors
    /// Those of [`open_session`](Backend::open_session).
    async fn raise_token_offset(&self, offset: TokenOffset) -> Result<Raised, Error>;
}

/// Which contenders a queue takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Every contender.
    Always,
    /// A contender that would hold the lock at once. A backend that cannot decide this in one step
    /// may take in others too: the core then gives the place up.
    IfFree,
}

/// How fresh the result of a [`look`](Session::look) must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// Not older than the change that [`watch`](Session::watch) just reported to this entry's
    /// waiter. What stood ahead and is gone by then stays gone, so a store may read the replica
    /// that reported it, without asking its quorum.
    Change,
    /// Not older than the call: for a look that is taken because an event may have been lost.
    Now,
}

/// What [`enqueue`](Session::enqueue) did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enqueued {
    /// The ticket has an entry.
    Placed(Placed),
    /// An entry was wanted only if the lock is free, and it is not. The ticket has no entry.
    Busy,
}

/// A place in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Our entry.
    pub entry: EntryId,
    /// Its token.
    pub token: Token,
    /// What stands ahead of it, as far as that was asked for.
    pub view: View,
}

impl Placed {
    /// Returns the place of an entry of this lock that was made with this offset.
    ///
    /// # Errors
    /// Those of [`TokenOffset::token`]; [`ErrorKind::Internal`] if the entry has no incarnation.
    /// The entry is there all the same.
    pub fn on(
        offset: TokenOffset,
        lock: &LockName,
        entry: EntryId,
        view: View,
    ) -> Result<Self, Error> {
        let incarnation = entry.incarnation.ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                format!("{entry:?} was made without an incarnation"),
            )
        });
        let token = incarnation.and_then(|incarnation| offset.token(lock, incarnation));
        Ok(Placed {
            token: token.map_err(|error| error.with_effect(Effect::Unknown))?,
            entry,
            view,
        })
    }
}

/// For whom an entry is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watcher {
    /// For the contender whose entry it is. It learns late at worst that it was evicted, so the
    /// watch need not begin at once. A process may watch very many of its entries like this.
    Owner,
    /// For a contender that stands behind. While it does not know that the entry is gone, nobody
    /// may hold the lock.
    Waiter,
}

/// Who stands behind an entry, as [`watch_behind`](Session::watch_behind) found it.
pub enum Behind {
    /// Somebody does.
    Somebody,
    /// Nobody did. The watch resolves once somebody may stand there, or our entry may be gone. It may
    /// resolve early, and never misses either. It fails as [`watch`](Session::watch) does, and the
    /// core then asks again. Dropping it leaves no watch behind.
    Nobody(BoxFuture<'static, Result<(), Error>>),
    /// Our entry is gone.
    Gone,
}

impl fmt::Debug for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Behind::Somebody => "Somebody",
            Behind::Nobody(_) => "Nobody",
            Behind::Gone => "Gone",
        })
    }
}

/// What [`remove`](Session::remove) did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Whether there was an entry.
    pub removed: Removed,
    /// Those of the waiters' entries that the removal itself found in their queue. Empty if it did
    /// not read them.
    pub waiters: Vec<EntryId>,
}

/// Makes the result of a removal that did not read the waiters' entries.
impl From<Removed> for Removal {
    fn from(removed: Removed) -> Self {
        Removal {
            removed,
            waiters: Vec::new(),
        }
    }
}

/// Whether an entry was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// The entry was there, and is gone now by this call (or by an earlier try of it whose reply
    /// was lost).
    Removed,
    /// It was gone before.
    AlreadyGone,
}

/// One process's liveness on a coordinator, and the entries that it keeps alive there.
///
/// A backend orders entries and never decides which of them hold. Every method is required: a
/// wrapper that forgets to forward one does not compile.
///
/// # For implementors
/// Each method makes one attempt, bounds it in time, and reports by the [`Effect`] of its error
/// what it knows of its outcome. The core alone retries, see [`retry`](crate::retry): a failed
/// `enqueue`, `look`, `access`, `remove` or `close` whose error [is retryable](Error::is_retryable)
/// is called again after a growing pause, and an entry that is gone after a `remove` of unknown
/// effect counts as removed. After the session is lost, every method fails with
/// [`ErrorKind::SessionLost`] or the truth, never with a success that rests on an entry of the
/// past.
///
/// When the last [`Arc`] of a session is dropped, its renewal stops, so the session ends with its
/// time to live.
#[async_trait]
pub trait Session: Debug + Send + Sync {
    /// Returns its identity.
    fn id(&self) -> SessionId;

    /// Returns how long it is proven to live.
    fn liveness(&self) -> &Arc<Liveness>;

    /// Puts an entry for this ticket at the end of its lock's queue, or finds the one that an
    /// earlier try of the same ticket put there. Returns the entry with what stands ahead of it,
    /// all in one round trip.
    ///
    /// A limit of zero in `ask` means that the queue need not be read: the core knows of an entry
    /// ahead and waits for that one, or looks afterwards. The view then has nothing ahead, and its
    /// `present` still counts.
    /// The limit is never zero together with [`Admission::IfFree`].
    ///
    /// # Cancel safety
    /// When the call is dropped, or fails with an unknown effect, the entry may exist or may yet
    /// come to exist. A later [`remove`](Session::remove) of the ticket makes an end of both.
    ///
    /// # Errors
    /// [`ErrorKind::SessionLost`] if the session is over; [`ErrorKind::Unreachable`] if the
    /// coordinator did not answer in time; [`ErrorKind::Exhausted`] if it is short of something;
    /// another kind if it refuses for good. The [effect](Error::effect) is none only if there is no
    /// new entry and none will come of this call.
    async fn enqueue(
        &self,
        ticket: &Ticket,
        ask: Ask,
        admission: Admission,
    ) -> Result<Enqueued, Error>;

    /// Reads what stands ahead of our entry and whether it is itself still there, both at one
    /// instant of the store, which is as fresh as `as_of` says. A grant may rest on the result.
    ///
    /// # Cancel safety
    /// Changes nothing.
    ///
    /// # Errors
    /// Those of [`enqueue`](Session::enqueue).
    async fn look(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        ask: Ask,
        as_of: AsOf,
    ) -> Result<View, Error>;

    /// Waits until this entry is gone. Returns at once if it was gone before the call. May return
    /// early, since the core looks then; never misses that the entry is gone.
    ///
    /// # Cancel safety
    /// Leaves no watch behind.
    ///
    /// # Errors
    /// Those of [`enqueue`](Session::enqueue), and [`ErrorKind::Unreachable`] if the watch broke:
    /// the core then looks, and watches again.
    async fn watch(&self, entry: &EntryId, watcher: Watcher) -> Result<(), Error>;

    /// Reads whether another entry stands behind our exclusive one in its queue, whatever client made
    /// it, and watches for one if none does. Not older than the call. The core calls this for the
    /// entries of sticky locks that it keeps from one hold to the next. It asks again every 5 to 10 s,
    /// or more rarely if it keeps very many, since a store can lose the event of a watch.
    ///
    /// # Cancel safety
    /// Leaves no watch behind.
    ///
    /// # Errors
    /// Those of [`watch`](Session::watch).
    async fn watch_behind(&self, ticket: &Ticket, entry: &EntryId) -> Result<Behind, Error>;

    /// Removes the entry of this ticket: this incarnation, never "whatever has this name". With
    /// `entry` unknown, it removes whatever an `enqueue` of this ticket made. After `Ok` there is
    /// none, and none will come of an `enqueue` still under way.
    ///
    /// `waiters` are entries of this process that stand right behind this one in its queue, each
    /// with nothing between that it would have to wait for. They stand first when this entry is
    /// gone, and are granted the lock if the removal finds them. A backend that can read them in
    /// the same request, not earlier than the removal is done, returns those that are there, each
    /// in its incarnation. That saves the look of the waiter, which is a round trip while nobody
    /// holds the lock. A backend that cannot returns none: the waiters then learn of the removal by
    /// their [watches](Session::watch) and look. It also returns none if this entry was gone
    /// before, or if it cannot say that the ticket has no second entry.
    ///
    /// # Cancel safety
    /// When the call is dropped, the entry may or may not have been removed: call it again.
    ///
    /// # Errors
    /// Those of [`enqueue`](Session::enqueue). After the end of the session is proven, the result
    /// is [`Removed::AlreadyGone`].
    async fn remove(
        &self,
        ticket: &Ticket,
        entry: Option<&EntryId>,
        waiters: &[EntryId],
    ) -> Result<Removal, Error>;

    /// Reads or changes the value at a key, in one step with the proof that this entry, in this
    /// incarnation, is there. The core calls this for entries that hold their lock only, and makes
    /// one call at a time for each of them.
    ///
    /// # Cancel safety
    /// When the call is dropped, or fails with an unknown effect, the access may have been done, or
    /// may yet be done as long as the entry is there; but never after a later access of the same
    /// entry has returned.
    ///
    /// # Errors
    /// Those of [`enqueue`](Session::enqueue).
    async fn access(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        key: &DataKey,
        access: &Access,
    ) -> Result<Accessed, Error>;

    /// Replaces what this entry, in this incarnation, says of its contender. Returns whether the
    /// entry was there. The order in the queue stays, and the waiters for the entry need not be
    /// woken.
    ///
    /// # Cancel safety
    /// When the call is dropped, or fails with an unknown effect, it may have been done, or may yet
    /// be done as long as the entry is there.
    ///
    /// # Errors
    /// Those of [`enqueue`](Session::enqueue).
    async fn describe(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        metadata: &Metadata,
    ) -> Result<bool, Error>;

    /// Returns what an entry of any session says of its contender, as it is now or was a moment ago.
    /// Returns `None` if this incarnation of it is gone, or if it says nothing that
    /// [`Metadata::from_bytes`] understands. An id without an incarnation, as views of this backend
    /// may have it, stands for the entry at its key.
    ///
    /// The core asks for the entry that a contender waits for, to tell an observer. Nothing is
    /// decided by the answer, and it must not hold up the requests that decide something.
    ///
    /// # Cancel safety
    /// Changes nothing.
    ///
    /// # Errors
    /// Those of [`enqueue`](Session::enqueue).
    async fn metadata(&self, entry: &EntryId) -> Result<Option<Metadata>, Error>;

    /// Ends the session and with it all its entries. May be called again, also after it succeeded.
    ///
    /// # Cancel safety
    /// The renewals have stopped, so the session ends with its time to live at the latest.
    ///
    /// # Errors
    /// Those of [`open_session`](Backend::open_session).
    async fn close(&self) -> Result<(), Error>;
}

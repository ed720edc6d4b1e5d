//! What a backend implements: a queue of ephemeral entries, and the session that keeps them alive.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

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
    /// Opens a session that lives at least `ttl` after its last renewal; the store may raise a
    /// small one, and the deadlines count with what it granted. It renews itself until it is
    /// closed.
    async fn open_session(&self, ttl: Duration) -> Result<Arc<dyn Session>, Error>;

    /// The whole queue of one lock; empty if nobody stands there. Needs no session.
    async fn queue(&self, name: &LockName) -> Result<Queue, Error>;

    /// The queues of the native locks whose names begin with this text, in the order of the store's
    /// keys: at most `limit` of them, those after the lock `after`. Needs no session.
    async fn locks(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Queue>, Error>;

    /// The value that holders keep at this key, not older than the call. Needs no session.
    async fn get(&self, key: &DataKey) -> Result<Option<Vec<u8>>, Error>;

    /// Removes an entry of this lock, whoever's it is: this incarnation, never "whatever has this
    /// name". Needs no session. A copy of the request that is still under way when it is answered
    /// removes nothing else.
    ///
    /// *Cancel safety:* may or may not have removed; call again.
    async fn evict(&self, name: &LockName, entry: &EntryId) -> Result<Removed, Error>;

    /// Raises the [offset](crate::token_offset) under the tokens of the namespace's native locks, and never
    /// lowers it: in one step with the proof that no entry of such a lock is there, and that no
    /// session will make one that does not know of it. May be called again after an error.
    async fn raise_token_offset(&self, offset: TokenOffset) -> Result<Raised, Error>;
}

/// Whom a queue takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Everybody.
    Always,
    /// Who would hold the lock at once. A backend that cannot tell in one step may take in others
    /// too: the core then gives the place up.
    IfFree,
}

/// How fresh the answer of a `look` must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// Not older than the change that [`changed`](Session::changed) just told this entry's waiter
    /// of. What stood ahead and is gone by then stays gone, so a store may answer from the replica
    /// that told us, without asking its quorum.
    Change,
    /// Not older than the call: for the looks that are taken because an event may have been lost.
    Now,
}

/// What `enqueue` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enqueued {
    /// We have a place.
    Placed(Placed),
    /// We asked for one only if the lock is free, and it is not. There is no entry of ours.
    Busy,
}

/// A place in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Our entry.
    pub entry: EntryId,
    /// Its token.
    pub token: Token,
    /// What stands ahead of it.
    pub view: View,
}

impl Placed {
    /// Returns the place of an entry of this lock that was made with this offset.
    ///
    /// # Errors
    /// Those of [`TokenOffset::token`]; [`ErrorKind::Internal`] if the entry has no incarnation. The
    /// entry is there all the same.
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

/// What `remove` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// The entry was there, and is gone now by this call (or by an earlier try of it whose reply
    /// was lost).
    Removed,
    /// It was gone before.
    AlreadyGone,
}

/// One process's liveness on a coordinator, and the entries it keeps alive there.
///
/// A backend orders entries; it never decides who holds. Every method is required: a wrapper that
/// forgets to forward one does not compile.
///
/// # For implementors
/// Each method makes one attempt, bounds it in time, and reports by the [`Effect`] of its error what
/// it knows of its outcome. The core alone retries, see [`retry`](crate::retry): a failed `enqueue`,
/// `look`, `access`, `remove` or `close` whose error [is retryable](Error::is_retryable) is called
/// again after a growing pause, and an entry that is gone after a `remove` of unknown effect counts
/// as removed. After the session is lost, every method fails with
/// [`ErrorKind::SessionLost`] or the truth,
/// never with a success that rests on an entry of the past.
#[async_trait]
pub trait Session: Debug + Send + Sync {
    /// Its identity.
    fn id(&self) -> SessionId;

    /// How long it is proven to live.
    fn liveness(&self) -> &Arc<Liveness>;

    /// Puts an entry for this ticket at the end of its lock's queue, or finds the one that an
    /// earlier try of the same ticket put there, and answers it with what stands ahead of it: all
    /// in one round trip.
    ///
    /// A backend need not read the queue where it knows of an entry that stood there before the
    /// request was sent, if everybody is taken in and all that stands ahead was asked for: it may
    /// answer with that one, whatever stands between. Nothing is granted by such an answer. Who
    /// waits for that entry looks when it is gone, also when it was gone by then.
    ///
    /// *Cancel safety:* when dropped, or on an error whose effect is unknown, the entry may exist
    /// or may yet come to exist; a later [`remove`](Session::remove) of the ticket makes an end of
    /// both.
    async fn enqueue(
        &self,
        ticket: &Ticket,
        ask: Ask,
        admission: Admission,
    ) -> Result<Enqueued, Error>;

    /// What stands ahead of our entry, and whether it is itself still there, both at one instant of
    /// the store, which is as fresh as `as_of` says: a grant may rest on the answer.
    ///
    /// *Cancel safety:* changes nothing.
    async fn look(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        ask: Ask,
        as_of: AsOf,
    ) -> Result<View, Error>;

    /// Resolves when this entry is gone, also when it was gone before the call. May resolve early;
    /// never misses. `own` is our entry for which that matters: one that stands right behind it, or
    /// the same.
    ///
    /// *Cancel safety:* leaves no watch behind.
    async fn changed(&self, entry: &EntryId, own: &EntryId) -> Result<(), Error>;

    /// Removes the entry of this ticket: this incarnation, never "whatever has this name". With
    /// `entry` unknown, whatever an `enqueue` of this ticket made. After `Ok` there is none, and
    /// none will come of an `enqueue` still under way.
    ///
    /// *Cancel safety:* may or may not have removed; call again.
    async fn remove(&self, ticket: &Ticket, entry: Option<&EntryId>) -> Result<Removed, Error>;

    /// Reads or changes the value at a key, in one step with the proof that this entry, in this
    /// incarnation, is there. The core asks this of entries that hold their lock only, and of each
    /// one at a time.
    ///
    /// *Cancel safety:* when dropped, or on an error whose effect is unknown, it may have been done,
    /// or may yet be done as long as the entry is there; but never after a later access of the
    /// same entry has been answered.
    async fn access(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        key: &DataKey,
        access: &Access,
    ) -> Result<Accessed, Error>;

    /// Has this entry, in this incarnation, say this of its contender; whether it was there. The
    /// order in the queue stays, and who waits for the entry need not be woken.
    ///
    /// *Cancel safety:* when dropped, or on an error whose effect is unknown, it may have been done,
    /// or may yet be done as long as the entry is there.
    async fn describe(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        metadata: &Metadata,
    ) -> Result<bool, Error>;

    /// Ends the session and with it all its entries. May be called again, also after it succeeded.
    ///
    /// *Cancel safety:* the renewals have stopped, so the session ends with its time to live at the
    /// latest.
    async fn close(&self) -> Result<(), Error>;
}

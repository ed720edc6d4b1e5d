//! The part that all guards have in common: a hold, the session that it rests on, and its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::Instrument;

use crate::background;
use crate::clock;
use crate::data::{Access, Accessed, DataKey};
use crate::entry::Metadata;
use crate::error::{Error, ErrorKind, LossReason};
use crate::hold::Hold;
use crate::janitor::SharedSession;
use crate::liveness::{Liveness, State};
use crate::observe::{HoldEnd, spans};
use crate::operation::Operation;
use crate::retry::{Doubt, RetryPolicy, retry};
use crate::session::Removed;
use crate::sticky::StickyHold;

/// The outcome of a release: what the coordinator confirmed, or that it was not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use = "`AlreadyGone` says that the lock was lost before, and that another may have held it \
              meanwhile"]
#[non_exhaustive]
pub enum Release {
    /// The lock was held until now, and is free for the next in the queue.
    Released,
    /// This process keeps the lock, which is [sticky](crate::Mutex::sticky), or has passed it on to
    /// another of its tasks. It gives the lock up in the background once somebody else wants it. No
    /// request was made, so this proves nothing about the past: ask [`Guard::state`](crate::Guard::state)
    /// before the release.
    Kept,
    /// The entry was gone before the release, so the lock had been lost. Work done under the lock
    /// may have raced with another holder.
    AlreadyGone,
}

impl From<Removed> for Release {
    fn from(removed: Removed) -> Self {
        match removed {
            Removed::Removed => Release::Released,
            Removed::AlreadyGone => Release::AlreadyGone,
        }
    }
}

/// A hold and its session. When dropped, it gives the lock back in the background.
pub(crate) struct HeldLock {
    hold: Arc<Hold>,
    shared_session: Arc<SharedSession>,
    /// How the hold ends if it is not lost before.
    end: HoldEnd,
    /// Whether the acquire had to wait for another contender.
    was_contended: bool,
    /// The turn among the tasks of this process, if the lock is sticky. In a box, since few locks
    /// are.
    turn: Option<Box<StickyHold>>,
}

impl HeldLock {
    /// Creates the guard's part.
    pub(crate) fn new(
        shared_session: Arc<SharedSession>,
        hold: Arc<Hold>,
        was_contended: bool,
    ) -> Self {
        HeldLock {
            hold,
            shared_session,
            end: HoldEnd::Dropped,
            was_contended,
            turn: None,
        }
    }

    /// Returns the hold of a sticky lock in this turn.
    pub(crate) fn with_turn(mut self, turn: StickyHold) -> Self {
        self.turn = Some(Box::new(turn));
        self
    }

    /// Returns the number of the turn with this token, from 0 on.
    pub(crate) fn turn(&self) -> u64 {
        self.turn.as_ref().map_or(0, |turn| turn.number())
    }

    /// Returns whether the acquire had to wait for another contender.
    pub(crate) fn was_contended(&self) -> bool {
        self.was_contended
    }

    /// Returns whether the entry of a sticky lock is to be used further after this hold.
    fn is_worth_keeping(&self) -> bool {
        let turn = self.turn.as_ref();
        let is_sound = self.hold.loss().is_none() && !self.hold.has_change_in_doubt();
        is_sound && turn.is_some_and(|turn| turn.is_worth_keeping())
    }

    /// Ends the hold, and leaves its entry to the caller.
    pub(crate) fn into_parts(mut self) -> (Arc<SharedSession>, Arc<Hold>) {
        self.end = HoldEnd::Kept;
        (self.shared_session.clone(), self.hold.clone())
    }

    pub(crate) fn hold(&self) -> &Hold {
        &self.hold
    }

    pub(crate) fn liveness(&self) -> &Liveness {
        self.shared_session.session().liveness()
    }

    pub(crate) fn state(&self) -> State {
        if let Some(reason) = self.hold.loss() {
            return State::Lost(reason);
        }
        match self.liveness().state() {
            State::Lost(reason) => State::Lost(self.hold.lose(reason)),
            state => state,
        }
    }

    pub(crate) async fn lost(&self) -> LossReason {
        tokio::select! {
            () = self.hold.wait_for_end() => {}
            reason = self.liveness().lost() => {
                self.hold.lose(reason);
            }
        }
        // Apart from a loss, only `release` and `drop` end a hold, and both consume the guard.
        self.hold.loss().unwrap_or(LossReason::Closed)
    }

    /// Reads the value at a key.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let outcome = self.access(key, |_| Ok(Access::Get)).await;
        outcome.map_err(|error| self.explain(error, Operation::Get))
    }

    /// Stores a value at a key.
    pub(crate) async fn put(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        let outcome = self.access(key, |key| Access::put(key, value)).await;
        outcome
            .map(drop)
            .map_err(|error| self.explain(error, Operation::Put))
    }

    /// Removes the value at a key.
    pub(crate) async fn delete(&self, key: &str) -> Result<(), Error> {
        let outcome = self.access(key, |_| Ok(Access::Delete)).await;
        outcome
            .map(drop)
            .map_err(|error| self.explain(error, Operation::Delete))
    }

    fn explain(&self, error: Error, operation: Operation) -> Error {
        error.during(operation, Some(&self.hold.ticket().name))
    }

    async fn access(
        &self,
        key: &str,
        access: impl FnOnce(&DataKey) -> Result<Access, Error>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let key = &DataKey::new(key)?;
        let access = access(key)?;
        background::check_process()?;
        let (ticket, entry) = (self.hold.ticket(), self.hold.entry());
        let turn = self.hold.waits().access.lock().await;
        if let State::Lost(reason) = self.state() {
            return Err(Error::hold_lost(reason));
        }
        let doubt = Doubt::default();
        let in_doubt = &self.hold.waits().has_change_in_doubt;
        let was_in_doubt = match access {
            Access::Get => in_doubt.load(Ordering::Acquire),
            // Until this is known to be done, or not. A dropped call is never known.
            Access::Put(_) | Access::Delete => in_doubt.swap(true, Ordering::AcqRel),
        };
        let session = self.shared_session.session();
        let observed = session.liveness().observed();
        let observed = observed.of_retries(access.operation());
        let accessed = retry(RetryPolicy::Usual, observed, || {
            doubt.observe(session.access(ticket, entry, key, &access))
        });
        let outcome = tokio::select! {
            biased;
            outcome = accessed => outcome,
            // The loss of the entry alone is not awaited here: the reply reports it for certain.
            reason = session.liveness().lost() => Err(Error::hold_lost(reason)),
        };
        match &outcome {
            // An access that is done has none before it that may yet be done.
            Ok(_) => in_doubt.store(false, Ordering::Release),
            Err(_) if !doubt.remains() => in_doubt.store(was_in_doubt, Ordering::Release),
            Err(_) => {}
        }
        // An observer that is told of the loss may access the hold itself.
        drop(turn);
        let error = match outcome {
            Ok(Accessed::Done(value)) => return Ok(value),
            Ok(Accessed::NotOurs) => Error::hold_lost(self.hold.lose(LossReason::EntryGone)),
            Err(error) => error,
        };
        Err(doubt.apply(error))
    }

    /// Writes into the entry that the lock has been held since now.
    pub(crate) async fn announce(&self) -> Result<(), Error> {
        let outcome = self.describe_as_held().await;
        outcome.map_err(|error| self.explain(error, Operation::Announce))
    }

    async fn describe_as_held(&self) -> Result<(), Error> {
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

    /// Removes the entry. If that is not done yet, it goes on in the background.
    pub(crate) async fn release(mut self) -> Result<Release, Error> {
        let span = spans::of_release(&self.hold.ticket().name, self.hold.token());
        let removed = self.remove_entry().instrument(span.clone()).await;
        let removed = removed.map_err(|error| self.explain(error, Operation::Release));
        match &removed {
            Ok(_) => {
                span.record("turnlock.release.outcome", self.end.name());
            }
            Err(error) => spans::record_error(&span, error),
        }
        removed
    }

    async fn remove_entry(&mut self) -> Result<Release, Error> {
        background::check_process()?;
        if self.is_worth_keeping() {
            // The drop passes it on.
            self.end = HoldEnd::Kept;
            return Ok(Release::Kept);
        }
        // The next task of this process need not wait for the removal.
        if let Some(turn) = self.turn.take() {
            turn.end_without_entry();
        }
        self.hold.begin_release();
        let handoff = self.shared_session.handoff();
        let removed = handoff.remove(self.hold.ticket(), Some(self.hold.entry()));
        match removed.await {
            Ok(removed) => {
                self.end = match removed {
                    Removed::Removed => HoldEnd::Released,
                    Removed::AlreadyGone => HoldEnd::AlreadyGone,
                };
                Ok(removed.into())
            }
            Err(error) => {
                self.end = HoldEnd::Unconfirmed;
                tracing::debug!(
                    %error,
                    lock = %self.hold.ticket().name,
                    "a release goes on in the background"
                );
                Err(error)
            }
        }
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        // In a forked child, the lock belongs to the parent process. A child has released nothing, so
        // after a release the system need not be asked.
        let stays = matches!(self.end, HoldEnd::Dropped | HoldEnd::Unconfirmed);
        if stays && background::is_forked() {
            return;
        }
        if self.end == HoldEnd::Dropped && self.is_worth_keeping() {
            self.end = HoldEnd::Kept;
        }
        // If the hold has just been lost, that is its end.
        let keeps = self.hold.end(self.end) == HoldEnd::Kept;
        self.shared_session.unregister(self.hold.serial());
        // After the end of this hold: the next one of this process may begin now.
        match self.turn.take() {
            Some(turn) if keeps => return drop(turn),
            Some(turn) => turn.end_without_entry(),
            None => {}
        }
        if stays {
            self.shared_session
                .discard(self.hold.ticket().clone(), Some(self.hold.entry().clone()));
        }
    }
}

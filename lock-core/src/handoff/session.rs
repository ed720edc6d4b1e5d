//! Wraps a session so that its entries are handed over without a look by the waiter.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use tokio::sync::Semaphore;

use super::SessionHandoff;
use super::removal::{Departure, HandoffRegistry};
use crate::background;
use crate::entry::{EntryId, Ticket};
use crate::error::{Effect, Error};
use crate::gate::{Gate, Refusal, Try};
use crate::operation::Operation;
use crate::retry;
use crate::rule::{self, View};
use crate::session::{Admission, AsOf, Behind, Enqueued, Removal, Removed, Session, Watcher};

/// The most looks without an event that are under way in one session.
const LOOKS: usize = 2;

/// The reason why a wait for the entry ahead is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The entry ahead is gone, or may be: the waiter must look at the queue.
    Gone,
    /// This process removed the entry ahead, and the removal found the waiter's own entry first.
    First,
}

/// A session of a backend, with what this process knows about the order in its queues. All
/// enqueues, removals, and looks and watches of waiters go through it.
#[derive(Debug)]
pub(crate) struct HandoffSession {
    session: Arc<dyn Session>,
    registry: Arc<HandoffRegistry>,
    handoff: SessionHandoff,
    gate: Arc<Gate>,
    looks: Semaphore,
    waiters: AtomicU32,
}

/// Counts a waiter of a session while it waits.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // A rough number will do, so the order of other memory is no matter.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl HandoffSession {
    /// Wraps a session of the backend that this registry belongs to, whose requests pass this gate.
    pub(crate) fn new(
        session: Arc<dyn Session>,
        registry: Arc<HandoffRegistry>,
        gate: Arc<Gate>,
    ) -> Arc<Self> {
        Arc::new(HandoffSession {
            session,
            handoff: SessionHandoff::new(registry.clone()),
            registry,
            gate,
            looks: Semaphore::new(LOOKS),
            waiters: AtomicU32::new(0),
        })
    }

    /// Returns the session, for operations that concern no queue.
    pub(crate) fn session(&self) -> &Arc<dyn Session> {
        &self.session
    }

    /// Puts an entry for this ticket at the end of its queue, or finds the entry there. `again`
    /// says that an earlier attempt may have made the entry; then the queue is read.
    ///
    /// # Errors
    /// The errors of the session.
    pub(crate) async fn enqueue(
        &self,
        ticket: &Ticket,
        admission: Admission,
        again: bool,
    ) -> Result<Enqueued, Error> {
        let mut plan = self.handoff.plan_enqueue(ticket, admission, again);
        let enqueued = self.session.enqueue(ticket, plan.ask(), admission).await?;
        let Enqueued::Placed(mut placed) = enqueued else {
            return Ok(Enqueued::Busy);
        };
        placed.view = match plan.place(&placed.entry, placed.view) {
            Some(view) => view,
            None => self
                .look(ticket, &placed.entry, AsOf::Now)
                .await
                // The entry was made, but its place is not known.
                .map_err(|error| error.with_effect(Effect::Unknown))?,
        };
        Ok(Enqueued::Placed(placed))
    }

    /// Reads the entries ahead of a waiter's entry.
    ///
    /// # Errors
    /// The errors of the session.
    pub(crate) async fn look(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        as_of: AsOf,
    ) -> Result<View, Error> {
        let ask = rule::ask(ticket.mode);
        let view = self.session.look(ticket, entry, ask, as_of).await?;
        self.handoff.note_view(ticket, &view);
        Ok(view)
    }

    /// Counts a waiter until the result is dropped.
    pub(crate) fn count_waiter(&self) -> Waiting<'_> {
        self.waiters.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiters)
    }

    /// Returns how many waiters there are.
    pub(crate) fn waiters(&self) -> u32 {
        self.waiters.load(Ordering::Relaxed)
    }

    /// Looks without an event, for as long as the session lives. The waiters take turns and pass the
    /// gate, so that all of them together are no burden to a coordinator in trouble.
    ///
    /// # Errors
    /// The errors of the session that do not pass.
    pub(crate) async fn look_in_turn(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
    ) -> Result<View, Error> {
        self.look_in_turn_after(None, ticket, entry).await
    }

    /// Does the same after this error of an earlier look.
    async fn look_in_turn_after(
        &self,
        failed: Option<Error>,
        ticket: &Ticket,
        entry: &EntryId,
    ) -> Result<View, Error> {
        let observed = self.session.liveness().observed();
        let observed = observed.of_retries(Operation::Acquire);
        let look = || self.look(ticket, entry, AsOf::Now);
        retry::retry_in_turn(&self.gate, &self.looks, failed, observed, look).await
    }

    /// Looks after an event, for as long as the session lives. The coordinator has just answered, so
    /// the first look is sent at once.
    ///
    /// # Errors
    /// The errors of the session that do not pass.
    pub(crate) async fn look_after_change(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
    ) -> Result<View, Error> {
        match self.look(ticket, entry, AsOf::Change).await {
            Ok(view) => {
                self.gate.note_answer();
                Ok(view)
            }
            Err(error) if error.is_retryable() => {
                self.look_in_turn_after(Some(error), ticket, entry).await
            }
            Err(error) => Err(error),
        }
    }

    /// Reads once whether somebody stands behind our entry, and watches if nobody does; see
    /// [`Session::watch_behind`]. Passes the gate, unless an event demands the question.
    ///
    /// # Errors
    /// The errors of the session; [`ErrorKind::Unreachable`](crate::ErrorKind::Unreachable) if the gate
    /// holds the question back.
    pub(crate) async fn watch_behind(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        as_of: AsOf,
    ) -> Result<Behind, Error> {
        let passage = match as_of {
            AsOf::Change => None,
            AsOf::Now => Some(self.gate.enter(Try::First).map_err(Refusal::into_error)?),
        };
        let behind = self.session.watch_behind(ticket, entry).await;
        if let Some(passage) = passage {
            passage.end(&behind);
        }
        behind
    }

    /// Returns what decides whether requests are sent.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Waits until `blocker` is gone, or until its removal by this process has shown that the entry
    /// of this ticket, `own`, stands first.
    ///
    /// # Errors
    /// The errors of the session.
    pub(crate) async fn wait_for_change(
        &self,
        ticket: &Ticket,
        own: &EntryId,
        blocker: &EntryId,
    ) -> Result<Change, Error> {
        let mut expected = self.registry.expect(own, blocker);
        let is_first = tokio::select! {
            biased;
            () = expected.first() => true,
            gone = self.session.watch(blocker, Watcher::Waiter) => {
                gone?;
                expected.first_soon().await
            }
        };
        if !is_first {
            return Ok(Change::Gone);
        }
        let view = View {
            present: true,
            ahead: Vec::new(),
        };
        self.handoff.note_view(ticket, &view);
        Ok(Change::First)
    }

    /// Removes the entry of this ticket, and wakes those that stand first after that. If `entry` is
    /// unknown, removes any entry that an enqueue of the ticket made. Tries for as long as
    /// [`retry::remove`].
    ///
    /// # Cancel safety
    /// The entry may or may not have been removed: call it again.
    ///
    /// # Errors
    /// The errors of the last try.
    pub(crate) async fn remove(
        &self,
        ticket: &Ticket,
        entry: Option<&EntryId>,
    ) -> Result<Removed, Error> {
        self.remove_in(Tries::Few, ticket, entry).await
    }

    /// Removes the entry as [`remove`](HandoffSession::remove) does, but tries only once.
    ///
    /// # Cancel safety
    /// The entry may or may not have been removed: call it again.
    ///
    /// # Errors
    /// The errors of the try.
    pub(crate) async fn try_remove(
        &self,
        ticket: &Ticket,
        entry: Option<&EntryId>,
    ) -> Result<Removed, Error> {
        self.remove_in(Tries::One, ticket, entry).await
    }

    async fn remove_in(
        &self,
        tries: Tries,
        ticket: &Ticket,
        entry: Option<&EntryId>,
    ) -> Result<Removed, Error> {
        let Some(departure) = self.handoff.leave(ticket, entry) else {
            let removal = tries.remove(&*self.session, ticket, entry, &[]).await?;
            return Ok(removal.removed);
        };
        let (session, ticket) = (self.session.clone(), ticket.clone());
        let mut removal = Box::pin(hand_off(tries, session, ticket, departure));
        match poll_once(removal.as_mut()).await {
            Poll::Ready(removed) => removed,
            // The removal runs on the thread of the waiters: to cross to another thread would be a
            // part of the time in which nobody holds the lock.
            Poll::Pending => background::finish(removal).await,
        }
    }
}

/// How many times a removal is tried before it is left to the caller.
#[derive(Debug, Clone, Copy)]
enum Tries {
    One,
    Few,
}

impl Tries {
    async fn remove(
        self,
        session: &dyn Session,
        ticket: &Ticket,
        entry: Option<&EntryId>,
        waiters: &[EntryId],
    ) -> Result<Removal, Error> {
        match self {
            Tries::One => session.remove(ticket, entry, waiters).await,
            Tries::Few => retry::remove_before(session, ticket, entry, waiters).await,
        }
    }
}

/// Removes an entry that stands first, and wakes those that stand first after that.
async fn hand_off(
    tries: Tries,
    session: Arc<dyn Session>,
    ticket: Ticket,
    departure: Departure,
) -> Result<Removed, Error> {
    let (entry, waiters) = (departure.entry(), departure.waiters());
    let removal = tries
        .remove(&*session, &ticket, Some(entry), waiters)
        .await?;
    departure.hand_off_to(&removal.waiters);
    Ok(removal.removed)
}

/// Polls a future once, since a store in this process may be done at once, on the caller's thread.
async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

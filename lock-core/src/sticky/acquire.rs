//! An acquire of a sticky lock.

use std::sync::{Arc, Mutex, PoisonError};

use super::kept::{Kept, Others};
use super::options::{Sticky, StickyStats};
use super::slot::{Arrival, Slot};
use super::turn::{Acquiring, StickyHold, Turn};
use crate::background;
use crate::client::Client;
use crate::entry::Mode;
use crate::error::{Error, ErrorKind};
use crate::held_lock::{HeldLock, Release};
use crate::hold::Hold;
use crate::liveness::State;
use crate::name::LockName;
use crate::named::{Named, is_loss, no_lock_error};
use crate::observe::AcquireRecord;
use crate::operation::Operation;
use crate::options::OnSessionLoss;
use crate::wait_limit::WaitLimit;

/// The sticky part of a lock: its slot in this process, and what this handle of it asks for.
#[derive(Debug, Clone)]
pub(crate) struct StickyLock {
    slot: Arc<Slot>,
    sticky: Sticky,
}

/// How the wait for something has ended, other than by the end of the time to wait.
enum Waited<T> {
    Done(T),
    TimeUp,
}

impl StickyLock {
    /// Returns the sticky part of a lock of this name.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if no turn would be allowed; [`ErrorKind::Forked`] in a forked
    /// child.
    pub(crate) fn new(client: &Client, named: &Named, sticky: Sticky) -> Result<Self, Error> {
        background::check_process()?;
        if sticky.turns == 0 {
            let text = "a sticky lock without a turn cannot be held: give at least 1 turn";
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        Ok(StickyLock {
            slot: client.slots().of_lock(named.name()),
            sticky,
        })
    }

    pub(crate) fn stats(&self) -> StickyStats {
        self.slot.stats()
    }

    /// Acquires the lock exclusively. Returns `None` if others have it at the end of the limit.
    pub(crate) async fn acquire(
        &self,
        named: &Named,
        limit: WaitLimit,
        policy: OnSessionLoss,
        record: &AcquireRecord<'_>,
    ) -> Result<Option<HeldLock>, Error> {
        background::check_process()?;
        let Some(mut turn) = self.wait_for_turn(named, limit, policy, record).await? else {
            return Ok(None);
        };
        turn.set_sticky(self.sticky);
        if let Waited::TimeUp = settle(&mut turn, limit).await {
            // Nobody of this process has the lock, and the coordinator does not say who wants it.
            return Err(unanswered(named));
        }
        if turn.kept.is_none() {
            if let WaitLimit::Try(_) = limit {
                self.slot.note_no_place();
                // This one is observed as the hold of the turn.
                let unobserved = AcquireRecord::Unobserved;
                let tried = named.wait(Mode::Exclusive, limit, policy, &unobserved);
                let Some(held) = tried.await? else {
                    return Ok(None);
                };
                turn.kept = Some(Kept::take_over(held, self.slot.cools_down()));
            } else {
                match self.wait_for_grant(&mut turn, named, limit, policy).await? {
                    Waited::Done(kept) => turn.kept = Some(kept),
                    Waited::TimeUp => return self.end_in_time(named),
                }
            }
        }
        if turn.kept.as_ref().is_some_and(|kept| kept.expects_others()) {
            record.note_contention(false);
        }
        let Some(turn) = turn.into_hold() else {
            return Err(Error::new(ErrorKind::Internal, "a turn without an entry"));
        };
        Ok(self.begin_hold(turn, record))
    }

    /// Waits for the turn among the tasks of this process. Returns `None` if others have it at the end
    /// of the limit.
    async fn wait_for_turn(
        &self,
        named: &Named,
        limit: WaitLimit,
        policy: OnSessionLoss,
        record: &AcquireRecord<'_>,
    ) -> Result<Option<Turn>, Error> {
        let waits = !matches!(limit, WaitLimit::Try(_));
        loop {
            let passed = match self.slot.arrive(self.sticky, waits) {
                Arrival::Turn(turn) => return Ok(Some(turn)),
                Arrival::Busy => return Ok(None),
                Arrival::Wait(passed) => passed,
            };
            record.note_contention(false);
            let session = named.current_session();
            let warning = async {
                let Some(session) = &session else {
                    return std::future::pending().await;
                };
                let check = session.holders().check_wait(named.name());
                check.warn_later(named.name()).await
            };
            let passed = tokio::select! {
                biased;
                () = limit.wait_for_end() => return self.end_in_time(named),
                passed = passed => passed,
                never = warning => match never {},
            };
            match passed {
                Ok(Ok(turn)) => return Ok(Some(turn)),
                Ok(Err(error)) if policy == OnSessionLoss::Requeue && is_loss(&error) => {
                    named.note_requeue(&error);
                }
                Ok(Err(error)) => return Err(error),
                Err(closed) => {
                    let text = "a place in the local queue has vanished: please report this";
                    return Err(Error::new(ErrorKind::Internal, text).with_source(closed));
                }
            }
        }
    }

    /// Waits until the process's place in the queue is granted. The place outlives a task that gives
    /// up: the next one goes on with it.
    async fn wait_for_grant(
        &self,
        turn: &mut Turn,
        named: &Named,
        limit: WaitLimit,
        policy: OnSessionLoss,
    ) -> Result<Waited<Box<Kept>>, Error> {
        // A task that is to learn of a loss cannot go on with an acquire that hides it.
        turn.acquiring
            .take_if(|acquiring| acquiring.policy != policy);
        if turn.acquiring.is_none() {
            self.slot.note_no_place();
        }
        let acquiring = turn.acquiring.get_or_insert_with(|| Acquiring {
            policy,
            held: Mutex::new(Box::pin(acquire_for_all(
                named.clone(),
                self.slot.clone(),
                policy,
            ))),
        });
        let held = acquiring.held.get_mut();
        let held = held.unwrap_or_else(PoisonError::into_inner).as_mut();
        let granted = tokio::select! {
            biased;
            () = limit.wait_for_end() => return Ok(Waited::TimeUp),
            granted = held => granted,
        };
        turn.acquiring = None;
        // It was made for all of them, and each would only fail after the other.
        if let Err(error) = &granted {
            self.slot.note_lost_place(error);
        }
        granted.map(Waited::Done)
    }

    /// Begins the hold of a turn that has an entry.
    fn begin_hold(&self, held: StickyHold, record: &AcquireRecord<'_>) -> Option<HeldLock> {
        let kept = held.turn().kept.as_ref()?;
        let shared_session = kept.shared_session().clone();
        let observed = shared_session.session().liveness().observed().clone();
        let session = shared_session.session().id();
        let acquired = record.succeed(kept.token(), session, None);
        let number = self.slot.number_hold();
        let hold = Hold::new(
            shared_session.next_serial(),
            kept.ticket().clone(),
            kept.entry().clone(),
            kept.token(),
            observed,
            acquired,
            Some((Arc::downgrade(&self.slot), number)),
        );
        // Before it can be lost.
        self.slot.note_hold(held.turn(), number);
        shared_session.register(&hold);
        Some(HeldLock::new(shared_session, hold, false).with_turn(held))
    }

    /// Returns the outcome of an acquire whose time is over: `None` if others had the lock, and an error
    /// if the coordinator did not say so.
    fn end_in_time<T>(&self, named: &Named) -> Result<Option<T>, Error> {
        let session = named.current_session();
        let is_held = session.is_some_and(|it| it.session().liveness().state() == State::Held);
        match is_held && self.slot.has_place() {
            true => Ok(None),
            false => Err(unanswered(named)),
        }
    }

    /// Removes the entry if it is kept and nobody in this process uses it. Returns `None` otherwise.
    pub(crate) async fn give_up(&self, name: &LockName) -> Result<Option<Release>, Error> {
        background::check_process()?;
        match self.slot.take_parked() {
            Some(kept) => {
                let removed = kept.remove().await;
                let removed = removed.map_err(|e| e.during(Operation::Release, Some(name)));
                removed.map(Some)
            }
            None => Ok(None),
        }
    }
}

/// Returns the error of an acquire whose time is over before the coordinator has said who has the lock.
fn unanswered(named: &Named) -> Error {
    let name = named.name().as_str();
    let text = format!(
        "the time to wait for {name:?} is over, and the coordinator does not say who has it"
    );
    Error::new(ErrorKind::Unreachable, text)
}

/// Waits until it is decided whether the entry that is kept, if there is one, gives this turn a hold.
async fn settle(turn: &mut Turn, limit: WaitLimit) -> Waited<()> {
    while let Some(mut others) = turn.settle_kept() {
        let session = turn.kept.as_ref().map(|kept| kept.shared_session().clone());
        let lost = async {
            match &session {
                Some(session) => _ = session.session().liveness().lost().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = limit.wait_for_end() => return Waited::TimeUp,
            // If the keeper has ended, the entry is over.
            _ = others.wait_for(|others| !matches!(others, Others::Unknown(_))) => {}
            () = lost => {}
        }
    }
    Waited::Done(())
}

/// Acquires the lock for whichever task of this process has the turn then.
async fn acquire_for_all(
    named: Named,
    slot: Arc<Slot>,
    policy: OnSessionLoss,
) -> Result<Box<Kept>, Error> {
    let record = AcquireRecord::OfSlot(&slot);
    let held = named.wait(Mode::Exclusive, WaitLimit::Forever, policy, &record);
    let held = held.await?.ok_or_else(no_lock_error)?;
    let expects_others = held.was_contended() || slot.cools_down();
    Ok(Kept::take_over(held, expects_others))
}

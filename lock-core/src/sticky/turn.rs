//! The turn of one task of this process at a sticky lock.

use std::fmt;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::kept::{Judgement, Kept, Others};
use super::options::Sticky;
use super::slot::Slot;
use crate::background;
use crate::error::Error;
use crate::options::OnSessionLoss;

/// An acquire on behalf of the process, as the next task can go on with it: it belongs to the
/// process's place in the lock's queue, not to a task.
pub(super) struct Acquiring {
    pub(super) policy: OnSessionLoss,
    /// In a mutex that is never locked, since what a guard holds must be shareable among threads.
    pub(super) held: Mutex<BoxFuture<'static, Result<Box<Kept>, Error>>>,
}

/// The turn of one task: nobody else of this process acquires the lock or uses its entry. When it is
/// dropped, it goes to the next task, with the entry if that may be used further.
pub(super) struct Turn {
    slot: Arc<Slot>,
    /// The number of the turns that are passed on to each other. Once it is not that of the slot, the
    /// turn is over.
    generation: u64,
    sticky: Sticky,
    pub(super) kept: Option<Box<Kept>>,
    pub(super) acquiring: Option<Acquiring>,
    is_passed_on: bool,
}

/// The turn of a task that holds the lock.
#[derive(Debug)]
pub(crate) struct StickyHold {
    turn: Turn,
    number: u64,
}

impl Turn {
    pub(super) fn new(
        slot: &Arc<Slot>,
        generation: u64,
        sticky: Sticky,
        kept: Option<Box<Kept>>,
    ) -> Self {
        Turn {
            slot: slot.clone(),
            generation,
            sticky,
            kept,
            acquiring: None,
            is_passed_on: false,
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Goes on with what another task has begun, as this one's lock says.
    pub(super) fn set_sticky(&mut self, sticky: Sticky) {
        self.sticky = sticky;
    }

    pub(super) fn sticky(&self) -> &Sticky {
        &self.sticky
    }

    /// Decides whether the task may hold the lock with the entry that is kept. Lets a keeper find out
    /// what is not known. Gives up an entry that is not to be used. Returns what to wait for before
    /// the next decision, or nothing if it is made.
    pub(super) fn settle_kept(&mut self) -> Option<watch::Receiver<Others>> {
        let kept = self.kept.as_mut()?;
        match kept.judge(&self.sticky) {
            Judgement::Usable => None,
            Judgement::Unsure => {
                self.slot.watch(kept);
                kept.watched()
            }
            Judgement::Over => {
                self.kept = None;
                None
            }
        }
    }

    /// Begins the hold of the task. Returns `None` if there is no entry.
    pub(super) fn into_hold(mut self) -> Option<StickyHold> {
        let number = self.kept.as_mut()?.begin_turn();
        self.slot.count_turn(number);
        Some(StickyHold { turn: self, number })
    }

    /// Takes the turn apart, for another try to pass it on.
    pub(super) fn into_parts(mut self) -> (Option<Box<Kept>>, Option<Acquiring>) {
        self.is_passed_on = true;
        (self.kept.take(), self.acquiring.take())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_passed_on {
            return;
        }
        let (kept, mut acquiring) = (self.kept.take(), self.acquiring.take());
        // In a forked child, another thread of the parent may have locked the slot for ever.
        if background::is_forked() {
            std::mem::forget((kept, acquiring, self.slot.clone()));
            return;
        }
        // What has panicked would panic again in the next task.
        if std::thread::panicking() {
            acquiring = None;
        }
        let (generation, sticky) = (self.generation, self.sticky);
        self.slot.pass_on(generation, sticky, kept, acquiring);
    }
}

impl StickyHold {
    /// Returns the number of the turn: 0 for the first with its token.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn turn(&self) -> &Turn {
        &self.turn
    }

    /// Returns whether the entry is to be used further after this turn.
    pub(crate) fn is_worth_keeping(&self) -> bool {
        let kept = self.turn.kept.as_deref();
        kept.is_some_and(|kept| self.turn.slot.would_keep(kept, &self.turn.sticky))
    }

    /// Ends the turn, and leaves the removal of the entry to the caller.
    pub(crate) fn end_without_entry(mut self) {
        if let Some(mut kept) = self.turn.kept.take() {
            kept.leave();
        }
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("slot", &self.slot)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

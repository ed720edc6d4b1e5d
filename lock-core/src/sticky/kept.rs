//! An entry that is kept from one turn to the next, and what is known of those behind it.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::options::Sticky;
use crate::clock::{BootInstant, Clock};
use crate::entry::{EntryId, Ticket};
use crate::error::Error;
use crate::held_lock::{HeldLock, Release};
use crate::janitor::SharedSession;
use crate::liveness::State;
use crate::token::Token;

/// What is known of those who stand behind an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// It is not known whether anybody does, since this instant.
    Unknown(BootInstant),
    /// Nobody does, or the watch on them will say so.
    Nobody,
    /// Somebody does, and may have done so since this instant.
    Waiting(BootInstant),
    /// The entry itself is gone, or its session is.
    Gone,
}

/// Whether another turn may begin with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It may.
    Usable,
    /// It may once it is known that nobody else waits.
    Unsure,
    /// It may not. The entry is to be removed.
    Over,
}

/// An entry that holds its lock and is kept from one turn to the next. When it is dropped, the
/// janitor removes the entry.
#[derive(Debug)]
pub(crate) struct Kept {
    shared_session: Arc<SharedSession>,
    ticket: Ticket,
    entry: EntryId,
    token: Token,
    /// How many turns have begun with this entry.
    turns: u64,
    /// How many of them count: the last that began when nobody was known to wait, and those since.
    doubtful: u32,
    knowledge: Knowledge,
    /// Whether the removal of the entry is the caller's.
    is_taken: bool,
}

/// Where the knowledge of the others comes from.
#[derive(Debug)]
enum Knowledge {
    /// Nobody has asked.
    Assumed(Others),
    /// The keeper asks, and watches.
    Watched {
        others: watch::Receiver<Others>,
        /// Tells the keeper that the entry is not in use from now on.
        parked: Arc<Notify>,
    },
}

impl Kept {
    /// Takes over the entry of a hold that was just granted. With `expects_others`, somebody is
    /// believed to stand behind it.
    pub(super) fn take_over(held: HeldLock, expects_others: bool) -> Box<Self> {
        let (shared_session, hold) = held.into_parts();
        let now = Clock::system().now();
        Box::new(Kept {
            shared_session,
            ticket: hold.ticket().clone(),
            entry: hold.entry().clone(),
            token: hold.token(),
            turns: 0,
            doubtful: 0,
            knowledge: Knowledge::Assumed(match expects_others {
                true => Others::Waiting(now),
                false => Others::Unknown(now),
            }),
            is_taken: false,
        })
    }

    pub(super) fn shared_session(&self) -> &Arc<SharedSession> {
        &self.shared_session
    }

    pub(super) fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    pub(super) fn entry(&self) -> &EntryId {
        &self.entry
    }

    pub(super) fn token(&self) -> Token {
        self.token
    }

    pub(super) fn others(&self) -> Others {
        match &self.knowledge {
            Knowledge::Assumed(others) => *others,
            // A keeper leaves word, unless it was never there.
            Knowledge::Watched { others, .. } if others.has_changed().is_err() => {
                match *others.borrow() {
                    Others::Waiting(since) => Others::Waiting(since),
                    Others::Unknown(_) | Others::Nobody | Others::Gone => Others::Gone,
                }
            }
            Knowledge::Watched { others, .. } => *others.borrow(),
        }
    }

    /// Returns whether somebody is known, or believed, to stand behind the entry.
    pub(super) fn expects_others(&self) -> bool {
        matches!(self.others(), Others::Waiting(_))
    }

    /// Decides whether another turn may begin.
    pub(super) fn judge(&self, sticky: &Sticky) -> Judgement {
        // A session in jeopardy may end at any moment: that is no time to begin.
        if self.shared_session.session().liveness().state() != State::Held {
            return Judgement::Over;
        }
        let has_turn = |since: BootInstant| {
            let waited = Clock::system().now().saturating_since(since);
            self.doubtful < sticky.turns && waited <= sticky.overtime
        };
        match self.others() {
            Others::Nobody => Judgement::Usable,
            Others::Unknown(since) | Others::Waiting(since) if has_turn(since) => Judgement::Usable,
            Others::Unknown(_) => Judgement::Unsure,
            Others::Waiting(_) | Others::Gone => Judgement::Over,
        }
    }

    /// Begins a turn, and returns its number: 0 for the first with this entry.
    pub(super) fn begin_turn(&mut self) -> u64 {
        // Whoever comes during this turn finds it, and it counts.
        self.doubtful = match self.others() {
            Others::Nobody => 1,
            _ => self.doubtful.saturating_add(1),
        };
        let turn = self.turns;
        self.turns += 1;
        turn
    }

    /// Returns what the keeper is to fill with its knowledge, if there is no keeper yet.
    pub(super) fn begin_watch(&mut self) -> Option<(watch::Sender<Others>, Arc<Notify>)> {
        let Knowledge::Assumed(others) = self.knowledge else {
            return None;
        };
        let (sender, others) = watch::channel(others);
        let parked = Arc::<Notify>::default();
        self.knowledge = Knowledge::Watched {
            others,
            parked: parked.clone(),
        };
        Some((sender, parked))
    }

    /// Tells the keeper that the entry is not in use from now on.
    pub(super) fn tell_parked(&self) {
        if let Knowledge::Watched { parked, .. } = &self.knowledge {
            parked.notify_one();
        }
    }

    /// Returns the knowledge of the keeper, if there is one.
    pub(super) fn watched(&self) -> Option<watch::Receiver<Others>> {
        match &self.knowledge {
            Knowledge::Assumed(_) => None,
            Knowledge::Watched { others, .. } => Some(others.clone()),
        }
    }

    /// Removes the entry.
    pub(super) async fn remove(mut self: Box<Self>) -> Result<Release, Error> {
        // The keeper ends before the next entry of this process may stand behind this one.
        self.knowledge = Knowledge::Assumed(Others::Gone);
        let handoff = self.shared_session.handoff();
        let removed = handoff.remove(&self.ticket, Some(&self.entry)).await?;
        self.is_taken = true;
        Ok(removed.into())
    }

    /// Leaves the removal of the entry to the caller.
    pub(super) fn leave(&mut self) {
        self.is_taken = true;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !self.is_taken {
            self.shared_session
                .discard(self.ticket.clone(), Some(self.entry.clone()));
        }
    }
}

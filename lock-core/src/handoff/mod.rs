//! Hands locks over among the contenders of one process, for every backend.
//!
//! A waiter watches the nearest entry ahead of its own. If nothing stands ahead of that entry, its
//! removal leaves the waiter first. So the removal also reads whether the waiter's entry still
//! exists, not earlier than it removes. This read takes the place of the waiter's look. It saves
//! one round trip while nobody holds the lock, and no queue is read, however long it is. Nor does
//! each contender that arrives in a long queue read the queue: see `local_queue.rs`.

mod local_queue;
mod removal;
mod session;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxBuildHasher;

#[cfg(feature = "models")]
pub use self::local_queue::Order;
use self::removal::Departure;
pub(crate) use self::removal::HandoffRegistry;
pub(crate) use self::session::{Change, HandoffSession};
use crate::entry::{EntryId, Mode, Ticket};
use crate::name::LockName;
use crate::rule::{self, Ask, View};
use crate::session::Admission;

/// The part of one session in the handoffs: which of its entries stand first, as far as it knows.
#[derive(Debug)]
struct SessionHandoff {
    registry: Arc<HandoffRegistry>,
    seen: Mutex<Seen>,
}

/// The tickets with entries, by their serials. A process may hold very many locks, so a ticket that
/// holds its lock is kept without its entry.
#[derive(Debug, Default)]
struct Seen {
    /// The tickets whose entries were seen with nothing ahead. Nothing will ever stand ahead of
    /// them: later entries stand behind.
    front: HashSet<u64, FxBuildHasher>,
    /// The tickets that wait.
    others: HashMap<u64, (LockName, EntryId), FxBuildHasher>,
}

impl SessionHandoff {
    /// Creates the part of a session on the backend that this registry belongs to.
    fn new(registry: Arc<HandoffRegistry>) -> Self {
        SessionHandoff {
            registry,
            seen: Mutex::default(),
        }
    }

    /// Decides which part of the queue an enqueue reads, before it is sent. `again` says that an
    /// earlier attempt may have made the entry; then the enqueue reads only for itself.
    fn plan_enqueue<'a>(
        &'a self,
        ticket: &'a Ticket,
        admission: Admission,
        again: bool,
    ) -> EnqueuePlan<'a> {
        // Only an entry that waits for all that stands ahead can read for others.
        let plans = admission == Admission::Always && ticket.mode == Mode::Exclusive && !again;
        EnqueuePlan {
            session_handoff: self,
            ticket,
            limit: plans.then(|| self.registry.order().plan_enqueue(&ticket.name)),
            arriving: plans,
        }
    }

    /// Updates the order with the result of a waiter's look.
    fn note_view(&self, ticket: &Ticket, view: &View) {
        let Seen { front, others } = &mut *lock(&self.seen);
        if let Entry::Occupied(own) = others.entry(ticket.serial) {
            let (name, id) = own.get();
            let mut order = self.registry.order();
            order.saw(name, id, ticket.mode, view);
            if !is_waiting(view) {
                own.remove();
            }
            if is_front(ticket.mode, view) {
                front.insert(ticket.serial);
            }
        }
    }

    /// Prepares the removal of this ticket's entry, which is `entry` if that is known. Returns
    /// `None` if the removal makes no waiter the first. An entry that does not stand first has
    /// others ahead, so its waiter must look at the queue.
    fn leave(&self, ticket: &Ticket, entry: Option<&EntryId>) -> Option<Departure> {
        {
            let Seen { front, others } = &mut *lock(&self.seen);
            if !front.remove(&ticket.serial) {
                let (name, own) = others.remove(&ticket.serial)?;
                self.registry.order().forget(&name, &own);
                return None;
            }
        }
        self.registry.begin(&ticket.name, entry?)
    }
}

/// Forgets the entries, which go with the session.
impl Drop for SessionHandoff {
    fn drop(&mut self) {
        let seen = lock(&self.seen);
        let mut order = self.registry.order();
        let mut forget = |(name, own): &(LockName, EntryId)| order.forget(name, own);
        seen.others.values().for_each(&mut forget);
    }
}

/// Returns whether an entry with this view waits.
fn is_waiting(view: &View) -> bool {
    view.present && !view.ahead.is_empty()
}

/// Returns whether an entry with this view stands first. Only an exclusive entry asks for all
/// entries ahead.
fn is_front(mode: Mode, view: &View) -> bool {
    view.present && view.ahead.is_empty() && mode == Mode::Exclusive
}

/// An enqueue under way, which reads the queue or assumes. It is over when this is dropped.
#[derive(Debug)]
struct EnqueuePlan<'a> {
    session_handoff: &'a SessionHandoff,
    ticket: &'a Ticket,
    /// How many entries the enqueue reads, also for others; zero if it assumes. `None` if it reads
    /// only for itself.
    limit: Option<usize>,
    /// Whether it is counted among the arriving ones.
    arriving: bool,
}

impl EnqueuePlan<'_> {
    /// Returns which part of the queue to read. It is more than the entry needs if that confirms
    /// the assumptions of others. The limit is zero, and nothing is read, if others of this process
    /// stand ahead or will.
    fn ask(&self) -> Ask {
        let ask = rule::ask(self.ticket.mode);
        let limit = match self.limit {
            Some(0) => 0,
            Some(limit) => limit.max(ask.limit),
            None => ask.limit,
        };
        Ask { limit, ..ask }
    }

    /// Records the entry that the enqueue made, with the view that it read, and returns the entry's
    /// view. The view of an entry that assumes is its assumption, whatever was read. Returns `None`
    /// if there is nothing to assume; then a look has to find out.
    fn place(&mut self, own: &EntryId, mut read: View) -> Option<View> {
        let Ticket {
            name, mode, serial, ..
        } = self.ticket;
        let mut seen = lock(&self.session_handoff.seen);
        let mut order = self.session_handoff.registry.order();
        let view = match self.limit {
            Some(0) if read.present => order.assume(name, own, *mode).map(|ahead| View {
                present: true,
                ahead: vec![ahead],
            }),
            _ => {
                if read.present && *mode == Mode::Exclusive {
                    order.read(name, own, &read.ahead);
                }
                order.saw(name, own, *mode, &read);
                read.ahead.truncate(rule::ask(*mode).limit);
                Some(read)
            }
        };
        if std::mem::take(&mut self.arriving) {
            order.end_enqueue(name);
        }
        drop(order);
        if view.as_ref().is_some_and(|view| is_front(*mode, view)) {
            seen.front.insert(*serial);
        } else if view.as_ref().is_none_or(is_waiting) {
            seen.others.insert(*serial, (name.clone(), own.clone()));
        }
        view
    }
}

impl Drop for EnqueuePlan<'_> {
    fn drop(&mut self) {
        if self.arriving {
            let mut order = self.session_handoff.registry.order();
            order.end_enqueue(&self.ticket.name);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incarnation::Incarnation;
    use crate::rule::Ahead;

    /// Returns the name of the only queue.
    pub(super) fn queue() -> LockName {
        LockName::new("a").expect("valid")
    }

    pub(super) fn entry(token: u64) -> EntryId {
        EntryId {
            key: b"queue/write/1-1".as_slice().into(),
            incarnation: Incarnation::new(token),
        }
    }

    /// Returns the view of an entry with these ahead.
    pub(super) fn behind(ahead: &[u64]) -> View {
        let ahead = ahead.iter().map(|token| Ahead {
            id: entry(*token),
            mode: Mode::Exclusive,
        });
        View {
            present: true,
            ahead: ahead.collect(),
        }
    }

    fn ticket(mode: Mode, serial: u64) -> Ticket {
        Ticket {
            name: queue(),
            mode,
            serial,
            metadata: Arc::default(),
        }
    }

    /// Lets this ticket's entry arrive, with this view if it reads.
    fn arrives(session_handoff: &SessionHandoff, mode: Mode, token: u64, read: &[u64]) -> View {
        let ticket = ticket(mode, token);
        let mut plan = session_handoff.plan_enqueue(&ticket, Admission::Always, false);
        plan.place(&entry(token), behind(read))
            .expect("others wait")
    }

    #[tokio::test]
    async fn only_the_first_entry_hands_off() {
        let handoffs = Arc::<HandoffRegistry>::default();
        let (own, waiter) = (entry(5), entry(8));
        let behind_ours = SessionHandoff::new(handoffs.clone());
        arrives(&behind_ours, Mode::Exclusive, 8, &[5]);
        let _waits = handoffs.expect(&waiter, &own);
        let leaves = |mode, views: &[&[u64]]| {
            let session_handoff = SessionHandoff::new(handoffs.clone());
            let ticket = ticket(mode, 5);
            session_handoff.note_view(&ticket, &behind(&[]));
            for (number, view) in views.iter().enumerate() {
                match number {
                    0 => drop(arrives(&session_handoff, mode, 5, view)),
                    _ => session_handoff.note_view(&ticket, &behind(view)),
                }
            }
            let departure = session_handoff.leave(&ticket, Some(&own)).is_some();
            // A view that is read after the removal is out of date.
            session_handoff.note_view(&ticket, &behind(&[]));
            assert!(session_handoff.leave(&ticket, Some(&own)).is_none());
            departure
        };
        assert!(leaves(Mode::Exclusive, &[&[]]));
        assert!(leaves(Mode::Exclusive, &[&[1], &[]]));
        assert!(!leaves(Mode::Exclusive, &[&[1], &[1]]));
        assert!(!leaves(Mode::Exclusive, &[]));
        assert!(!leaves(Mode::Shared, &[&[]]), "readers may be ahead");
    }

    #[test]
    fn only_an_exclusive_waiter_assumes_its_predecessor() {
        let session_handoff = SessionHandoff::new(Arc::<HandoffRegistry>::default());
        arrives(&session_handoff, Mode::Exclusive, 1, &[]);
        let reads = |mode, admission| {
            let ticket = ticket(mode, 9);
            let plan = session_handoff.plan_enqueue(&ticket, admission, false);
            plan.ask().limit > 0
        };
        assert!(reads(Mode::Exclusive, Admission::Always), "nobody waits");
        arrives(&session_handoff, Mode::Exclusive, 2, &[1]);
        assert!(reads(Mode::Exclusive, Admission::Always), "it is alone");
        arrives(&session_handoff, Mode::Shared, 3, &[2]);
        assert!(!reads(Mode::Exclusive, Admission::Always));
        assert!(reads(Mode::Exclusive, Admission::IfFree));
        assert!(reads(Mode::Shared, Admission::Always));
        let again = ticket(Mode::Exclusive, 9);
        let again = session_handoff.plan_enqueue(&again, Admission::Always, true);
        assert!(again.ask().limit > 0, "an earlier try may have made it");
        let other = Ticket {
            name: LockName::new("other").expect("valid"),
            ..ticket(Mode::Exclusive, 9)
        };
        let other = session_handoff.plan_enqueue(&other, Admission::Always, false);
        assert!(other.ask().limit > 0, "another queue");
    }

    #[test]
    fn a_guess_that_names_nobody_is_no_view() {
        let session_handoff = SessionHandoff::new(Arc::<HandoffRegistry>::default());
        let tickets = [5, 6, 7, 8].map(|token| ticket(Mode::Exclusive, token));
        let arrive = |ticket| session_handoff.plan_enqueue(ticket, Admission::Always, false);
        let [mut holder, mut second, mut third, fourth] = tickets.each_ref().map(arrive);
        assert_eq!(fourth.ask().limit, 3, "the second guess is one too many");
        let place = |plan: &mut EnqueuePlan<'_>, token, read: &[u64]| {
            plan.place(&entry(token), behind(read))
        };
        assert_eq!(third.ask().limit, 0);
        assert_eq!(place(&mut holder, 5, &[]), Some(behind(&[])));
        assert_eq!(place(&mut third, 7, &[]), None, "the holder does not wait");
        assert_eq!(place(&mut second, 6, &[5]), Some(behind(&[5])));
        assert_eq!(place(&mut third, 7, &[]), Some(behind(&[6])));
        let gone = View {
            present: false,
            ..behind(&[])
        };
        assert_eq!(third.place(&entry(7), gone.clone()), Some(gone));
        let again = session_handoff.plan_enqueue(&tickets[2], Admission::Always, true);
        assert_eq!(again.ask(), rule::ask(Mode::Exclusive));
    }

    #[test]
    fn an_assumption_is_no_grant_and_reads_for_others_stay_internal() {
        let handoffs = Arc::<HandoffRegistry>::default();
        let session_handoff = SessionHandoff::new(handoffs.clone());
        arrives(&session_handoff, Mode::Exclusive, 1, &[]);
        for token in 2..=5 {
            arrives(&session_handoff, Mode::Exclusive, token, &[token - 1]);
        }
        let view = arrives(&session_handoff, Mode::Exclusive, 6, &[]);
        assert_eq!(view, behind(&[5]), "nothing was read");
        let front = session_handoff.leave(&ticket(Mode::Exclusive, 6), Some(&entry(6)));
        assert!(front.is_none());
        let mut ahead = vec![5];
        let arriving = ticket(Mode::Exclusive, 100);
        let mut reading = loop {
            let mut plan = session_handoff.plan_enqueue(&arriving, Admission::Always, false);
            if plan.ask().limit > 0 {
                break plan;
            }
            let next = ahead[0] + 2;
            plan.place(&entry(next), behind(&[]));
            ahead.insert(0, next);
        };
        let limit = reading.ask().limit;
        assert!(limit > ahead.len(), "{limit} do not prove {ahead:?}");
        let own = entry(ahead[0] + 1);
        let read = reading.place(&own, behind(&ahead));
        assert_eq!(read, Some(behind(&ahead[..1])));
        let order = handoffs.order();
        assert!(order.stands_right_behind(&queue(), &entry(7), &entry(5)));
    }

    #[test]
    fn known_entries_are_forgotten_with_their_waiters() {
        let handoffs = Arc::<HandoffRegistry>::default();
        let session_handoff = SessionHandoff::new(handoffs.clone());
        for token in 1..=9 {
            arrives(&session_handoff, Mode::Exclusive, token, &[token - 1]);
        }
        for token in 1..=9 {
            assert!(!handoffs.order().is_empty());
            session_handoff.leave(&ticket(Mode::Exclusive, token), None);
        }
        assert!(handoffs.order().is_empty());
        arrives(&session_handoff, Mode::Exclusive, 10, &[4]);
        session_handoff.note_view(&ticket(Mode::Exclusive, 10), &behind(&[]));
        assert!(handoffs.order().is_empty(), "it holds");
        arrives(&session_handoff, Mode::Exclusive, 11, &[10]);
        drop(session_handoff);
        assert!(handoffs.order().is_empty(), "a lost session");
    }
}

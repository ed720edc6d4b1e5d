//! Handoffs among sessions of one process, for backends. Who waits for an entry was told that it is
//! the nearest one ahead; if nothing stands ahead of that either, the removal of it leaves the waiter
//! first. So a removal that also reads whether the waiter is still there, not earlier than it is
//! done, is the waiter's look: one round trip less while nobody holds the lock, and no reading of
//! the queue, whatever its length. Nor does each that arrives in a long queue read that: see
//! `order.rs`.

mod local_queue;
mod removal;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::local_queue::KeyScheme;
pub use self::removal::{Departure, HandoffRegistry};
use crate::entry::{EntryId, Ticket};
use crate::error::Error;
use crate::rule::{Ask, View};
use crate::session::{Admission, AsOf};

/// One session's part in the handoffs: which of its entries stand first, as far as it knows.
#[derive(Debug)]
pub struct SessionHandoff {
    handoffs: Arc<HandoffRegistry>,
    seen: Mutex<Seen>,
    /// An entry that stands first, as the removal of the one before it told: for the look to come.
    told: Mutex<Option<EntryId>>,
}

/// The tickets with entries, by their serials. A process may hold very many locks: nothing is kept
/// with a ticket whose entry stands first.
#[derive(Debug, Default)]
struct Seen {
    /// Those that were seen with nothing ahead, and so nothing ever will be: whoever comes later
    /// stands behind.
    front: HashSet<u64>,
    others: HashMap<u64, EntryId>,
}

impl SessionHandoff {
    /// Of a session of the backend with these handoffs.
    pub fn new(handoffs: Arc<HandoffRegistry>) -> Self {
        SessionHandoff {
            handoffs,
            seen: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// An enqueue that asks for this is about to be sent, to this queue.
    pub fn arrive<'a>(
        &'a self,
        queue: &'a [u8],
        ask: Ask,
        admission: Admission,
    ) -> EnqueuePlan<'a> {
        // Only who needs to see all that stands ahead can read for others.
        let limit = match admission {
            Admission::Always if !ask.exclusive_only => Some(self.handoffs.order().arrives(queue)),
            Admission::Always | Admission::IfFree => None,
        };
        EnqueuePlan {
            session_handoff: self,
            queue,
            ask,
            limit,
        }
    }

    /// A look at this ticket's entry found this.
    pub fn looked(&self, ticket: &Ticket, ask: Ask, view: &View) {
        let Seen { front, others } = &mut *lock(&self.seen);
        if let Entry::Occupied(own) = others.entry(ticket.serial) {
            let mut order = self.handoffs.order();
            order.saw(own.get(), ticket.mode, view);
            if is_front(ask, view) {
                own.remove();
                front.insert(ticket.serial);
            }
        }
    }

    /// What a look would find, if the change that it follows has told that the entry stands first:
    /// as fresh as that change.
    pub fn told(&self, ticket: &Ticket, entry: &EntryId, ask: Ask, as_of: AsOf) -> Option<View> {
        if as_of != AsOf::Change {
            return None;
        }
        lock(&self.told).take_if(|first| first == entry)?;
        let view = View {
            present: true,
            ahead: Vec::new(),
        };
        self.looked(ticket, ask, &view);
        Some(view)
    }

    /// Resolves when `entry` is gone, which `gone` tells by the store's own means, or when the
    /// removal of it has told that `own`, which waits for it, stands first.
    ///
    /// *Cancel safety:* that of `gone`.
    ///
    /// # Errors
    /// Those of `gone`.
    pub async fn changed(
        &self,
        entry: &EntryId,
        own: &EntryId,
        gone: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        if entry == own || !self.handoffs.share_a_queue(entry, own) {
            return gone.await;
        }
        let mut expected = self.handoffs.expect(entry, own);
        let first = tokio::select! {
            biased;
            () = expected.first() => true,
            gone = gone => {
                gone?;
                expected.first_soon().await
            }
        };
        if first {
            *lock(&self.told) = Some(own.clone());
        }
        Ok(())
    }

    /// This ticket's entry is about to be removed; `entry` is it, if there can be no other of this
    /// ticket. `None` if its removal makes nobody the first: whoever waits for one that stands
    /// elsewhere must look what else is there.
    pub fn leave(&self, ticket: &Ticket, entry: Option<&EntryId>) -> Option<Departure> {
        {
            let Seen { front, others } = &mut *lock(&self.seen);
            if !front.remove(&ticket.serial) {
                let own = others.remove(&ticket.serial)?;
                self.handoffs.order().forget(&own);
                return None;
            }
        }
        self.handoffs.begin(entry?)
    }
}

/// With the session go the entries.
impl Drop for SessionHandoff {
    fn drop(&mut self) {
        let seen = lock(&self.seen);
        let mut order = self.handoffs.order();
        seen.others.values().for_each(|own| order.forget(own));
    }
}

/// Only an exclusive entry asks for all that stands ahead.
fn is_front(ask: Ask, view: &View) -> bool {
    view.present && view.ahead.is_empty() && !ask.exclusive_only
}

/// An enqueue under way, that reads the queue or does without. Dropped, it is over.
#[derive(Debug)]
pub struct EnqueuePlan<'a> {
    session_handoff: &'a SessionHandoff,
    queue: &'a [u8],
    ask: Ask,
    /// How many entries to read, for others too; nothing if it assumes. `None` if it reads for
    /// itself alone, and is not counted among those who arrive.
    limit: Option<usize>,
}

impl EnqueuePlan<'_> {
    /// What to read of the queue: more than the entry itself needs to see, if that proves something
    /// of others; nothing, by a limit of zero, if others of this process stand ahead or will.
    pub fn ask(&self) -> Ask {
        let limit = match self.limit {
            Some(0) => 0,
            Some(limit) => limit.max(self.ask.limit),
            None => self.ask.limit,
        };
        Ask { limit, ..self.ask }
    }

    /// It has to read after all: an earlier try may have made an entry, too, or the queue may not
    /// be the same.
    pub fn must_read(&mut self) {
        if self.limit == Some(0) {
            self.end();
        }
    }

    /// It made this ticket's entry, which saw this. What it sees: of a assume, that alone, whatever
    /// is said to have been read; `None` if there is nothing to assume, and a look has to tell.
    pub fn placed(&self, ticket: &Ticket, own: &EntryId, mut read: View) -> Option<View> {
        let mut seen = lock(&self.session_handoff.seen);
        let mut order = self.session_handoff.handoffs.order();
        let view = match self.limit {
            Some(0) => order.assume(own, ticket.mode).map(|ahead| View {
                present: true,
                ahead: vec![ahead],
            }),
            _ => {
                if read.present && !self.ask.exclusive_only {
                    order.read(own, &read.ahead);
                }
                order.saw(own, ticket.mode, &read);
                read.ahead.truncate(self.ask.limit);
                Some(read)
            }
        };
        match view.as_ref().is_some_and(|view| is_front(self.ask, view)) {
            true => _ = seen.front.insert(ticket.serial),
            false => _ = seen.others.insert(ticket.serial, own.clone()),
        }
        view
    }

    fn end(&mut self) {
        if self.limit.take().is_some() {
            self.session_handoff.handoffs.order().arrived(self.queue);
        }
    }
}

impl Drop for EnqueuePlan<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::entry::Mode;
    use crate::incarnation::Incarnation;
    use crate::name::LockName;
    use crate::rule::{self, Ahead};

    const QUEUE: &[u8] = b"queue";

    pub(super) const KEY_SCHEME: KeyScheme = KeyScheme {
        queue: |_| Some(QUEUE),
        seen: EntryId::clone,
    };

    pub(super) fn entry(token: u64) -> EntryId {
        EntryId {
            key: b"queue/write/1-1".as_slice().into(),
            incarnation: Incarnation::new(token),
        }
    }

    /// What an entry sees that has these ahead.
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
            name: LockName::new("a").expect("valid"),
            mode,
            serial,
            metadata: Arc::default(),
        }
    }

    /// Arrives for this ticket, and has the entry see this if it reads.
    fn arrives(session_handoff: &SessionHandoff, mode: Mode, token: u64, read: &[u64]) -> View {
        let plan = session_handoff.arrive(QUEUE, rule::ask(mode), Admission::Always);
        let view = plan.placed(&ticket(mode, token), &entry(token), behind(read));
        view.expect("others wait")
    }

    #[tokio::test]
    async fn only_who_stands_in_front_hands_over() {
        let handoffs = HandoffRegistry::new(KEY_SCHEME);
        let (ours, waiter) = (entry(5), entry(8));
        let behind_ours = SessionHandoff::new(handoffs.clone());
        arrives(&behind_ours, Mode::Exclusive, 8, &[5]);
        let _waits = handoffs.expect(&ours, &waiter);
        let leaves = |mode, views: &[&[u64]]| {
            let session_handoff = SessionHandoff::new(handoffs.clone());
            let (ticket, ask) = (ticket(mode, 5), rule::ask(mode));
            session_handoff.looked(&ticket, ask, &behind(&[]));
            for (number, view) in views.iter().enumerate() {
                match number {
                    0 => drop(arrives(&session_handoff, mode, 5, view)),
                    _ => session_handoff.looked(&ticket, ask, &behind(view)),
                }
            }
            let departure = session_handoff.leave(&ticket, Some(&ours)).is_some();
            // What is seen of it afterwards is of the past.
            session_handoff.looked(&ticket, ask, &behind(&[]));
            assert!(session_handoff.leave(&ticket, Some(&ours)).is_none());
            departure
        };
        assert!(leaves(Mode::Exclusive, &[&[]]));
        assert!(leaves(Mode::Exclusive, &[&[1], &[]]));
        assert!(!leaves(Mode::Exclusive, &[&[1], &[1]]));
        assert!(!leaves(Mode::Exclusive, &[]));
        assert!(!leaves(Mode::Shared, &[&[]]), "readers may be ahead");
    }

    #[tokio::test]
    async fn what_was_told_is_one_look() {
        let handoffs = HandoffRegistry::new(KEY_SCHEME);
        let (ours, waiter) = (entry(5), entry(8));
        let session_handoff = SessionHandoff::new(handoffs.clone());
        let (ticket, ask) = (ticket(Mode::Exclusive, 8), rule::ask(Mode::Exclusive));
        arrives(&session_handoff, Mode::Exclusive, 8, &[5]);
        let removal = async {
            let departure = handoffs.begin(&ours).expect("awaited");
            departure.left(vec![waiter.clone()]);
        };
        let changed = session_handoff.changed(&ours, &waiter, pending());
        let (changed, ()) = tokio::join!(biased; changed, removal);
        changed.expect("told");
        let look = |as_of| session_handoff.told(&ticket, &waiter, ask, as_of);
        assert_eq!(look(AsOf::Now), None, "not fresh enough");
        assert_eq!(look(AsOf::Change), Some(behind(&[])));
        assert_eq!(look(AsOf::Change), None, "told once");
        let gone = session_handoff.changed(&waiter, &waiter, std::future::ready(Ok(())));
        gone.await.expect("gone");
        assert_eq!(look(AsOf::Change), None, "only gone");
    }

    #[test]
    fn only_who_waits_anyway_for_all_that_stands_ahead_guesses() {
        let session_handoff = SessionHandoff::new(HandoffRegistry::new(KEY_SCHEME));
        arrives(&session_handoff, Mode::Exclusive, 1, &[]);
        let reads = |mode, admission| {
            let plan = session_handoff.arrive(QUEUE, rule::ask(mode), admission);
            plan.ask().limit > 0
        };
        assert!(reads(Mode::Exclusive, Admission::Always), "nobody waits");
        arrives(&session_handoff, Mode::Exclusive, 2, &[1]);
        assert!(reads(Mode::Exclusive, Admission::Always), "it is alone");
        arrives(&session_handoff, Mode::Shared, 3, &[2]);
        assert!(!reads(Mode::Exclusive, Admission::Always));
        assert!(reads(Mode::Exclusive, Admission::IfFree));
        assert!(reads(Mode::Shared, Admission::Always));
        let other = session_handoff.arrive(b"other", rule::ask(Mode::Exclusive), Admission::Always);
        assert!(other.ask().limit > 0, "another queue");
    }

    #[test]
    fn a_guess_that_names_nobody_is_no_view() {
        let session_handoff = SessionHandoff::new(HandoffRegistry::new(KEY_SCHEME));
        let ask = rule::ask(Mode::Exclusive);
        let arrive = || session_handoff.arrive(QUEUE, ask, Admission::Always);
        let [holder, second, mut third, fourth] = [(); 4].map(|()| arrive());
        assert_eq!(fourth.ask().limit, 3, "the second assume is one too many");
        let placed = |plan: &EnqueuePlan<'_>, token, read: &[u64]| {
            plan.placed(&ticket(Mode::Exclusive, token), &entry(token), behind(read))
        };
        assert_eq!(third.ask().limit, 0);
        assert_eq!(placed(&holder, 5, &[]), Some(behind(&[])));
        assert_eq!(placed(&third, 7, &[]), None, "the holder does not wait");
        assert_eq!(placed(&second, 6, &[5]), Some(behind(&[5])));
        assert_eq!(placed(&third, 7, &[]), Some(behind(&[6])));
        third.must_read();
        assert_eq!(third.ask(), ask);
    }

    #[test]
    fn a_guess_is_no_grant_and_what_is_read_for_others_is_not_told() {
        let handoffs = HandoffRegistry::new(KEY_SCHEME);
        let session_handoff = SessionHandoff::new(handoffs.clone());
        arrives(&session_handoff, Mode::Exclusive, 1, &[]);
        for token in 2..=5 {
            arrives(&session_handoff, Mode::Exclusive, token, &[token - 1]);
        }
        let view = arrives(&session_handoff, Mode::Exclusive, 6, &[]);
        assert_eq!(view, behind(&[5]), "nothing was read");
        let ask = rule::ask(Mode::Exclusive);
        let front = session_handoff.leave(&ticket(Mode::Exclusive, 6), Some(&entry(6)));
        assert!(front.is_none());
        let mut ahead = vec![5];
        let reading = loop {
            let plan = session_handoff.arrive(QUEUE, ask, Admission::Always);
            if plan.ask().limit > 0 {
                break plan;
            }
            let next = ahead[0] + 2;
            plan.placed(&ticket(Mode::Exclusive, next), &entry(next), behind(&[]));
            ahead.insert(0, next);
        };
        let limit = reading.ask().limit;
        assert!(limit > ahead.len(), "{limit} do not prove {ahead:?}");
        let own = entry(ahead[0] + 1);
        let read = reading.placed(&ticket(Mode::Exclusive, 100), &own, behind(&ahead));
        assert_eq!(read, Some(behind(&ahead[..1])));
        assert!(handoffs.order().stands_right_behind(&entry(7), &entry(5)));
    }

    #[test]
    fn what_is_known_goes_with_those_who_wait() {
        let handoffs = HandoffRegistry::new(KEY_SCHEME);
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
        let (ticket, ask) = (ticket(Mode::Exclusive, 10), rule::ask(Mode::Exclusive));
        session_handoff.looked(&ticket, ask, &behind(&[]));
        assert!(handoffs.order().is_empty(), "it holds");
        arrives(&session_handoff, Mode::Exclusive, 11, &[10]);
        drop(session_handoff);
        assert!(handoffs.order().is_empty(), "a lost session");
    }
}

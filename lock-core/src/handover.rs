//! Hand-overs among sessions of one process, for backends. Who waits for an entry was told that it is
//! the nearest one ahead; if nothing stands ahead of that either, the removal of it leaves the waiter
//! first. So a removal that also reads whether the waiter is still there, not earlier than it is
//! done, is the waiter's look: one round trip less while nobody holds the lock, and no reading of
//! the queue, whatever its length.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::background;
use crate::entry::{EntryId, Ticket};
use crate::error::Error;
use crate::rule::{Ask, View};
use crate::session::AsOf;

/// The event of a removal and the answer to it leave the server together. If the event comes first,
/// the answer is waited for this long at most: it may be lost.
const SOON: Duration = Duration::from_millis(5);

/// Of more than this many, who all read after one who wrote, the others look for themselves.
const MOST: usize = 8;

/// One session's part in the hand-overs: which of its entries stand first, as far as it knows.
#[derive(Debug)]
pub struct Fronts {
    handovers: Arc<Handovers>,
    /// For each ticket with an entry, by its serial, whether that was seen with nothing ahead of
    /// it, and so nothing ever will be: whoever comes later stands behind.
    seen: Mutex<HashMap<u64, bool>>,
    /// An entry that stands first, as the removal of the one before it told: for the look to come.
    told: Mutex<Option<EntryId>>,
}

impl Fronts {
    /// Of a session of the backend with these hand-overs.
    pub fn new(handovers: Arc<Handovers>) -> Self {
        Fronts {
            handovers,
            seen: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// An enqueue of this ticket made an entry, which saw this.
    pub fn placed(&self, ticket: &Ticket, ask: Ask, view: &View) {
        lock(&self.seen).insert(ticket.serial, is_front(ask, view));
    }

    /// A look at this ticket's entry found this.
    pub fn looked(&self, ticket: &Ticket, ask: Ask, view: &View) {
        if is_front(ask, view)
            && let Some(front) = lock(&self.seen).get_mut(&ticket.serial)
        {
            *front = true;
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
    /// removal of it has told that `own`, last seen right behind it in the same queue, stands first.
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
        if entry == own {
            return gone.await;
        }
        let mut expected = self.handovers.expect(entry, own);
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

    /// This ticket's entry is about to be removed; `entry` is what those behind it know it as, if
    /// there can be no other of this ticket. `None` if its removal makes nobody the first: whoever
    /// waits for one that stands elsewhere must look what else is there.
    pub fn leave(&self, ticket: &Ticket, entry: Option<EntryId>) -> Option<Leaving> {
        let front = lock(&self.seen).remove(&ticket.serial)?;
        self.handovers.begin(entry.filter(|_| front)?)
    }
}

/// Only an exclusive entry asks for all that stands ahead.
fn is_front(ask: Ask, view: &View) -> bool {
    view.present && view.ahead.is_empty() && !ask.exclusive_only
}

/// The entries that somebody waits for: one of these for each backend. Bounded by those who wait.
#[derive(Debug, Default)]
pub struct Handovers {
    awaited: Mutex<HashMap<EntryId, Awaited>>,
}

#[derive(Debug)]
struct Awaited {
    /// The entries that stand behind it, of those who wait for it.
    waiters: Vec<EntryId>,
    stage: watch::Sender<Stage>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// It stands in its queue, as far as this process knows.
    Standing,
    /// This process has asked for its removal.
    Leaving,
    /// It was removed, and these, who waited for it, were there then.
    Left(Vec<EntryId>),
}

impl Handovers {
    /// Waits for this entry's removal from now on, for the sake of one behind it.
    fn expect<'a>(&'a self, entry: &'a EntryId, own: &'a EntryId) -> Expected<'a> {
        let mut awaited = lock(&self.awaited);
        let found = awaited.entry(entry.clone()).or_insert_with(|| Awaited {
            waiters: Vec::new(),
            stage: watch::Sender::new(Stage::Standing),
        });
        found.waiters.push(own.clone());
        Expected {
            handovers: self,
            entry,
            own,
            stage: found.stage.subscribe(),
        }
    }

    /// This entry, with nothing ahead of it, is about to be removed. `None` if nobody waits for
    /// that.
    fn begin(self: &Arc<Self>, entry: EntryId) -> Option<Leaving> {
        let mut waiters = lock(&self.awaited).get(&entry)?.waiters.clone();
        waiters.truncate(MOST);
        self.tell(&entry, Stage::Leaving);
        Some(Leaving {
            handovers: self.clone(),
            entry,
            waiters,
        })
    }

    fn tell(&self, entry: &EntryId, stage: Stage) {
        if let Some(found) = lock(&self.awaited).get(entry) {
            // What was told of one removal is not taken back by another.
            found.stage.send_if_modified(|now| {
                let news = !matches!(now, Stage::Left(_));
                if news {
                    *now = stage;
                }
                news
            });
        }
    }
}

/// A wait for the removal of an entry. Dropped, it is over.
#[derive(Debug)]
struct Expected<'a> {
    handovers: &'a Handovers,
    entry: &'a EntryId,
    own: &'a EntryId,
    stage: watch::Receiver<Stage>,
}

impl Expected<'_> {
    /// Resolves when the answer to the removal has told that our own entry stands first; never, if
    /// it is not this process that removes it, or not in time for us. Can be called again.
    async fn first(&mut self) {
        let told = self.past(|stage| matches!(stage, Stage::Left(_))).await;
        if !self.is_first(&told) {
            pending().await
        }
    }

    /// The removal was seen otherwise: whether the answer to it, if there is one soon, tells that
    /// our own entry stands first.
    async fn first_soon(&mut self) -> bool {
        let told = tokio::select! {
            biased;
            stage = self.past(|stage| !matches!(stage, Stage::Leaving)) => Some(stage),
            () = background::sleep(SOON) => None,
        };
        told.is_some_and(|stage| self.is_first(&stage))
    }

    fn is_first(&self, stage: &Stage) -> bool {
        matches!(stage, Stage::Left(there) if there.contains(self.own))
    }

    async fn past(&mut self, reached: impl FnMut(&Stage) -> bool) -> Stage {
        let reached = self.stage.wait_for(reached).await;
        match reached.map(|stage| stage.clone()) {
            Ok(stage) => stage,
            // The sender lives as long as anybody expects something of it.
            Err(_) => pending().await,
        }
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        let mut awaited = lock(&self.handovers.awaited);
        if let Some(found) = awaited.get_mut(self.entry) {
            let ours = found.waiters.iter().position(|waiter| waiter == self.own);
            ours.map(|at| found.waiters.swap_remove(at));
            if found.waiters.is_empty() {
                awaited.remove(self.entry);
            }
        }
    }
}

/// A removal under way, for which somebody waits. Dropped, it is over, whether it told anything or
/// not.
#[derive(Debug)]
pub struct Leaving {
    handovers: Arc<Handovers>,
    entry: EntryId,
    waiters: Vec<EntryId>,
}

impl Leaving {
    /// What is removed.
    pub fn entry(&self) -> &EntryId {
        &self.entry
    }

    /// Those of whom the removal is to read whether they are there; at least one.
    pub fn waiters(&self) -> &[EntryId] {
        &self.waiters
    }

    /// It was removed, and these of the waiters were there then. They go on at once if this is
    /// called on the [`background`] thread.
    pub fn left(&self, there: Vec<EntryId>) {
        self.handovers.tell(&self.entry, Stage::Left(there));
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.handovers.tell(&self.entry, Stage::Standing);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::entry::Mode;
    use crate::name::LockName;
    use crate::rule;
    use crate::token::Token;

    fn entry(token: u64) -> EntryId {
        EntryId {
            key: b"queue/write/1-1".as_slice().into(),
            token: Token(token),
        }
    }

    #[tokio::test]
    async fn waiters_are_told_by_the_answer() {
        let handovers = Arc::new(Handovers::default());
        let (ours, other) = (entry(5), entry(6));
        let waiters = [entry(8), entry(9)];
        assert!(handovers.begin(ours.clone()).is_none(), "nobody waits");
        let mut there = handovers.expect(&ours, &waiters[0]);
        let mut gone = handovers.expect(&ours, &waiters[1]);
        assert!(
            handovers.begin(other.clone()).is_none(),
            "another incarnation"
        );
        let leaving = handovers.begin(ours.clone()).expect("awaited");
        assert_eq!(leaving.waiters(), waiters);
        leaving.left(vec![entry(8)]);
        drop(leaving);
        there.first().await;
        assert!(there.first_soon().await);
        assert!(gone.first().now_or_never().is_none());
        assert!(!gone.first_soon().await);
        drop((there, gone));
        assert!(lock(&handovers.awaited).is_empty());
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_not_waited_for() {
        let handovers = Arc::new(Handovers::default());
        let (ours, waiter) = (entry(5), entry(8));
        let mut expected = handovers.expect(&ours, &waiter);
        assert!(!expected.first_soon().await, "nobody removes it here");
        let leaving = handovers.begin(ours.clone()).expect("awaited");
        assert!(!expected.first_soon().await, "late");
        let failed = async { drop(leaving) };
        let (told, ()) = tokio::join!(expected.first_soon(), failed);
        assert!(!told, "it failed");
        let leaving = handovers.begin(ours.clone()).expect("awaited");
        leaving.left(vec![entry(8)]);
        drop(leaving);
        assert!(
            handovers.begin(ours.clone()).is_some(),
            "a second try of it"
        );
        expected.first().await;
    }

    #[test]
    fn a_crowd_is_told_in_part() {
        let handovers = Arc::new(Handovers::default());
        let (ours, waiters) = (entry(5), [(); 20].map(|()| entry(8)));
        let crowd: Vec<_> = waiters.iter().map(|w| handovers.expect(&ours, w)).collect();
        assert_eq!(
            handovers
                .begin(ours.clone())
                .expect("awaited")
                .waiters()
                .len(),
            MOST
        );
        drop(crowd);
    }

    fn ticket(mode: Mode) -> Ticket {
        Ticket {
            name: LockName::new("a").expect("valid"),
            mode,
            serial: 1,
            metadata: Arc::default(),
        }
    }

    fn behind(ahead: usize) -> View {
        let ahead = (0..ahead).map(|_| rule::Ahead {
            id: entry(1),
            mode: Mode::Exclusive,
        });
        View {
            present: true,
            ahead: ahead.collect(),
        }
    }

    #[tokio::test]
    async fn only_who_stands_in_front_hands_over() {
        let handovers = Arc::new(Handovers::default());
        let (ours, waiter) = (entry(5), entry(8));
        let _waits = handovers.expect(&ours, &waiter);
        let leaves = |mode, views: &[View]| {
            let fronts = Fronts::new(handovers.clone());
            let (ticket, ask) = (ticket(mode), rule::ask(mode));
            fronts.looked(&ticket, ask, &behind(0));
            for (number, view) in views.iter().enumerate() {
                match number {
                    0 => fronts.placed(&ticket, ask, view),
                    _ => fronts.looked(&ticket, ask, view),
                }
            }
            let leaving = fronts.leave(&ticket, Some(ours.clone())).is_some();
            // What is seen of it afterwards is of the past.
            fronts.looked(&ticket, ask, &behind(0));
            assert!(fronts.leave(&ticket, Some(ours.clone())).is_none());
            leaving
        };
        assert!(leaves(Mode::Exclusive, &[behind(0)]));
        assert!(leaves(Mode::Exclusive, &[behind(1), behind(0)]));
        assert!(!leaves(Mode::Exclusive, &[behind(1), behind(1)]));
        assert!(!leaves(Mode::Exclusive, &[]));
        assert!(!leaves(Mode::Shared, &[behind(0)]), "readers may be ahead");
    }

    #[tokio::test]
    async fn what_was_told_is_one_look() {
        let handovers = Arc::new(Handovers::default());
        let (ours, waiter) = (entry(5), entry(8));
        let fronts = Fronts::new(handovers.clone());
        let (ticket, ask) = (ticket(Mode::Exclusive), rule::ask(Mode::Exclusive));
        fronts.placed(&ticket, ask, &behind(1));
        let removal = async {
            let leaving = handovers.begin(ours.clone()).expect("awaited");
            leaving.left(vec![waiter.clone()]);
        };
        let changed = fronts.changed(&ours, &waiter, pending());
        let (changed, ()) = tokio::join!(biased; changed, removal);
        changed.expect("told");
        let look = |as_of| fronts.told(&ticket, &waiter, ask, as_of);
        assert_eq!(look(AsOf::Now), None, "not fresh enough");
        assert_eq!(look(AsOf::Change), Some(behind(0)));
        assert_eq!(look(AsOf::Change), None, "told once");
        let gone = fronts.changed(&waiter, &waiter, std::future::ready(Ok(())));
        gone.await.expect("gone");
        assert_eq!(look(AsOf::Change), None, "only gone");
    }
}

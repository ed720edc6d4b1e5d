//! Removals of entries that somebody waits for, and what they tell those.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use super::local_queue::{KeyScheme, Order};
use super::lock;
use crate::background;
use crate::entry::EntryId;

/// The event of a removal and the answer to it leave the server together. If the event comes first,
/// the answer is waited for this long at most: it may be lost.
const SOON: Duration = Duration::from_millis(5);

/// Of more than this many, who all read after one who wrote, the others look for themselves.
const MOST: usize = 8;

/// The entries that somebody waits for: one of these for each backend. Bounded by those who wait.
#[derive(Debug)]
pub struct HandoffRegistry {
    naming: KeyScheme,
    awaited: Mutex<HashMap<EntryId, Awaited>>,
    order: Mutex<Order>,
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
    Departure,
    /// It was removed, and these, who waited for it, were there then.
    Left(Vec<EntryId>),
}

impl HandoffRegistry {
    /// Of a backend that names its entries like this.
    pub fn new(naming: KeyScheme) -> Arc<Self> {
        Arc::new(HandoffRegistry {
            naming,
            awaited: Mutex::default(),
            order: Mutex::new(Order::new(naming)),
        })
    }

    pub(super) fn order(&self) -> MutexGuard<'_, Order> {
        lock(&self.order)
    }

    /// Whether both stand in the same queue. One may be a part of another, as a raw lock's queue on
    /// etcd has those of the locks below it: who stands first in a part may not do so in the whole.
    pub(super) fn share_a_queue(&self, entry: &EntryId, own: &EntryId) -> bool {
        (self.naming.queue)(entry) == (self.naming.queue)(own)
    }

    /// Waits for this entry's removal from now on, for the sake of one behind it.
    pub(super) fn expect<'a>(&'a self, entry: &'a EntryId, own: &'a EntryId) -> Expected<'a> {
        let mut awaited = lock(&self.awaited);
        let found = awaited.entry(entry.clone()).or_insert_with(|| Awaited {
            waiters: Vec::new(),
            stage: watch::Sender::new(Stage::Standing),
        });
        found.waiters.push(own.clone());
        Expected {
            handoffs: self,
            entry,
            own,
            stage: found.stage.subscribe(),
        }
    }

    /// This entry, with nothing ahead of it, is about to be removed. `None` if nobody waits for
    /// that who is known to stand right behind it: somebody else may be the next.
    pub(super) fn begin(self: &Arc<Self>, entry: &EntryId) -> Option<Departure> {
        let entry = (self.naming.seen)(entry);
        let mut waiters = lock(&self.awaited).get(&entry)?.waiters.clone();
        {
            let order = self.order();
            waiters.retain(|own| order.stands_right_behind(own, &entry));
        }
        waiters.truncate(MOST);
        if waiters.is_empty() {
            return None;
        }
        self.tell(&entry, Stage::Departure);
        Some(Departure {
            handoffs: self.clone(),
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
pub(super) struct Expected<'a> {
    handoffs: &'a HandoffRegistry,
    entry: &'a EntryId,
    own: &'a EntryId,
    stage: watch::Receiver<Stage>,
}

impl Expected<'_> {
    /// Resolves when the answer to the removal has told that our own entry stands first; never, if
    /// it is not this process that removes it, or not in time for us. Can be called again.
    pub(super) async fn first(&mut self) {
        let told = self.past(|stage| matches!(stage, Stage::Left(_))).await;
        if !self.is_first(&told) {
            pending().await
        }
    }

    /// The removal was seen otherwise: whether the answer to it, if there is one soon, tells that
    /// our own entry stands first.
    pub(super) async fn first_soon(&mut self) -> bool {
        let told = tokio::select! {
            biased;
            stage = self.past(|stage| !matches!(stage, Stage::Departure)) => Some(stage),
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
        let mut awaited = lock(&self.handoffs.awaited);
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
pub struct Departure {
    handoffs: Arc<HandoffRegistry>,
    entry: EntryId,
    waiters: Vec<EntryId>,
}

impl Departure {
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
        self.handoffs.tell(&self.entry, Stage::Left(there));
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        self.handoffs.tell(&self.entry, Stage::Standing);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::tests::{KEY_SCHEME, behind, entry};
    use super::*;
    use crate::entry::Mode;

    /// Those of entry 5, with these right behind it.
    fn handoffs(waiters: &[EntryId]) -> Arc<HandoffRegistry> {
        let handoffs = HandoffRegistry::new(KEY_SCHEME);
        for waiter in waiters {
            let mut order = handoffs.order();
            order.saw(waiter, Mode::Exclusive, &behind(&[5]));
        }
        handoffs
    }

    #[tokio::test]
    async fn waiters_are_told_by_the_answer() {
        let (ours, other) = (entry(5), entry(6));
        let waiters = [entry(8), entry(9)];
        let handoffs = handoffs(&waiters);
        assert!(handoffs.begin(&ours).is_none(), "nobody waits");
        let mut there = handoffs.expect(&ours, &waiters[0]);
        let mut gone = handoffs.expect(&ours, &waiters[1]);
        assert!(handoffs.begin(&other).is_none(), "another incarnation");
        let departure = handoffs.begin(&ours).expect("awaited");
        assert_eq!(departure.waiters(), waiters);
        departure.left(vec![entry(8)]);
        drop(departure);
        there.first().await;
        assert!(there.first_soon().await);
        assert!(gone.first().now_or_never().is_none());
        assert!(!gone.first_soon().await);
        drop((there, gone));
        assert!(lock(&handoffs.awaited).is_empty());
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_not_waited_for() {
        let (ours, waiter) = (entry(5), entry(8));
        let handoffs = handoffs(std::slice::from_ref(&waiter));
        let mut expected = handoffs.expect(&ours, &waiter);
        assert!(!expected.first_soon().await, "nobody removes it here");
        let departure = handoffs.begin(&ours).expect("awaited");
        assert!(!expected.first_soon().await, "late");
        let failed = async { drop(departure) };
        let (told, ()) = tokio::join!(expected.first_soon(), failed);
        assert!(!told, "it failed");
        let departure = handoffs.begin(&ours).expect("awaited");
        departure.left(vec![entry(8)]);
        drop(departure);
        assert!(handoffs.begin(&ours).is_some(), "a second try of it");
        expected.first().await;
    }

    #[test]
    fn a_crowd_is_told_in_part() {
        let (ours, waiters) = (entry(5), [(); 20].map(|()| entry(8)));
        let handoffs = handoffs(&waiters);
        let crowd: Vec<_> = waiters.iter().map(|w| handoffs.expect(&ours, w)).collect();
        let departure = handoffs.begin(&ours).expect("awaited");
        assert_eq!(departure.waiters().len(), MOST);
        drop(crowd);
    }

    #[test]
    fn an_unconfirmed_waiter_is_not_handed_over_to() {
        let (ours, confirmed, unconfirmed) = (entry(5), entry(8), entry(9));
        let handoffs = handoffs(&[]);
        handoffs.order().saw(&ours, Mode::Exclusive, &behind(&[1]));
        let assume = handoffs.order().assume(&unconfirmed, Mode::Exclusive);
        assert_eq!(assume.map(|ahead| ahead.id), Some(entry(5)));
        let _waits = handoffs.expect(&ours, &unconfirmed);
        assert!(handoffs.begin(&ours).is_none());
        let mut order = handoffs.order();
        order.saw(&confirmed, Mode::Exclusive, &behind(&[5]));
        drop(order);
        let _waits = handoffs.expect(&ours, &confirmed);
        let departure = handoffs.begin(&ours).expect("awaited");
        assert_eq!(departure.waiters(), [entry(8)]);
    }
}

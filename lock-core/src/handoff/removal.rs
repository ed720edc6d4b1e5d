//! Removes entries that others of this process wait for, and notifies the waiters that then stand
//! first.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use rustc_hash::FxBuildHasher;

use super::local_queue::Order;
use super::lock;
use crate::background;
use crate::entry::EntryId;
use crate::name::LockName;
use crate::session::Backend;

/// How long a waiter waits for the reply to a removal after the event of that removal came first.
/// Both leave the server together, but the reply may be lost.
const SOON: Duration = Duration::from_millis(5);

/// The most waiters that a removal reads. If many shared entries wait for one exclusive entry, the
/// others look for themselves.
const MOST: usize = 8;

/// The waiters of all sessions of one backend, by the keys of the entries that they wait for. Its
/// size is bounded by the number of waiters.
#[derive(Debug, Default)]
pub(crate) struct HandoffRegistry {
    waiters: Mutex<Waiters>,
    order: Mutex<Order>,
}

type Waiters = HashMap<Arc<[u8]>, VecDeque<Arc<Waiter>>, FxBuildHasher>;

#[derive(Debug)]
struct Waiter {
    own: EntryId,
    blocker: EntryId,
    stage: Mutex<Stage>,
    /// Wakes the wait when the stage has changed.
    waker: AtomicWaker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The blocker stands in its queue, as far as this process knows.
    Standing,
    /// This process has sent the removal of the blocker, which also reads the waiter's entry.
    Departing,
    /// The blocker was removed, and the waiter's entry stood first then. This is never taken back.
    First,
}

impl Waiter {
    fn advance(&self, stage: Stage) {
        {
            let mut now = lock(&self.stage);
            if *now == Stage::First {
                return;
            }
            *now = stage;
        }
        self.waker.wake();
    }
}

impl HandoffRegistry {
    /// Returns the registry of this backend. It stays the same while anybody uses it.
    pub(crate) fn of_backend(backend: &Arc<dyn Backend>) -> Arc<Self> {
        /// The registries in use. The address of a backend is not used again while a weak pointer
        /// to it exists.
        type InUse = Vec<(Weak<dyn Backend>, Weak<HandoffRegistry>)>;
        static IN_USE: Mutex<InUse> = Mutex::new(Vec::new());
        let registry = Arc::<HandoffRegistry>::default();
        if background::is_forked() {
            // Another thread of the parent may have locked the list for ever.
            return registry;
        }
        let mut in_use = lock(&IN_USE);
        in_use.retain(|(_, registry)| registry.strong_count() > 0);
        let mut its = in_use
            .iter()
            .filter(|(other, _)| ptr::addr_eq(other.as_ptr(), Arc::as_ptr(backend)));
        if let Some(found) = its.find_map(|(_, registry)| registry.upgrade()) {
            return found;
        }
        in_use.push((Arc::downgrade(backend), Arc::downgrade(&registry)));
        registry
    }

    pub(super) fn order(&self) -> MutexGuard<'_, Order> {
        lock(&self.order)
    }

    /// Registers `own` as a waiter for the removal of `blocker`, which stands ahead of it.
    pub(super) fn expect(&self, own: &EntryId, blocker: &EntryId) -> Expected<'_> {
        let waiter = Arc::new(Waiter {
            own: own.clone(),
            blocker: blocker.clone(),
            stage: Mutex::new(Stage::Standing),
            waker: AtomicWaker::new(),
        });
        let mut waiters = lock(&self.waiters);
        let waiters = waiters.entry(blocker.key.clone()).or_default();
        waiters.push_back(waiter.clone());
        Expected {
            registry: self,
            waiter,
        }
    }

    /// Begins the removal of this entry, which has nothing ahead of it in this queue. Returns
    /// `None` if no waiter is known to stand right behind the entry: another entry may be the next.
    ///
    /// Waiters for other locks do not count. One queue may be a part of another, as the queue of a
    /// raw lock on etcd includes the queues of the locks below it. The first entry of a part need
    /// not be the first of the whole.
    pub(super) fn begin(&self, queue: &LockName, entry: &EntryId) -> Option<Departure> {
        let waits_for_it = |waiter: &&Arc<Waiter>| waiter.blocker.is_same_as_far_as_known(entry);
        let mut waiters: Vec<Arc<Waiter>> = {
            let all = lock(&self.waiters);
            all.get(&entry.key)?
                .iter()
                .filter(waits_for_it)
                .cloned()
                .collect()
        };
        {
            let order = self.order();
            waiters.retain(|waiter| order.stands_right_behind(queue, &waiter.own, entry));
        }
        waiters.truncate(MOST);
        if waiters.is_empty() {
            return None;
        }
        waiters
            .iter()
            .for_each(|waiter| waiter.advance(Stage::Departing));
        Some(Departure {
            entry: entry.clone(),
            own: waiters.iter().map(|waiter| waiter.own.clone()).collect(),
            waiters,
        })
    }
}

/// A wait for the removal of an entry. The wait is over when this is dropped.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    registry: &'a HandoffRegistry,
    waiter: Arc<Waiter>,
}

impl Expected<'_> {
    /// Waits until the reply to the removal has shown that the waiter's own entry stands first.
    /// Waits for ever if another process removes the blocker, or if this wait began after the
    /// removal did. Can be called again.
    pub(super) async fn first(&mut self) {
        self.reach(|stage| stage == Stage::First).await;
    }

    /// Returns whether the reply to the removal shows that the waiter's own entry stands first.
    /// Called once another sign of the removal was seen; the reply is waited for a short time.
    pub(super) async fn first_soon(&mut self) -> bool {
        tokio::select! {
            biased;
            stage = self.reach(|stage| stage != Stage::Departing) => stage == Stage::First,
            () = background::sleep(SOON) => false,
        }
    }

    async fn reach(&mut self, reached: impl Fn(Stage) -> bool) -> Stage {
        poll_fn(|context| {
            // Before the look at the stage, so that no change after the look is missed.
            self.waiter.waker.register(context.waker());
            let stage = *lock(&self.waiter.stage);
            match reached(stage) {
                true => Poll::Ready(stage),
                false => Poll::Pending,
            }
        })
        .await
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        let mut all = lock(&self.registry.waiters);
        let key = &self.waiter.blocker.key;
        if let Some(waiters) = all.get_mut(key) {
            // Those who came first leave first, so thousands of readers do not search through each
            // other.
            let at = waiters
                .iter()
                .position(|waiter| Arc::ptr_eq(waiter, &self.waiter));
            at.and_then(|at| waiters.remove(at));
            if waiters.is_empty() {
                all.remove(key);
            }
        }
    }
}

/// A removal under way of an entry that others wait for. The removal is over when this is dropped,
/// whether it found a waiter that stands first or not.
#[derive(Debug)]
pub(super) struct Departure {
    entry: EntryId,
    waiters: Vec<Arc<Waiter>>,
    /// The entries of the waiters.
    own: Vec<EntryId>,
}

impl Departure {
    /// Returns the entry that is removed.
    pub(super) fn entry(&self) -> &EntryId {
        &self.entry
    }

    /// Returns the entries whose existence the removal reads; at least one.
    pub(super) fn waiters(&self) -> &[EntryId] {
        &self.own
    }

    /// Wakes the waiters whose entries are in `present`: those existed when the entry was removed.
    /// The waiters go on at once if this is called on the [`background`] thread.
    pub(super) fn hand_off_to(&self, present: &[EntryId]) {
        let stands = |waiter: &&Arc<Waiter>| present.contains(&waiter.own);
        let first = self.waiters.iter().filter(stands);
        first.for_each(|waiter| waiter.advance(Stage::First));
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        self.waiters
            .iter()
            .for_each(|waiter| waiter.advance(Stage::Standing));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::tests::{behind, entry, queue};
    use super::*;
    use crate::entry::Mode;

    /// Returns the registry in which these waiters stand right behind entry 5.
    fn handoffs(waiters: &[EntryId]) -> Arc<HandoffRegistry> {
        let handoffs = Arc::<HandoffRegistry>::default();
        for waiter in waiters {
            let mut order = handoffs.order();
            order.saw(&queue(), waiter, Mode::Exclusive, &behind(&[5]));
        }
        handoffs
    }

    #[tokio::test]
    async fn the_reply_to_a_removal_wakes_the_waiters() {
        let (own, other) = (entry(5), entry(6));
        let waiters = [entry(8), entry(9)];
        let handoffs = handoffs(&waiters);
        assert!(handoffs.begin(&queue(), &own).is_none(), "nobody waits");
        let mut there = handoffs.expect(&waiters[0], &own);
        let mut gone = handoffs.expect(&waiters[1], &own);
        assert!(
            handoffs.begin(&queue(), &other).is_none(),
            "another incarnation"
        );
        let departure = handoffs.begin(&queue(), &own).expect("awaited");
        assert_eq!(departure.waiters(), waiters);
        departure.hand_off_to(&[entry(8)]);
        drop(departure);
        there.first().await;
        assert!(there.first_soon().await);
        assert!(gone.first().now_or_never().is_none());
        assert!(!gone.first_soon().await);
        drop((there, gone));
        assert!(lock(&handoffs.waiters).is_empty());
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_not_waited_for() {
        let (own, waiter) = (entry(5), entry(8));
        let handoffs = handoffs(std::slice::from_ref(&waiter));
        let mut expected = handoffs.expect(&waiter, &own);
        assert!(!expected.first_soon().await, "nobody removes it here");
        let departure = handoffs.begin(&queue(), &own).expect("awaited");
        assert!(!expected.first_soon().await, "late");
        let failed = async { drop(departure) };
        let (is_first, ()) = tokio::join!(expected.first_soon(), failed);
        assert!(!is_first, "it failed");
        let departure = handoffs.begin(&queue(), &own).expect("awaited");
        departure.hand_off_to(&[entry(8)]);
        drop(departure);
        assert!(
            handoffs.begin(&queue(), &own).is_some(),
            "a second try of it"
        );
        expected.first().await;
    }

    #[test]
    fn a_removal_reads_a_bounded_number_of_waiters() {
        let (own, waiters) = (entry(5), [(); 20].map(|()| entry(8)));
        let handoffs = handoffs(&waiters);
        let crowd: Vec<_> = waiters.iter().map(|w| handoffs.expect(w, &own)).collect();
        let departure = handoffs.begin(&queue(), &own).expect("awaited");
        assert_eq!(departure.waiters().len(), MOST);
        drop(crowd);
    }

    #[test]
    fn an_unconfirmed_waiter_is_not_handed_over_to() {
        let (own, confirmed, unconfirmed) = (entry(5), entry(8), entry(9));
        let handoffs = handoffs(&[]);
        let name = queue();
        let mut order = handoffs.order();
        order.saw(&name, &own, Mode::Exclusive, &behind(&[1]));
        let assumed = order.assume(&name, &unconfirmed, Mode::Exclusive);
        drop(order);
        assert_eq!(assumed.map(|ahead| ahead.id), Some(entry(5)));
        let _waits = handoffs.expect(&unconfirmed, &own);
        assert!(handoffs.begin(&queue(), &own).is_none());
        let mut order = handoffs.order();
        order.saw(&queue(), &confirmed, Mode::Exclusive, &behind(&[5]));
        drop(order);
        let _waits = handoffs.expect(&confirmed, &own);
        let departure = handoffs.begin(&queue(), &own).expect("awaited");
        assert_eq!(departure.waiters(), [entry(8)]);
    }
}

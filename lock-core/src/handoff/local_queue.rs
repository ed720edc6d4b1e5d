//! Records the order of a process's entries in its queues, as far as the process knows it: the
//! waiting entries, the entry that each of them waits for, and whether another entry can stand
//! between the two.
//!
//! A contender need not read the queue where others of its process wait, or are about to: it has to
//! wait too. When its entry is made, it *assumes* that the nearest entry of its process stands
//! right ahead of it. This is enough to wait for that entry, since an assumption grants nobody a
//! lock. It is not enough for a handoff, since an entry of another process may have come between. A
//! later contender of the process that does read the queue confirms many assumptions at once: two
//! entries that it finds next to each other were made one right behind the other, and nothing ever
//! comes between them.
//!
//! The name of its lock identifies a queue. The keys of two names may lie in one queue of the
//! store, as those of raw locks on etcd do. Then less is known of that queue, but nothing that is
//! wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rustc_hash::FxBuildHasher;

use crate::entry::{EntryId, Mode};
use crate::incarnation::Incarnation;
use crate::name::LockName;
use crate::rule::{Ahead, View};

/// The most contenders in a row that assume before the next one reads.
const GUESSES: usize = 32;

/// The order in all queues in which entries of this process wait. Its size is bounded by their
/// number.
#[derive(Debug, Default)]
#[cfg_attr(feature = "models", derive(Clone))]
pub struct Order {
    queues: HashMap<LockName, LocalQueue, FxBuildHasher>,
}

/// The order in one queue, as far as this process knows it.
#[derive(Debug, Default)]
#[cfg_attr(feature = "models", derive(Clone, Hash))]
struct LocalQueue {
    /// The process's entries that wait, in the order of arrival.
    waiting: BTreeMap<Incarnation, Waiting>,
    /// Those of the waiting entries that assumed, and behind which nobody has read the queue since.
    unconfirmed: BTreeSet<Incarnation>,
    /// The number of enqueues under way, whether they read or assume.
    arriving: usize,
    /// The number of assuming enqueues that were sent since the last reading one.
    unread: usize,
}

#[derive(Debug)]
#[cfg_attr(feature = "models", derive(Clone, Hash))]
struct Waiting {
    own: EntryId,
    mode: Mode,
    /// The entry that this one waits for.
    blocker: EntryId,
    /// Whether it is known that no other entry to wait for stands between the two.
    confirmed: bool,
}

impl Order {
    /// Plans an exclusive enqueue to this queue. The enqueue is about to be sent, and
    /// [`end_enqueue`](Order::end_enqueue) ends it.
    ///
    /// Returns how many of the entries ahead the enqueue reads. Zero means that it may assume; that
    /// is so rare that the confirmations come before the turns. Any other number is enough to
    /// confirm all present assumptions, even if as many entries of other processes stand among
    /// them.
    pub fn plan_enqueue(&mut self, queue: &LockName) -> usize {
        let queue = self.queues.entry(queue.clone()).or_default();
        let others = queue.waiting.len() + queue.arriving;
        queue.arriving += 1;
        if queue.unread < GUESSES.min(others / 2) {
            queue.unread += 1;
            return 0;
        }
        let assumed = queue.unconfirmed.len();
        2 * assumed.max(std::mem::take(&mut queue.unread)) + 1
    }

    /// Ends an enqueue that was planned.
    pub fn end_enqueue(&mut self, queue: &LockName) {
        if let Some(found) = self.queues.get_mut(queue) {
            found.arriving -= 1;
            if found.is_empty() {
                self.queues.remove(queue);
            }
        }
    }

    /// Adds an entry whose enqueue read nothing, and returns the entry that it waits for. Any entry
    /// of this process that stands ahead is good enough, and the nearest is the best guess. Returns
    /// `None` if none is known to stand ahead.
    pub fn assume(&mut self, queue: &LockName, own: &EntryId, mode: Mode) -> Option<Ahead> {
        let incarnation = own.incarnation?;
        let waiting = &self.queues.get(queue)?.waiting;
        let (_, nearest) = waiting.range(..incarnation).next_back()?;
        let ahead = Ahead {
            id: nearest.own.clone(),
            mode: nearest.mode,
        };
        self.wait(queue, own, mode, ahead.id.clone(), false);
        Some(ahead)
    }

    /// Updates the order with the view that an entry of this process has of its queue.
    pub fn saw(&mut self, queue: &LockName, own: &EntryId, mode: Mode, view: &View) {
        match view.ahead.first() {
            Some(nearest) if view.present => self.wait(queue, own, mode, nearest.id.clone(), true),
            _ => self.forget(queue, own),
        }
    }

    /// Confirms assumptions by what an entry of this process read: the nearest part of all entries
    /// ahead of it, whatever their mode.
    pub fn read(&mut self, queue: &LockName, own: &EntryId, ahead: &[Ahead]) {
        let (Some(incarnation), Some(queue)) = (own.incarnation, self.queues.get_mut(queue)) else {
            return;
        };
        let younger = queue.unconfirmed.split_off(&incarnation);
        let read_behind = std::mem::replace(&mut queue.unconfirmed, younger);
        if read_behind.is_empty() {
            return;
        }
        let pairs = ahead.windows(2).map(|pair| (&pair[0].id, &pair[1].id));
        let pairs: HashMap<_, _> = pairs.collect();
        for incarnation in read_behind {
            if let Some(waiting) = queue.waiting.get_mut(&incarnation) {
                let as_listed = EntryId {
                    incarnation: None,
                    ..waiting.own.clone()
                };
                let next = pairs.get(&waiting.own).or(pairs.get(&as_listed));
                waiting.confirmed =
                    next.is_some_and(|next| next.is_same_as_far_as_known(&waiting.blocker));
            }
        }
    }

    /// Returns whether one of our entries waits for this one and for nothing else.
    pub fn stands_right_behind(&self, queue: &LockName, own: &EntryId, entry: &EntryId) -> bool {
        let waiting = own
            .incarnation
            .and_then(|incarnation| self.queues.get(queue)?.waiting.get(&incarnation));
        waiting.is_some_and(|w| {
            w.own == *own && w.blocker.is_same_as_far_as_known(entry) && w.confirmed
        })
    }

    /// Removes one of our entries that does not wait any more.
    pub fn forget(&mut self, queue: &LockName, own: &EntryId) {
        if let (Some(incarnation), Some(found)) = (own.incarnation, self.queues.get_mut(queue))
            && found.waiting.remove(&incarnation).is_some()
        {
            found.unconfirmed.remove(&incarnation);
            if found.is_empty() {
                self.queues.remove(queue);
            }
        }
    }

    /// Returns whether nothing is recorded of any queue.
    #[cfg(any(test, feature = "models"))]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    fn wait(
        &mut self,
        queue: &LockName,
        own: &EntryId,
        mode: Mode,
        blocker: EntryId,
        confirmed: bool,
    ) {
        let Some(incarnation) = own.incarnation else {
            return;
        };
        let queue = self.queues.entry(queue.clone()).or_default();
        match confirmed {
            true => queue.unconfirmed.remove(&incarnation),
            false => queue.unconfirmed.insert(incarnation),
        };
        let waiting = Waiting {
            own: own.clone(),
            mode,
            blocker,
            confirmed,
        };
        queue.waiting.insert(incarnation, waiting);
    }
}

impl LocalQueue {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.arriving == 0
    }
}

/// What an explorer needs besides a copy for each state: what tells two states apart.
#[cfg(feature = "models")]
mod models {
    use std::hash::{Hash, Hasher};

    use super::*;

    impl Hash for Order {
        fn hash<H: Hasher>(&self, state: &mut H) {
            let in_order: BTreeMap<_, _> = self.queues.iter().collect();
            in_order.hash(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{behind, entry, queue};
    use super::*;
    use Mode::Exclusive;

    impl Order {
        /// Lets a contender arrive that may assume. Returns the entry that it waits for, if it
        /// assumes.
        fn assumes(&mut self, token: u64) -> Option<u64> {
            if self.plan_enqueue(&queue()) > 0 {
                self.end_enqueue(&queue());
                return None;
            }
            let ahead = self.assume(&queue(), &entry(token), Exclusive);
            self.end_enqueue(&queue());
            Some(ahead?.id.incarnation?.get())
        }

        /// Lets a contender arrive that reads these entries ahead.
        fn reads(&mut self, token: u64, ahead: &[u64]) {
            let view = behind(ahead);
            self.read(&queue(), &entry(token), &view.ahead);
            self.saw(&queue(), &entry(token), Exclusive, &view);
        }

        fn is_confirmed(&self, own: u64, ahead: u64) -> bool {
            self.stands_right_behind(&queue(), &entry(own), &entry(ahead))
        }
    }

    /// Returns the order with this many of our entries waiting, from 11 up; 10 holds.
    fn waiting(count: u64) -> Order {
        let mut order = Order::default();
        (11..11 + count).for_each(|token| order.reads(token, &[token - 1]));
        order
    }

    #[test]
    fn a_read_confirms_earlier_assumptions() {
        let mut order = waiting(6);
        let assumes = [20, 21, 22].map(|token| order.assumes(token));
        assert_eq!(assumes, [Some(16), Some(20), Some(21)]);
        assert!(
            [20, 21, 22]
                .iter()
                .all(|own| !order.is_confirmed(*own, own - 1))
        );
        order.reads(23, &[22, 21, 20, 16, 15]);
        assert!(
            order.is_confirmed(20, 16) && order.is_confirmed(21, 20) && order.is_confirmed(22, 21)
        );
        assert!(order.is_confirmed(23, 22), "it saw that itself");
        assert!(!order.is_confirmed(22, 20));
    }

    #[test]
    fn an_entry_right_behind_a_foreign_one_stays_unconfirmed() {
        let mut order = waiting(6);
        let assumes = [20, 22, 24].map(|token| order.assumes(token));
        assert_eq!(assumes, [Some(16), Some(20), Some(22)]);
        order.reads(25, &[24, 22, 21, 20]);
        assert!(order.is_confirmed(24, 22));
        assert!(!order.is_confirmed(22, 20), "21 stands between");
        assert!(!order.is_confirmed(20, 16), "that was not read");
        // The entry looks for itself when its blocker is gone.
        order.saw(&queue(), &entry(22), Exclusive, &behind(&[21]));
        assert!(order.is_confirmed(22, 21));
        // An assumption that a read did not confirm is left to the entry's own look.
        order.reads(26, &[25, 24, 22, 21, 20, 16]);
        assert!(!order.is_confirmed(20, 16));
    }

    #[test]
    fn a_read_confirms_no_later_entry() {
        let mut order = waiting(6);
        order.assumes(20);
        order.assumes(22);
        order.reads(21, &[20, 16]);
        assert!(order.is_confirmed(20, 16));
        assert!(!order.is_confirmed(22, 20));
        order.reads(23, &[22, 21, 20]);
        assert!(!order.is_confirmed(22, 20), "21 stands between");
    }

    #[test]
    fn few_waiters_are_unconfirmed() {
        let assumes = |count| {
            let mut order = waiting(count);
            (100..).map_while(|token| order.assumes(token)).count()
        };
        assert_eq!([0, 1, 2, 3].map(assumes), [0, 0, 1, 2]);
        assert_eq!(assumes(16), 15);
        assert_eq!(assumes(1000), GUESSES);
    }

    #[test]
    fn of_many_arriving_contenders_few_read_and_all_are_confirmed() {
        let mut order = waiting(0);
        let limits: Vec<usize> = (0..500).map(|_| order.plan_enqueue(&queue())).collect();
        assert_eq!(limits[..6], [1, 1, 0, 3, 0, 0]);
        let reads: Vec<usize> = (0..500).filter(|number| limits[*number] > 0).collect();
        assert!(reads.len() < 24, "{reads:?}");
        for pair in reads.windows(2) {
            let assumes = pair[1] - pair[0] - 1;
            assert!(assumes <= GUESSES);
            assert_eq!(limits[pair[1]], 2 * assumes + 1);
        }
        (0..500).for_each(|_| order.end_enqueue(&queue()));
        assert!(order.is_empty(), "all came to nothing");
    }

    #[test]
    fn the_nearest_of_ours_is_waited_for() {
        let mut order = waiting(6);
        assert_eq!(order.assumes(20), Some(16));
        // The reply for this entry comes later, but the entry was made before the other.
        let ahead = |order: &mut Order, token| order.assume(&queue(), &entry(token), Exclusive);
        assert_eq!(ahead(&mut order, 19).map(|ahead| ahead.id), Some(entry(16)));
        order.forget(&queue(), &entry(16));
        assert_eq!(ahead(&mut order, 30).map(|ahead| ahead.id), Some(entry(20)));
        assert_eq!(ahead(&mut order, 10), None, "nobody that we know of");
        assert!(!order.is_confirmed(10, 9));
    }

    #[test]
    fn only_the_present_blocker_of_an_entry_counts() {
        let mut order = waiting(2);
        assert!(order.is_confirmed(12, 11) && !order.is_confirmed(12, 10));
        order.saw(&queue(), &entry(12), Exclusive, &behind(&[10]));
        assert!(order.is_confirmed(12, 10) && !order.is_confirmed(12, 11));
        order.saw(&queue(), &entry(12), Exclusive, &behind(&[]));
        assert!(!order.is_confirmed(12, 10), "it waits no more");
        let absent = View {
            present: false,
            ahead: Vec::new(),
        };
        order.saw(&queue(), &entry(11), Exclusive, &absent);
        assert!(order.is_empty());
    }
}

//! What a process knows of the order in its queues: which of its entries wait there, for whom, and
//! whether nothing else can stand between the two.
//!
//! A contender that arrives where others of its process wait, or are about to, need not read the
//! queue to know that it has to wait, too: when its entry is made, it *assumes* that the nearest of
//! theirs stands right ahead of it. That is enough to wait for, since nobody is granted a lock by
//! it, but not to be handed the lock over: an entry of somebody else may have come between. The
//! proof comes later, for many at once, from the next contender of the process that does read: what
//! it finds next to each other was made one right behind the other, and nothing ever comes between.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::entry::{EntryId, Mode};
use crate::incarnation::Incarnation;
use crate::rule::{Ahead, View};

/// At most this many assume before the next one reads.
const GUESSES: usize = 32;

/// How a backend names its entries.
#[derive(Debug, Clone, Copy)]
pub struct KeyScheme {
    /// The queue in which one of our entries stands.
    pub queue: fn(&EntryId) -> Option<&[u8]>,
    /// What those behind one of our entries know it as.
    pub seen: fn(&EntryId) -> EntryId,
}

/// For all queues in which entries of this process wait. Bounded by those.
#[derive(Debug)]
pub(super) struct Order {
    naming: KeyScheme,
    lines: HashMap<Box<[u8]>, LocalQueue>,
}

/// What is known of one queue.
#[derive(Debug, Default)]
struct LocalQueue {
    /// Our entries that wait, in the order of plan.
    waiting: BTreeMap<Incarnation, Waiting>,
    /// Those of them that assumed, and that nobody has read the queue behind since.
    open: BTreeSet<Incarnation>,
    /// Enqueues under way, whether they read or assume.
    arriving: usize,
    /// How many that assume were sent since the last one that reads.
    unread: usize,
}

#[derive(Debug)]
struct Waiting {
    own: EntryId,
    mode: Mode,
    /// What it waits for, as those behind that know it.
    blocker: EntryId,
    /// Nothing that it would have to wait for stands between the two.
    confirmed: bool,
}

impl Order {
    pub(super) fn new(naming: KeyScheme) -> Self {
        Order {
            naming,
            lines: HashMap::new(),
        }
    }

    /// An exclusive enqueue is about to be sent to this queue; [`arrived`](Order::arrived) ends it.
    /// Answers how many of the entries ahead it is to read: none if it may assume, which is so seldom
    /// that the proofs come before the turns; else enough to prove what is assumed by now, if as many
    /// of somebody else's stand among those.
    pub(super) fn arrives(&mut self, queue: &[u8]) -> usize {
        let line = self.lines.entry(queue.into()).or_default();
        let others = line.waiting.len() + line.arriving;
        line.arriving += 1;
        if line.unread < GUESSES.min(others / 2) {
            line.unread += 1;
            return 0;
        }
        let assumes = line.open.len().max(std::mem::take(&mut line.unread));
        2 * assumes + 1
    }

    /// The enqueue is over.
    pub(super) fn arrived(&mut self, queue: &[u8]) {
        if let Some(line) = self.lines.get_mut(queue) {
            line.arriving -= 1;
            self.drop_if_empty(queue);
        }
    }

    /// An entry was made by an enqueue that read nothing. Answers what it waits for: whoever of ours
    /// stands ahead is good enough, and the nearest is the best assume. `None` if nobody is known to.
    pub(super) fn assume(&mut self, own: &EntryId, mode: Mode) -> Option<Ahead> {
        let naming = self.naming;
        let incarnation = own.incarnation?;
        let (_, nearest) = self.line(own)?.waiting.range(..incarnation).next_back()?;
        let ahead = nearest.seen(naming);
        self.wait(own, mode, ahead.id.clone(), false);
        Some(ahead)
    }

    /// This was found in the queue by one of our entries.
    pub(super) fn saw(&mut self, own: &EntryId, mode: Mode, view: &View) {
        match view.ahead.first() {
            Some(nearest) if view.present => self.wait(own, mode, nearest.id.clone(), true),
            _ => self.forget(own),
        }
    }

    /// This is the nearest part of all that stood ahead of one of our entries, whatever the mode.
    pub(super) fn read(&mut self, own: &EntryId, ahead: &[Ahead]) {
        let naming = self.naming;
        let (Some(incarnation), Some(line)) = (own.incarnation, self.line(own)) else {
            return;
        };
        let younger = line.open.split_off(&incarnation);
        let read_behind = std::mem::replace(&mut line.open, younger);
        if read_behind.is_empty() {
            return;
        }
        let pairs = ahead.windows(2).map(|pair| (&pair[0].id, &pair[1].id));
        let pairs: HashMap<_, _> = pairs.collect();
        for incarnation in read_behind {
            if let Some(waiting) = line.waiting.get_mut(&incarnation) {
                let next = pairs.get(&(naming.seen)(&waiting.own));
                waiting.confirmed = next.is_some_and(|next| **next == waiting.blocker);
            }
        }
    }

    /// Whether one of our entries waits for this one and for nothing else.
    pub(super) fn stands_right_behind(&self, own: &EntryId, entry: &EntryId) -> bool {
        let line = (self.naming.queue)(own).and_then(|queue| self.lines.get(queue));
        let waiting = line.and_then(|line| line.waiting.get(&own.incarnation?));
        waiting.is_some_and(|w| w.own == *own && w.blocker == *entry && w.confirmed)
    }

    /// One of our entries does not wait any more.
    pub(super) fn forget(&mut self, own: &EntryId) {
        let (Some(incarnation), Some(queue)) = (own.incarnation, (self.naming.queue)(own)) else {
            return;
        };
        if let Some(line) = self.lines.get_mut(queue) {
            line.waiting.remove(&incarnation);
            line.open.remove(&incarnation);
            self.drop_if_empty(queue);
        }
    }

    fn wait(&mut self, own: &EntryId, mode: Mode, blocker: EntryId, confirmed: bool) {
        let (Some(incarnation), Some(queue)) = (own.incarnation, (self.naming.queue)(own)) else {
            return;
        };
        let line = self.lines.entry(queue.into()).or_default();
        match confirmed {
            true => line.open.remove(&incarnation),
            false => line.open.insert(incarnation),
        };
        let own = own.clone();
        let waiting = Waiting {
            own,
            mode,
            blocker,
            confirmed,
        };
        line.waiting.insert(incarnation, waiting);
    }

    fn line(&mut self, own: &EntryId) -> Option<&mut LocalQueue> {
        self.lines.get_mut((self.naming.queue)(own)?)
    }

    fn drop_if_empty(&mut self, queue: &[u8]) {
        let empty = |line: &LocalQueue| line.waiting.is_empty() && line.arriving == 0;
        if self.lines.get(queue).is_some_and(empty) {
            self.lines.remove(queue);
        }
    }
}

impl Waiting {
    /// As those behind it see it.
    fn seen(&self, naming: KeyScheme) -> Ahead {
        Ahead {
            id: (naming.seen)(&self.own),
            mode: self.mode,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{KEY_SCHEME, behind, entry};
    use super::*;
    use Mode::Exclusive;

    const QUEUE: &[u8] = b"queue";

    impl Order {
        pub(in super::super) fn is_empty(&self) -> bool {
            self.lines.is_empty()
        }

        /// One arrives and has its entry, if it may assume: whom it waits for.
        fn assumes(&mut self, token: u64) -> Option<u64> {
            if self.arrives(QUEUE) > 0 {
                self.arrived(QUEUE);
                return None;
            }
            let ahead = self.assume(&entry(token), Exclusive);
            self.arrived(QUEUE);
            Some(ahead?.id.incarnation?.get())
        }

        /// One arrives and reads this.
        fn reads(&mut self, token: u64, ahead: &[u64]) {
            let view = behind(ahead);
            self.read(&entry(token), &view.ahead);
            self.saw(&entry(token), Exclusive, &view);
        }

        fn is_confirmed(&self, own: u64, ahead: u64) -> bool {
            self.stands_right_behind(&entry(own), &entry(ahead))
        }
    }

    /// Of our entries from 11 up, so many; 10 holds.
    fn waiting(count: u64) -> Order {
        let mut order = Order::new(KEY_SCHEME);
        (11..11 + count).for_each(|token| order.reads(token, &[token - 1]));
        order
    }

    #[test]
    fn a_read_proves_what_was_guessed_before() {
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
    fn who_has_somebody_else_right_ahead_stays_unconfirmed() {
        let mut order = waiting(6);
        let assumes = [20, 22, 24].map(|token| order.assumes(token));
        assert_eq!(assumes, [Some(16), Some(20), Some(22)]);
        order.reads(25, &[24, 22, 21, 20]);
        assert!(order.is_confirmed(24, 22));
        assert!(!order.is_confirmed(22, 20), "21 stands between");
        assert!(!order.is_confirmed(20, 16), "that was not read");
        // Its own look, when what it waited for is gone.
        order.saw(&entry(22), Exclusive, &behind(&[21]));
        assert!(order.is_confirmed(22, 21));
        // What was unconfirmed once is for its own look alone.
        order.reads(26, &[25, 24, 22, 21, 20, 16]);
        assert!(!order.is_confirmed(20, 16));
    }

    #[test]
    fn a_read_proves_nothing_of_who_came_after_it() {
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
    fn guesses_are_few_among_those_who_wait() {
        let assumes = |count| {
            let mut order = waiting(count);
            (100..).map_while(|token| order.assumes(token)).count()
        };
        assert_eq!([0, 1, 2, 3].map(assumes), [0, 0, 1, 2]);
        assert_eq!(assumes(16), 15);
        assert_eq!(assumes(1000), GUESSES);
    }

    #[test]
    fn of_many_who_come_at_once_few_read_and_enough_to_prove_all() {
        let mut order = waiting(0);
        let limits: Vec<usize> = (0..500).map(|_| order.arrives(QUEUE)).collect();
        assert_eq!(limits[..6], [1, 1, 0, 3, 0, 0]);
        let reads: Vec<usize> = (0..500).filter(|number| limits[*number] > 0).collect();
        assert!(reads.len() < 24, "{reads:?}");
        for pair in reads.windows(2) {
            let assumes = pair[1] - pair[0] - 1;
            assert!(assumes <= GUESSES);
            assert_eq!(limits[pair[1]], 2 * assumes + 1);
        }
        (0..500).for_each(|_| order.arrived(QUEUE));
        assert!(order.is_empty(), "all came to nothing");
    }

    #[test]
    fn the_nearest_of_ours_is_waited_for() {
        let mut order = waiting(6);
        assert_eq!(order.assumes(20), Some(16));
        // Its answer comes later, but it was made before the other.
        let ahead = |order: &mut Order, token| order.assume(&entry(token), Exclusive);
        assert_eq!(ahead(&mut order, 19).map(|ahead| ahead.id), Some(entry(16)));
        order.forget(&entry(16));
        assert_eq!(ahead(&mut order, 30).map(|ahead| ahead.id), Some(entry(20)));
        assert_eq!(ahead(&mut order, 10), None, "nobody that we know of");
        assert!(!order.is_confirmed(10, 9));
    }

    #[test]
    fn what_an_entry_waits_for_now_is_what_counts() {
        let mut order = waiting(2);
        assert!(order.is_confirmed(12, 11) && !order.is_confirmed(12, 10));
        order.saw(&entry(12), Exclusive, &behind(&[10]));
        assert!(order.is_confirmed(12, 10) && !order.is_confirmed(12, 11));
        order.saw(&entry(12), Exclusive, &behind(&[]));
        assert!(!order.is_confirmed(12, 10), "it waits no more");
        let absent = View {
            present: false,
            ahead: Vec::new(),
        };
        order.saw(&entry(11), Exclusive, &absent);
        assert!(order.is_empty());
    }
}

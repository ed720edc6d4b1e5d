//! The rule of the queue: who holds, who waits for whom. Pure: no I/O, no clock, no async.

use crate::entry::{EntryId, Mode};

/// The part of the queue ahead that a contender needs to see: the nearest entries of certain modes.
/// So a store can read an index instead of sending its whole queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Whether to leave out shared entries.
    pub exclusive_only: bool,
    /// The most entries to return, nearest first.
    pub limit: usize,
}

/// An entry that stands ahead of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    /// Identifies the entry.
    pub id: EntryId,
    /// How its contender holds the lock, or wants to hold it.
    pub mode: Mode,
}

/// The queue as one entry sees it at one instant of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Whether our own entry is in the queue: this incarnation, under our session.
    pub present: bool,
    /// The entries ahead, nearest first, as the [`Ask`] selects them.
    pub ahead: Vec<Ahead>,
}

/// The decision that follows from a [`View`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// We hold the lock.
    Granted,
    /// We wait. Nothing can change for us before this entry is gone.
    Blocked(EntryId),
    /// Our entry is gone.
    Evicted,
}

/// Returns whether an entry of `mode` has to wait for one of mode `ahead` that stands before it.
fn conflicts(mode: Mode, ahead: Mode) -> bool {
    mode == Mode::Exclusive || ahead == Mode::Exclusive
}

/// Returns what an entry of this mode needs to see. An exclusive entry waits for the nearest entry
/// of any mode, which in turn waits for all that is further ahead. A shared entry waits for the
/// nearest exclusive entry, also if that waits itself: so a waiting writer stops new readers.
pub fn ask(mode: Mode) -> Ask {
    Ask {
        exclusive_only: mode == Mode::Shared,
        limit: 1,
    }
}

/// Decides whether an entry of this mode that sees this view holds the lock.
///
/// # Examples
/// ```
/// use lock_core::Mode;
/// use lock_core::rule::{Verdict, View, judge};
///
/// let view = View { present: true, ahead: vec![] };
/// assert_eq!(judge(Mode::Exclusive, &view), Verdict::Granted);
/// let view = View { present: false, ahead: vec![] };
/// assert_eq!(judge(Mode::Exclusive, &view), Verdict::Evicted);
/// ```
pub fn judge(mode: Mode, view: &View) -> Verdict {
    if !view.present {
        return Verdict::Evicted;
    }
    match view.ahead.iter().find(|a| conflicts(mode, a.mode)) {
        Some(ahead) => Verdict::Blocked(ahead.id.clone()),
        None => Verdict::Granted,
    }
}

/// Returns the places in a queue of the entries that the one at `place` waits for: those whose ends,
/// together, let it hold the lock, without the ones that these in turn wait for. It is none for an
/// entry that holds.
///
/// For an exclusive entry behind shared ones, [`judge`] names one of them after the other; these are
/// all of them.
///
/// # Examples
/// ```
/// use lock_core::Mode::{Exclusive, Shared};
/// use lock_core::rule::blockers;
///
/// let queue = [Exclusive, Shared, Shared, Exclusive, Shared];
/// let of = |place| blockers(&queue, place).collect::<Vec<_>>();
/// assert!(of(0).is_empty());
/// assert_eq!((of(1), of(2)), (vec![0], vec![0]));
/// assert_eq!(of(3), [2, 1]);
/// assert_eq!(of(4), [3]);
/// ```
pub fn blockers(modes: &[Mode], place: usize) -> impl Iterator<Item = usize> + use<> {
    let ahead = &modes[..place.min(modes.len())];
    let nearest_exclusive = ahead.iter().rposition(|mode| *mode == Mode::Exclusive);
    let places = match (modes.get(place), nearest_exclusive) {
        (None, _) | (Some(Mode::Shared), None) => 0..0,
        (Some(Mode::Shared), Some(nearest)) => nearest..nearest + 1,
        (Some(Mode::Exclusive), Some(nearest)) if nearest + 1 == ahead.len() => {
            nearest..nearest + 1
        }
        // The shared ones, which in turn wait for an exclusive one.
        (Some(Mode::Exclusive), nearest) => nearest.map_or(0, |nearest| nearest + 1)..ahead.len(),
    };
    places.rev()
}

/// Applies the same rule to a whole queue, in the order of arrival, and returns how many of its
/// entries hold the lock. The holders are the first entries.
pub fn count_holders(modes: impl IntoIterator<Item = Mode>) -> usize {
    let mut ahead: Option<Mode> = None;
    modes
        .into_iter()
        // All holders so far share a mode, so one of them stands for all.
        .take_while(|mode| !ahead.replace(*mode).is_some_and(|a| conflicts(*mode, a)))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incarnation::Incarnation;
    use Mode::{Exclusive, Shared};
    use proptest::prelude::*;

    fn id(n: usize) -> EntryId {
        EntryId {
            key: n.to_string().into_bytes().into(),
            incarnation: Incarnation::new(n as u64 + 1),
        }
    }

    /// Returns what a store shows to the entry at `index` of this queue.
    fn view(queue: &[Mode], index: usize) -> View {
        let ask = ask(queue[index]);
        let ahead = (0..index)
            .rev()
            .filter(|i| !ask.exclusive_only || queue[*i] == Exclusive)
            .take(ask.limit)
            .map(|i| Ahead {
                id: id(i),
                mode: queue[i],
            })
            .collect();
        View {
            present: true,
            ahead,
        }
    }

    fn verdicts(queue: &[Mode]) -> Vec<Verdict> {
        (0..queue.len())
            .map(|i| judge(queue[i], &view(queue, i)))
            .collect()
    }

    #[test]
    fn exclusive_waits_for_the_nearest_and_shared_for_the_nearest_exclusive() {
        let queue = [Shared, Shared, Exclusive, Shared, Shared, Exclusive];
        let expected = [
            Verdict::Granted,
            Verdict::Granted,
            Verdict::Blocked(id(1)),
            Verdict::Blocked(id(2)),
            Verdict::Blocked(id(2)),
            Verdict::Blocked(id(4)),
        ];
        assert_eq!(verdicts(&queue), expected);
    }

    #[test]
    fn an_absent_entry_is_evicted_whatever_stands_ahead() {
        let view = View {
            present: false,
            ahead: vec![],
        };
        assert_eq!(judge(Exclusive, &view), Verdict::Evicted);
    }

    proptest! {
        #[test]
        fn holders_never_conflict_and_someone_always_holds(
            shared in proptest::collection::vec(any::<bool>(), 1..40),
        ) {
            let queue: Vec<Mode> =
                shared.iter().map(|s| if *s { Shared } else { Exclusive }).collect();
            let verdicts = verdicts(&queue);
            let holders: Vec<usize> =
                (0..queue.len()).filter(|i| verdicts[*i] == Verdict::Granted).collect();
            prop_assert!(!holders.is_empty());
            prop_assert!(holders.len() == 1 || holders.iter().all(|i| queue[*i] == Shared));
            // Holders are the first ones: nobody is overtaken.
            prop_assert_eq!(&holders, &(0..holders.len()).collect::<Vec<_>>());
            // The bounded view and the whole queue lead to the same verdict.
            prop_assert_eq!(super::count_holders(queue.iter().copied()), holders.len());
        }

        #[test]
        fn the_blockers_together_are_all_that_conflict(
            shared in proptest::collection::vec(any::<bool>(), 1..40),
        ) {
            let queue: Vec<Mode> =
                shared.iter().map(|s| if *s { Shared } else { Exclusive }).collect();
            let verdicts = verdicts(&queue);
            // For each entry, all that it waits for in the end.
            let mut reached: Vec<std::collections::BTreeSet<usize>> = Vec::new();
            for (place, verdict) in verdicts.iter().enumerate() {
                let blockers: Vec<usize> = super::blockers(&queue, place).collect();
                prop_assert_eq!(*verdict == Verdict::Granted, blockers.is_empty());
                if let Verdict::Blocked(by) = verdict {
                    prop_assert_eq!(by, &id(blockers[0]));
                }
                let all = blockers.iter().flat_map(|b| reached[*b].iter().chain([b]));
                reached.push(all.copied().collect());
                for ahead in 0..place {
                    let conflicting = conflicts(queue[place], queue[ahead]);
                    prop_assert!(!conflicting || reached[place].contains(&ahead));
                }
            }
        }

        #[test]
        fn following_the_blockers_leads_to_a_holder(
            shared in proptest::collection::vec(any::<bool>(), 1..40),
        ) {
            let queue: Vec<Mode> =
                shared.iter().map(|s| if *s { Shared } else { Exclusive }).collect();
            let verdicts = verdicts(&queue);
            for start in 0..queue.len() {
                let mut at = start;
                while let Verdict::Blocked(by) = &verdicts[at] {
                    let next = by.incarnation.expect("known").get() as usize - 1;
                    prop_assert!(next < at);
                    at = next;
                }
                prop_assert_eq!(&verdicts[at], &Verdict::Granted);
            }
        }
    }
}

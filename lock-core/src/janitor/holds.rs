//! Watches the entries of held locks, and tells a hold whose entry is gone. A process may hold very
//! many locks for very long, so one loop serves all holds of a session, and what is kept for each
//! is little more than its watch.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, stream};
use tokio::sync::Notify;
use tokio::task::coop;
use tokio::time::Instant;

use super::guarded;
use crate::backoff::Backoff;
use crate::error::{Error, LossReason};
use crate::hold::Hold;
use crate::rule::{self, View};
use crate::session::{AsOf, Session};

/// A hold that is over within this time never has its entry watched: the watch would cost more than
/// the lock. One that lasts has it within twice this.
const SWEEP: Duration = Duration::from_millis(25);

/// A watch event can be lost in the store: a held entry is looked up by itself this often (up to
/// twice it, at random).
const BACKSTOP: Duration = Duration::from_secs(60);

/// That many holds are looked up as often as that, or watched anew at once when their watches broke.
/// If there are more, each has to wait so much longer: to hold many locks costs no more requests
/// than to hold these.
const BACKSTOP_HOLDS: usize = 1000;

/// Held entries that are looked up at once. The rest wait their turn: when a connection breaks, all
/// that were watched over it are to be looked up.
const LOOKS: usize = 64;

/// The holds of a session that are not watched yet.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    generations: Mutex<Generations>,
    /// A first one came since there was none.
    came: Notify,
}

#[derive(Debug, Default)]
struct Generations {
    /// Since the last sweep.
    young: HashMap<u64, Arc<Hold>>,
    /// Since the sweep before it.
    old: HashMap<u64, Arc<Hold>>,
    /// There will be a next one.
    swept: bool,
}

impl Fresh {
    /// Wakes another thread for the first of a sweep only, so a short hold costs no wake-up.
    pub(super) fn add(&self, hold: &Arc<Hold>) {
        let mut generations = self.generations();
        generations.young.insert(hold.serial(), hold.clone());
        if !std::mem::replace(&mut generations.swept, true) {
            self.came.notify_one();
        }
    }

    pub(super) fn remove(&self, serial: u64) {
        let mut generations = self.generations();
        if generations.young.remove(&serial).is_none() {
            generations.old.remove(&serial);
        }
    }

    /// Those that have lasted.
    async fn sweep(&self) -> HashMap<u64, Arc<Hold>> {
        loop {
            if !self.generations().swept {
                self.came.notified().await;
            }
            tokio::time::sleep(SWEEP).await;
            let mut generations = self.generations();
            let young = std::mem::take(&mut generations.young);
            generations.swept = !young.is_empty();
            let lasted = std::mem::replace(&mut generations.old, young);
            if !lasted.is_empty() {
                return lasted;
            }
        }
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A hold under watch.
struct Watched {
    hold: Arc<Hold>,
    /// Of its watch, which broke so often in a row.
    backoff: Backoff,
}

/// Why a held entry is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Its watch told of a change.
    Change,
    /// Its watch broke.
    Interruption,
    /// It is its turn.
    Backstop,
}

/// Watches the entries of all holds that last, until the session is lost.
pub(super) async fn watch(session: &dyn Session, fresh: &Fresh) {
    let mut lost = pin!(session.liveness().lost());
    let sweeps = stream::unfold(fresh, async |fresh| Some((fresh.sweep().await, fresh)));
    let mut sweeps = pin!(sweeps);
    // Each of these is in `watches`, `due`, `looks` or `resting`; one that is looked up because it
    // is its turn, in `watches` too.
    let mut watched: BTreeMap<u64, Watched> = BTreeMap::new();
    let mut watches = FuturesUnordered::new();
    let mut due: VecDeque<(u64, Cause)> = VecDeque::new();
    let mut looks = FuturesUnordered::new();
    let mut resting: BTreeSet<(Instant, u64)> = BTreeSet::new();
    let mut turn = Turn::new();
    // Waits for a change of a held entry; `None` once the hold is over. No function, since a future
    // of that would keep its arguments twice.
    let session = &session;
    let changed = |hold: Arc<Hold>| async move {
        let changed = guarded(session.changed(hold.entry(), hold.entry()));
        // When all are woken at once, the budget of this task would be spent with the first of
        // them, and the others be woken in vain over and over.
        let changed = coop::unconstrained(hold.watch_until_end(changed)).await;
        (hold.serial(), changed)
    };
    loop {
        // When a connection breaks, very many are ready at once.
        coop::consume_budget().await;
        while looks.len() < LOOKS
            && let Some((serial, cause)) = due.pop_front()
        {
            match watched.get(&serial) {
                Some(Watched { hold, .. }) if !hold.is_over() => {
                    looks.push(look(*session, hold.clone(), cause));
                }
                _ => drop(watched.remove(&serial)),
            }
        }
        let rested = resting.first().map(|(until, _)| *until);
        let backstop = (due.is_empty() && !watched.is_empty()).then(|| turn.at(watched.len()));
        tokio::select! {
            _ = &mut lost => return,
            Some(lasted) = sweeps.next() => {
                if watched.is_empty() {
                    turn = Turn::new();
                }
                for (serial, hold) in lasted {
                    watches.push(changed(hold.clone()));
                    watched.insert(serial, Watched { hold, backoff: Backoff::default() });
                }
            }
            Some((serial, outcome)) = watches.next() => match outcome {
                Some(Ok(())) => due.push_front((serial, Cause::Change)),
                Some(Err(error)) => {
                    tracing::debug!(%error, "the watch on a held entry was interrupted");
                    due.push_back((serial, Cause::Interruption));
                }
                None => drop(watched.remove(&serial)),
            },
            Some((serial, cause, view)) = looks.next() => {
                let crowding = crowding(watched.len());
                let Some(Watched { hold, backoff }) = watched.get_mut(&serial) else {
                    continue;
                };
                match view {
                    Ok(view) if !view.present => _ = hold.lose(LossReason::EntryGone),
                    Ok(_) => {}
                    Err(error) => {
                        let lock = &hold.ticket().name;
                        tracing::debug!(%error, %lock, "a held entry was not found out about");
                    }
                }
                if hold.is_over() {
                    watched.remove(&serial);
                } else if cause == Cause::Backstop {
                    *backoff = Backoff::default();
                } else {
                    // A coordinator that has no watches left would hear of all of them over and over.
                    let pause = backoff.next_pause().mul_f64(crowding);
                    resting.insert((Instant::now() + pause, serial));
                }
            }
            () = at(rested) => {
                let Some((_, serial)) = resting.pop_first() else {
                    continue;
                };
                if let Some(Watched { hold, .. }) = watched.get(&serial) {
                    watches.push(changed(hold.clone()));
                }
            }
            () = at(backstop) => {
                if let Some(serial) = turn.next(&watched) {
                    due.push_back((serial, Cause::Backstop));
                }
            }
        }
    }
}

/// Who is looked up next by itself, and when.
struct Turn {
    last: u64,
    since: Instant,
    /// How long it takes this time, from once to twice the usual: many processes that began
    /// together are not to look together.
    stretch: f64,
}

impl Turn {
    fn new() -> Self {
        Turn {
            last: 0,
            since: Instant::now(),
            stretch: 1.0 + fastrand::f64(),
        }
    }

    fn at(&self, watched: usize) -> Instant {
        self.since + BACKSTOP.mul_f64(crowding(watched) * self.stretch / watched as f64)
    }

    fn next(&mut self, watched: &BTreeMap<u64, Watched>) -> Option<u64> {
        let later = watched.range((Bound::Excluded(self.last), Bound::Unbounded));
        let (serial, _) = later.chain(watched.iter()).next()?;
        *self = Turn {
            last: *serial,
            ..Turn::new()
        };
        Some(*serial)
    }
}

/// How many times longer than usual a hold waits to be looked up; one at least.
fn crowding(watched: usize) -> f64 {
    // More than fit into 52 bits are not held.
    watched.max(BACKSTOP_HOLDS) as f64 / BACKSTOP_HOLDS as f64
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

async fn look(
    session: &dyn Session,
    hold: Arc<Hold>,
    cause: Cause,
) -> (u64, Cause, Result<View, Error>) {
    let as_of = match cause {
        Cause::Change => AsOf::Change,
        Cause::Interruption | Cause::Backstop => AsOf::Now,
    };
    let ask = rule::ask(hold.ticket().mode);
    let view = guarded(session.look(hold.ticket(), hold.entry(), ask, as_of)).await;
    (hold.serial(), cause, view)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_their_turn() {
        let hold = |serial| {
            let watched = Watched {
                hold: Hold::sample(serial),
                backoff: Backoff::default(),
            };
            (serial, watched)
        };
        let mut watched = BTreeMap::from([3, 5, 9].map(hold));
        let mut turn = Turn::new();
        let share = |holds| (turn.at(holds) - turn.since).div_duration_f64(BACKSTOP);
        assert!((1.0..=2.0).contains(&share(1)), "{}", share(1));
        assert!((share(1) / share(3) - 3.0).abs() < 1e-6, "{}", share(3));
        let seen: Vec<_> = (0..4).filter_map(|_| turn.next(&watched)).collect();
        assert_eq!(seen, [3, 5, 9, 3]);
        watched.remove(&5);
        assert_eq!(turn.next(&watched), Some(9));
        watched.clear();
        assert_eq!(turn.next(&watched), None);
    }

    #[test]
    fn many_holds_are_looked_up_no_more_often_than_a_thousand() {
        let looks_a_minute = |holds: usize| (holds as f64 / crowding(holds)).round();
        assert_eq!([0, 10, 1000].map(looks_a_minute), [0.0, 10.0, 1000.0]);
        assert_eq!([1001, 100_000].map(looks_a_minute), [1000.0, 1000.0]);
    }
}

//! Watches the entries of held locks, and ends a hold whose entry is gone.
//!
//! A process may hold very many locks for a very long time. So one loop serves all holds of a
//! session, and needs little more memory for each hold than its watch.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, stream};
use tokio::sync::Notify;
use tokio::task::coop;
use tokio::time::Instant;

use super::catch_panic;
use crate::backoff::Backoff;
use crate::error::{Error, LossReason};
use crate::gate::{Gate, Passage, Refusal, Try};
use crate::handoff::HandoffSession;
use crate::hold::Hold;
use crate::rule::{self, View};
use crate::self_wait::{HolderMark, Holders};
use crate::session::{AsOf, Session, Watcher};

/// The age below which a hold's entry is never watched, because the watch would cost more than the
/// lock. The entry of a longer hold is watched within twice this time.
const SWEEP: Duration = Duration::from_millis(25);

/// How often a held entry is looked up without an event (at random up to twice this time), because
/// a store can lose the event of a watch.
const BACKSTOP: Duration = Duration::from_secs(60);

/// The most holds that are each looked up every [`BACKSTOP`], and watched anew at once when their
/// watches broke. If there are more holds, each waits longer in proportion, so more holds cost no
/// more requests.
const BACKSTOP_HOLDS: usize = 1000;

/// The most entries that are looked up at once. When a connection breaks, all entries that were
/// watched over it have to be looked up, and the rest of them wait.
const LOOKS: usize = 64;

/// The holds of a session whose entries are not watched yet.
#[derive(Debug, Default)]
pub(super) struct UnwatchedHolds {
    generations: Mutex<Generations>,
    /// Wakes the sweep when the first hold arrives after there was none.
    arrival: Notify,
}

#[derive(Debug, Default)]
struct Generations {
    /// The holds that were added since the last sweep.
    young: BTreeMap<u64, Arc<Hold>>,
    /// The holds that were added between the last two sweeps.
    old: BTreeMap<u64, Arc<Hold>>,
    /// Whether there will be a next sweep.
    sweep_due: bool,
    /// Why the session was lost, once it is.
    loss: Option<LossReason>,
}

impl UnwatchedHolds {
    /// Adds a hold. Wakes the other thread only for the first hold of a sweep, so a short hold
    /// costs no wake-up.
    /// A hold of a session that was lost meanwhile ends at once.
    pub(super) fn add(&self, hold: &Arc<Hold>) {
        let loss = self.insert(hold);
        if let Some(reason) = loss {
            hold.lose(reason);
        }
    }

    fn insert(&self, hold: &Arc<Hold>) -> Option<LossReason> {
        let mut generations = self.generations();
        if generations.loss.is_some() {
            return generations.loss;
        }
        generations.young.insert(hold.serial(), hold.clone());
        if !std::mem::replace(&mut generations.sweep_due, true) {
            self.arrival.notify_one();
        }
        None
    }

    /// Returns all holds, and keeps none from now on, because the session was lost.
    fn take_all(&self, reason: LossReason) -> Vec<Arc<Hold>> {
        let mut generations = self.generations();
        generations.loss = Some(reason);
        let young = std::mem::take(&mut generations.young);
        let old = std::mem::take(&mut generations.old);
        young.into_values().chain(old.into_values()).collect()
    }

    pub(super) fn remove(&self, serial: u64) {
        let mut generations = self.generations();
        if generations.young.remove(&serial).is_none() {
            generations.old.remove(&serial);
        }
    }

    /// Waits until there are holds that have lasted over a whole sweep, and returns them.
    async fn sweep(&self) -> BTreeMap<u64, Arc<Hold>> {
        loop {
            if !self.generations().sweep_due {
                self.arrival.notified().await;
            }
            tokio::time::sleep(SWEEP).await;
            let mut generations = self.generations();
            let young = std::mem::take(&mut generations.young);
            generations.sweep_due = !young.is_empty();
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

/// A hold whose entry is watched.
pub(super) struct Watched {
    hold: Arc<Hold>,
    /// The pauses before the watch is set anew, which grow with the number of breaks in a row.
    backoff: Backoff,
    /// Counts the hold as one of its caller's.
    _mark: HolderMark,
}

/// The reason why a held entry is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The watch of the entry reported a change.
    Change,
    /// The watch of the entry broke.
    Interruption,
    /// The entry is next in the regular order.
    Backstop,
}

/// Ends all holds, so that their observer hears of it even if their guards are never asked.
pub(super) fn end_all(
    unwatched: &UnwatchedHolds,
    watched: &BTreeMap<u64, Watched>,
    reason: LossReason,
) {
    let unwatched = unwatched.take_all(reason);
    let watched = watched.values().map(|watched| &watched.hold);
    for hold in unwatched.iter().chain(watched) {
        hold.lose(reason);
    }
}

/// Watches the entries of all holds that last, and counts these as `holders`, until the session is
/// lost. Then ends all holds. `watched` has the holds whose entries are watched.
pub(super) async fn watch(
    handoff: &HandoffSession,
    unwatched: &UnwatchedHolds,
    holders: &Arc<Holders>,
    watched: &mut BTreeMap<u64, Watched>,
) {
    let (session, gate) = (&**handoff.session(), handoff.gate());
    let mut lost = pin!(session.liveness().lost());
    let sweeps = stream::unfold(unwatched, async |unwatched| {
        Some((unwatched.sweep().await, unwatched))
    });
    let mut sweeps = pin!(sweeps);
    // Each hold in `watched` is in one of `watches`, `due`, `looks` and `resting`. A hold that is
    // looked up in the regular order also stays in `watches`.
    let mut watches = FuturesUnordered::new();
    let mut due: VecDeque<(u64, Cause)> = VecDeque::new();
    let mut looks = FuturesUnordered::new();
    let mut resting: BTreeSet<(Instant, u64)> = BTreeSet::new();
    let mut regular = RegularLook::new();
    // Waits for a change of a held entry; returns `None` once the hold is over. This is a closure,
    // because the future of a function would store its arguments twice.
    let session = &session;
    let changed = |hold: Arc<Hold>| async move {
        let changed = catch_panic(session.watch(hold.entry(), Watcher::Owner));
        // When all watches are woken at once, the first of them would spend this task's budget, and
        // the others would be woken in vain over and over.
        let changed = coop::unconstrained(hold.watch_until_end(changed)).await;
        (hold.serial(), changed)
    };
    loop {
        // When a connection breaks, very many watches are ready at once.
        coop::consume_budget().await;
        while looks.len() < LOOKS
            && let Some((serial, cause)) = due.pop_front()
        {
            match watched.get(&serial) {
                Some(Watched { hold, .. }) if !hold.is_over() => {
                    match enter(gate, cause) {
                        Ok(passage) => looks.push(look(*session, hold.clone(), cause, passage)),
                        Err(refusal) => {
                            // Without a question for each of them. What an event demands stands at
                            // the front, and is under way.
                            due.push_front((serial, cause));
                            rest(&mut due, &mut resting, watched, refusal.retry_after());
                        }
                    }
                }
                _ => drop(watched.remove(&serial)),
            }
        }
        let rested = resting.first().map(|(until, _)| *until);
        let backstop =
            (due.is_empty() && !watched.is_empty()).then(|| regular.next_look_at(watched.len()));
        tokio::select! {
            reason = &mut lost => {
                end_all(unwatched, watched, reason);
                return;
            }
            Some(lasted) = sweeps.next() => {
                if watched.is_empty() {
                    regular = RegularLook::new();
                }
                for (serial, hold) in lasted {
                    watches.push(changed(hold.clone()));
                    let _mark = holders.mark(hold.caller());
                    watched.insert(serial, Watched { hold, backoff: Backoff::default(), _mark });
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
                let crowding = crowding_factor(watched.len());
                let Some(Watched { hold, backoff, .. }) = watched.get_mut(&serial) else {
                    continue;
                };
                match view {
                    Ok(view) if !view.present => hold.lose_entry(),
                    Ok(_) => {}
                    Err(error) => {
                        let lock = &hold.ticket().name;
                        tracing::debug!(%error, %lock, "a held entry could not be looked up");
                    }
                }
                if hold.is_over() {
                    watched.remove(&serial);
                } else if cause == Cause::Backstop {
                    *backoff = Backoff::default();
                } else {
                    // Without a pause, a coordinator that has no watches left would be asked for
                    // all of them over and over.
                    let pause = backoff.next_pause().mul_f64(crowding);
                    resting.insert((Instant::now() + pause, serial));
                }
            }
            () = wait_until(rested) => {
                let Some((_, serial)) = resting.pop_first() else {
                    continue;
                };
                if let Some(Watched { hold, .. }) = watched.get(&serial) {
                    watches.push(changed(hold.clone()));
                }
            }
            () = wait_until(backstop) => {
                if let Some(serial) = regular.next(watched) {
                    due.push_back((serial, Cause::Backstop));
                }
            }
        }
    }
}

/// Selects the hold that is looked up next in the regular order, and the time of that look.
struct RegularLook {
    last: u64,
    since: Instant,
    /// The factor of the interval, from 1 to 2 at random, so that processes that began together do
    /// not look together.
    stretch: f64,
}

impl RegularLook {
    fn new() -> Self {
        RegularLook {
            last: 0,
            since: Instant::now(),
            stretch: 1.0 + fastrand::f64(),
        }
    }

    /// Returns when the next hold is looked up if this many are watched.
    fn next_look_at(&self, watched: usize) -> Instant {
        self.since + BACKSTOP.mul_f64(crowding_factor(watched) * self.stretch / watched as f64)
    }

    /// Returns the serial of the hold that is next, and goes on to the one after it.
    fn next(&mut self, watched: &BTreeMap<u64, Watched>) -> Option<u64> {
        let later = watched.range((Bound::Excluded(self.last), Bound::Unbounded));
        let (serial, _) = later.chain(watched.iter()).next()?;
        *self = RegularLook {
            last: *serial,
            ..RegularLook::new()
        };
        Some(*serial)
    }
}

/// Returns the factor by which a hold waits longer than usual to be looked up; at least 1.
fn crowding_factor(watched: usize) -> f64 {
    // The cast is exact, since no process has more than 2^52 holds.
    watched.max(BACKSTOP_HOLDS) as f64 / BACKSTOP_HOLDS as f64
}

/// Waits until this instant, or for ever if there is none.
async fn wait_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Postpones all looks that are due by this pause and a little more. Those of the regular order are
/// left out: their holds are still watched, and their time comes again.
fn rest(
    due: &mut VecDeque<(u64, Cause)>,
    resting: &mut BTreeSet<(Instant, u64)>,
    watched: &mut BTreeMap<u64, Watched>,
    pause: Duration,
) {
    let end = Instant::now() + pause;
    let crowding = crowding_factor(watched.len());
    for (serial, cause) in due.drain(..) {
        if cause != Cause::Backstop
            && let Some(Watched { backoff, .. }) = watched.get_mut(&serial)
        {
            resting.insert((end + backoff.next_pause().mul_f64(crowding), serial));
        }
    }
}

/// Lets a look pass the gate, unless an event demands it.
///
/// # Errors
/// If it must not be sent now.
fn enter(gate: &Gate, cause: Cause) -> Result<Option<Passage<'_>>, Refusal> {
    match cause {
        Cause::Change => Ok(None),
        Cause::Interruption | Cause::Backstop => gate.enter(Try::Again).map(Some),
    }
}

/// Looks up the entry of a hold.
async fn look(
    session: &dyn Session,
    hold: Arc<Hold>,
    cause: Cause,
    passage: Option<Passage<'_>>,
) -> (u64, Cause, Result<View, Error>) {
    let as_of = match cause {
        Cause::Change => AsOf::Change,
        Cause::Interruption | Cause::Backstop => AsOf::Now,
    };
    let ask = rule::ask(hold.ticket().mode);
    let view = catch_panic(session.look(hold.ticket(), hold.entry(), ask, as_of)).await;
    if let Some(passage) = passage {
        passage.end(&view);
    }
    (hold.serial(), cause, view)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hold_is_looked_up_in_turn() {
        let hold = |serial| {
            let hold = Hold::sample(serial);
            let watched = Watched {
                _mark: Arc::<Holders>::default().mark(hold.caller()),
                hold,
                backoff: Backoff::default(),
            };
            (serial, watched)
        };
        let mut watched = BTreeMap::from([3, 5, 9].map(hold));
        let mut regular = RegularLook::new();
        let share =
            |holds| (regular.next_look_at(holds) - regular.since).div_duration_f64(BACKSTOP);
        assert!((1.0..=2.0).contains(&share(1)), "{}", share(1));
        assert!((share(1) / share(3) - 3.0).abs() < 1e-6, "{}", share(3));
        let seen: Vec<_> = (0..4).filter_map(|_| regular.next(&watched)).collect();
        assert_eq!(seen, [3, 5, 9, 3]);
        watched.remove(&5);
        assert_eq!(regular.next(&watched), Some(9));
        watched.clear();
        assert_eq!(regular.next(&watched), None);
    }

    #[test]
    fn many_holds_are_looked_up_no_more_often_than_a_thousand() {
        let looks_a_minute = |holds: usize| (holds as f64 / crowding_factor(holds)).round();
        assert_eq!([0, 10, 1000].map(looks_a_minute), [0.0, 10.0, 1000.0]);
        assert_eq!([1001, 100_000].map(looks_a_minute), [1000.0, 1000.0]);
    }
}

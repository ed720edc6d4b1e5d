//! The local queue of one lock: which task of this process has the turn, who waits for it, and the
//! entry that is kept while nobody has it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::cool_down::CoolDown;
use super::keeper;
use super::kept::{Judgement, Kept, Others};
use super::options::{Sticky, StickyStats};
use super::registry::Keepers;
use super::turn::{Acquiring, Turn};
use crate::background;
use crate::clock::{BootInstant, Clock};
use crate::entry::EntryId;
use crate::error::{Error, LossReason};
use crate::name::LockName;

/// The state of one lock among the tasks of this process.
pub(crate) struct Slot {
    name: LockName,
    keepers: Arc<Keepers>,
    state: Mutex<State>,
    /// Whether the process has a place in the lock's queue, as far as it was told.
    has_place: AtomicBool,
    holds: AtomicU64,
    placed: AtomicU64,
    hits: AtomicU64,
    recalls: AtomicU64,
}

struct State {
    local: Local,
    /// The number of the turns that count. A turn whose hold was lost counts no more.
    generation: u64,
    /// The tasks that wait for the turn, in the order of arrival. Some may have given up.
    waiting: VecDeque<oneshot::Sender<Passed>>,
    cool_down: CoolDown,
    /// What the latest turn asked for.
    sticky: Sticky,
    /// When the keeper asks next whether the entry is idle; `None` if it has to be told of the next
    /// park.
    next_check: Option<BootInstant>,
}

/// Who uses the lock in this process.
enum Local {
    Nobody,
    /// A task has the turn, with the hold of this number once it has one.
    Task(Option<u64>),
    /// Nobody does, and the entry is kept until this instant.
    Parked {
        kept: Box<Kept>,
        until: BootInstant,
    },
}

/// What a task that waits gets: the turn, or the error by which the process has lost its place in the
/// lock's queue.
pub(super) type Passed = Result<Turn, Error>;

/// What a task finds that wants the turn.
pub(super) enum Arrival {
    Turn(Turn),
    /// Another task has it, and this one waits.
    Wait(oneshot::Receiver<Passed>),
    /// Another task has it, and this one does not wait.
    Busy,
}

impl Slot {
    pub(super) fn new(name: LockName, keepers: Arc<Keepers>) -> Arc<Self> {
        Arc::new(Slot {
            name,
            keepers,
            state: Mutex::new(State {
                local: Local::Nobody,
                generation: 0,
                waiting: VecDeque::new(),
                cool_down: CoolDown::default(),
                sticky: Sticky::default(),
                next_check: None,
            }),
            has_place: AtomicBool::new(false),
            holds: AtomicU64::new(0),
            placed: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            recalls: AtomicU64::new(0),
        })
    }

    pub(super) fn stats(&self) -> StickyStats {
        StickyStats {
            placed: self.placed.load(Ordering::Relaxed),
            hits: self.hits.load(Ordering::Relaxed),
            recalls: self.recalls.load(Ordering::Relaxed),
        }
    }

    /// Counts a turn of this number.
    pub(super) fn count_turn(&self, number: u64) {
        let count = match number {
            0 => &self.placed,
            _ => &self.hits,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn keepers(&self) -> &Arc<Keepers> {
        &self.keepers
    }

    /// Returns whether the slot would be missed: somebody uses the lock, or it cools down.
    pub(super) fn is_in_use(&self) -> bool {
        let state = self.state();
        !matches!(state.local, Local::Nobody) || state.cool_down.is_on()
    }

    /// Returns whether the lock is not to be kept now.
    pub(super) fn cools_down(&self) -> bool {
        self.state().cool_down.is_on()
    }

    /// Notes that the process has a place in the lock's queue.
    pub(crate) fn note_place(&self) {
        self.has_place.store(true, Ordering::Relaxed);
    }

    /// Notes that the process asks for a place.
    pub(super) fn note_no_place(&self) {
        self.has_place.store(false, Ordering::Relaxed);
    }

    /// Returns whether the process has a place, as far as it was told.
    pub(super) fn has_place(&self) -> bool {
        self.has_place.load(Ordering::Relaxed)
    }

    /// Notes that the process has lost its place by this error, and tells all tasks that wait for the
    /// turn.
    pub(crate) fn note_lost_place(&self, error: &Error) {
        self.note_no_place();
        let waiting = std::mem::take(&mut self.state().waiting);
        for task in waiting {
            let _ = task.send(Err(error.clone()));
        }
    }

    /// Gives a task the turn, or a place in the local queue if it waits.
    pub(super) fn arrive(self: &Arc<Self>, sticky: Sticky, waits: bool) -> Arrival {
        let mut state = self.state();
        let generation = state.generation;
        match std::mem::replace(&mut state.local, Local::Task(None)) {
            Local::Nobody => Arrival::Turn(Turn::new(self, generation, sticky, None)),
            Local::Parked { kept, .. } => {
                Arrival::Turn(Turn::new(self, generation, sticky, Some(kept)))
            }
            Local::Task(hold) => {
                state.local = Local::Task(hold);
                if !waits {
                    return Arrival::Busy;
                }
                let (turn, passed) = oneshot::channel();
                // A queue of tasks that all give up does not grow without a limit.
                if state.waiting.len() == state.waiting.capacity() {
                    state.waiting.retain(|waiting| !waiting.is_closed());
                }
                state.waiting.push_back(turn);
                Arrival::Wait(passed)
            }
        }
    }

    /// Returns a number for a hold, which no other hold of the lock has, in whatever session.
    pub(super) fn number_hold(&self) -> u64 {
        self.holds.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes which hold the task with the turn has.
    pub(super) fn note_hold(&self, turn: &Turn, number: u64) {
        self.note_place();
        let mut state = self.state();
        if state.generation == turn.generation() {
            state.local = Local::Task(Some(number));
            state.sticky = *turn.sticky();
        }
    }

    /// Ends the turn of a hold that was lost, whatever its task does: the others do not wait for that.
    pub(crate) fn note_loss(self: &Arc<Self>, number: u64, reason: LossReason) {
        let mut state = self.state();
        if !matches!(state.local, Local::Task(Some(own)) if own == number) {
            return;
        }
        state.generation += 1;
        let (generation, sticky) = (state.generation, state.sticky);
        drop(state);
        match reason {
            // The session lives on, and so the next task queues anew.
            LossReason::EntryGone => {}
            _ => self.note_lost_place(&Error::session_lost(reason)),
        }
        self.pass_on(generation, sticky, None, None);
    }

    /// Returns whether an entry that a task has used would be used further if the turn ended now.
    pub(super) fn would_keep(&self, kept: &Kept, sticky: &Sticky) -> bool {
        // Before the mutex is locked: this may tell others of a loss.
        if kept.judge(sticky) == Judgement::Over {
            return false;
        }
        let state = self.state();
        state.waiting.iter().any(|task| !task.is_closed()) || state.may_park(kept, sticky)
    }

    /// Passes the turn on to the next task. If none waits, keeps the entry or gives it up. Does nothing
    /// for a turn that counts no more.
    pub(super) fn pass_on(
        self: &Arc<Self>,
        generation: u64,
        sticky: Sticky,
        kept: Option<Box<Kept>>,
        mut acquiring: Option<Acquiring>,
    ) {
        // What is not used goes at the end, without the mutex: the janitor has others.
        let (mut kept, _over) = match kept {
            Some(kept) if kept.judge(&sticky) == Judgement::Over => (None, Some(kept)),
            kept => (kept, None),
        };
        loop {
            let mut state = self.state();
            if state.generation != generation {
                return drop(state);
            }
            let Some(task) = state.waiting.pop_front() else {
                return self.leave(state, sticky, kept);
            };
            state.local = Local::Task(None);
            // The task may be woken on this thread.
            drop(state);
            let mut turn = Turn::new(self, generation, sticky, kept.take());
            turn.acquiring = acquiring.take();
            match task.send(Ok(turn)) {
                // The task has given up.
                Err(Ok(turn)) => (kept, acquiring) = turn.into_parts(),
                Ok(()) | Err(Err(_)) => return,
            }
        }
    }

    /// Ends a turn after which no task waits: keeps the entry, or gives it up.
    fn leave(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        sticky: Sticky,
        kept: Option<Box<Kept>>,
    ) {
        let (mut given_up, mut keeping) = (None, None);
        state.local = match kept {
            Some(mut kept) if state.may_park(&kept, &sticky) => {
                keeping = keeper::begin(self, &mut kept);
                let until = Clock::system().now() + sticky.idle;
                if state.next_check.is_none_or(|check| until < check) {
                    kept.tell_parked();
                }
                Local::Parked { kept, until }
            }
            kept => {
                given_up = kept;
                Local::Nobody
            }
        };
        drop(state);
        drop(given_up);
        // A keeper that cannot be started ends at once, and gives the entry up.
        if let Some(keeping) = keeping {
            keeper::start(keeping);
        }
    }

    /// Lets a keeper watch what stands behind an entry, if none does.
    pub(super) fn watch(self: &Arc<Self>, kept: &mut Kept) {
        if let Some(keeping) = keeper::begin(self, kept) {
            keeper::start(keeping);
        }
    }

    /// Notes that somebody wants the lock, and that it is not kept for a while.
    pub(super) fn note_wanted(&self) {
        self.recalls.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        let least = state.sticky.cool_down;
        state.cool_down.begin(Clock::system().now(), least);
    }

    /// Gives this entry up if nobody uses it.
    pub(super) fn give_up(&self, entry: &EntryId) {
        let given_up = self.state().take_parked(|kept, _| kept.entry() == entry);
        drop(given_up);
    }

    /// Gives up an entry that nobody has used for its idle time. Returns when to ask again, if one is
    /// kept.
    pub(super) fn end_idle(&self) -> Option<BootInstant> {
        let now = Clock::system().now();
        let mut state = self.state();
        let given_up = state.take_parked(|_, until| until <= now);
        state.next_check = match &state.local {
            Local::Parked { until, .. } => Some(*until),
            Local::Nobody | Local::Task(_) => None,
        };
        let next_check = state.next_check;
        drop(state);
        drop(given_up);
        next_check
    }

    /// Returns the entry that is kept while nobody uses it, for its removal.
    pub(super) fn take_parked(&self) -> Option<Box<Kept>> {
        self.state().take_parked(|_, _| true)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns whether an entry may be kept while nobody uses it.
    fn may_park(&self, kept: &Kept, sticky: &Sticky) -> bool {
        !sticky.idle.is_zero()
            && !self.cool_down.is_on()
            && matches!(kept.others(), Others::Nobody | Others::Unknown(_))
    }

    /// Takes out the entry that is kept while nobody uses it, if it is such a one.
    fn take_parked(
        &mut self,
        is_meant: impl FnOnce(&Kept, BootInstant) -> bool,
    ) -> Option<Box<Kept>> {
        match std::mem::replace(&mut self.local, Local::Nobody) {
            Local::Parked { kept, until } if is_meant(&kept, until) => Some(kept),
            local => {
                self.local = local;
                None
            }
        }
    }
}

/// In a forked child, the entry that is kept is the parent's, and to drop it would touch what other
/// threads of the parent may have locked.
impl Drop for Slot {
    fn drop(&mut self) {
        if background::is_forked()
            && let Ok(state) = self.state.get_mut()
        {
            std::mem::forget(std::mem::replace(&mut state.local, Local::Nobody));
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("name", &self.name)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

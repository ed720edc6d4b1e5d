//! The local queue of one lock: which task of this process has the turn, who waits for it, and the
//! entry that is kept while nobody has it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use super::keeper;
use super::kept::{Judgement, Kept, Others};
use super::options::{Sticky, StickyStats};
use super::registry::KeptCount;
use crate::background;
use crate::clock::{BootInstant, Clock};
use crate::entry::EntryId;
use crate::error::Error;
use crate::name::LockName;
use crate::options::OnSessionLoss;

/// The longest time for which a lock is not kept after others wanted it.
const LONGEST_COOL_DOWN: Duration = Duration::from_secs(300);

/// The state of one lock among the tasks of this process.
#[derive(Debug)]
pub(crate) struct Slot {
    name: LockName,
    /// The entries of all slots of the client that have a keeper.
    kept: Arc<AtomicUsize>,
    state: Mutex<State>,
    placed: AtomicU64,
    hits: AtomicU64,
    recalls: AtomicU64,
}

#[derive(Debug)]
struct State {
    local: Local,
    /// The tasks that wait for the turn, in the order of arrival. Some may have given up.
    waiting: VecDeque<oneshot::Sender<Result<Turn, Error>>>,
    cool_down: CoolDown,
}

/// Who uses the lock in this process.
#[derive(Debug)]
enum Local {
    Nobody,
    /// A task has the turn.
    Task,
    /// Nobody does, and the entry is kept until this instant.
    Parked {
        kept: Box<Kept>,
        until: BootInstant,
    },
}

/// For how long the lock is not kept.
#[derive(Debug, Default)]
struct CoolDown {
    until: Option<BootInstant>,
    length: Duration,
}

/// What a task finds that wants the turn.
pub(super) enum Arrival {
    Turn(Turn),
    /// Another task has it. The turn comes when it is this task's, or the error by which the process
    /// has lost its place in the lock's queue.
    Wait(oneshot::Receiver<Result<Turn, Error>>),
    /// Another task has it, and this one does not wait.
    Busy,
}

/// An acquire on behalf of the process, as the next task can go on with it: it belongs to the
/// process's place in the lock's queue, not to a task.
pub(super) struct Acquiring {
    pub(super) policy: OnSessionLoss,
    /// In a mutex that is never locked, since what a guard holds must be shareable among threads.
    pub(super) held: Mutex<BoxFuture<'static, Result<Box<Kept>, Error>>>,
}

/// The turn of one task: nobody else of this process acquires the lock or uses its entry. When it is
/// dropped, it goes to the next task, with the entry if that may be used further.
pub(super) struct Turn {
    slot: Arc<Slot>,
    sticky: Sticky,
    pub(super) kept: Option<Box<Kept>>,
    pub(super) acquiring: Option<Acquiring>,
    is_over: bool,
}

/// The turn of a task that holds the lock.
#[derive(Debug)]
pub(crate) struct StickyHold {
    turn: Turn,
    number: u64,
}

impl Slot {
    pub(super) fn new(name: LockName, kept: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Slot {
            name,
            kept,
            state: Mutex::new(State {
                local: Local::Nobody,
                waiting: VecDeque::new(),
                cool_down: CoolDown::default(),
            }),
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

    /// Returns whether the slot would be missed: somebody uses the lock, or it cools down.
    pub(super) fn is_in_use(&self) -> bool {
        let state = self.state();
        !matches!(state.local, Local::Nobody) || state.cool_down.is_on()
    }

    /// Returns whether the lock is not to be kept now.
    pub(super) fn cools_down(&self) -> bool {
        self.state().cool_down.is_on()
    }

    /// Gives a task the turn, or a place in the local queue if it waits.
    pub(super) fn arrive(self: &Arc<Self>, sticky: Sticky, waits: bool) -> Arrival {
        let mut state = self.state();
        match std::mem::replace(&mut state.local, Local::Task) {
            Local::Nobody => Arrival::Turn(Turn::new(self, sticky, None)),
            Local::Parked { kept, .. } => Arrival::Turn(Turn::new(self, sticky, Some(kept))),
            Local::Task if !waits => Arrival::Busy,
            Local::Task => {
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

    /// Tells all tasks that wait for the turn that the process has lost its place.
    pub(super) fn fail_waiting(&self, error: &Error) {
        let waiting = std::mem::take(&mut self.state().waiting);
        for task in waiting {
            let _ = task.send(Err(error.clone()));
        }
    }

    /// Returns whether an entry that a task has used would be used further if the turn ended now.
    fn would_keep(&self, kept: &Kept, sticky: &Sticky) -> bool {
        let state = self.state();
        match kept.judge(sticky) {
            Judgement::Over => false,
            _ if state.waiting.iter().any(|task| !task.is_closed()) => true,
            _ => state.may_park(kept, sticky),
        }
    }

    /// Passes the turn on to the next task. If none waits, keeps the entry or gives it up.
    fn pass_on(
        self: &Arc<Self>,
        sticky: Sticky,
        kept: Option<Box<Kept>>,
        acquiring: Option<Acquiring>,
    ) {
        let (mut usable, mut over) = match kept {
            Some(kept) if kept.judge(&sticky) == Judgement::Over => (None, Some(kept)),
            kept => (kept, None),
        };
        let mut acquiring = acquiring;
        let mut state = self.state();
        while let Some(task) = state.waiting.pop_front() {
            let turn = Turn {
                slot: self.clone(),
                sticky,
                kept: usable.take(),
                acquiring: acquiring.take(),
                is_over: false,
            };
            match task.send(Ok(turn)) {
                Ok(()) => {
                    drop(state);
                    drop(over);
                    return;
                }
                // The task has given up.
                Err(Ok(turn)) => (usable, acquiring) = turn.into_parts(),
                Err(Err(_)) => unreachable!("a turn was sent"),
            }
        }
        state.local = match usable.take() {
            Some(mut kept) if state.may_park(&kept, &sticky) => {
                self.watch(&mut kept, &sticky);
                Local::Parked {
                    kept,
                    until: Clock::system().now() + sticky.idle,
                }
            }
            usable => {
                over = over.or(usable);
                Local::Nobody
            }
        };
        drop(state);
        // The janitor, and the acquire's own end, take mutexes of their own.
        drop((over, acquiring));
    }

    /// Lets a keeper watch what stands behind an entry, if none does.
    pub(super) fn watch(self: &Arc<Self>, kept: &mut Kept, sticky: &Sticky) {
        if let Some(others) = kept.begin_watch() {
            let count = KeptCount::add(&self.kept);
            let keeping = keeper::keep(Arc::downgrade(self), kept, others, count, *sticky);
            // Without the thread there is no session either, and its end is noticed by all.
            if let Ok(background) = background::handle() {
                background.spawn(keeping);
            }
        }
    }

    /// Notes that somebody wants the lock whose entry is kept, or that the entry is gone. `tell` tells
    /// the holder of the turn. If nobody has it, the entry is given up now.
    pub(super) fn recall(
        &self,
        entry: &EntryId,
        wanted: Option<Duration>,
        tell: impl FnOnce(BootInstant),
    ) {
        let now = Clock::system().now();
        let mut state = self.state();
        // Under the mutex under which it is decided to keep the entry.
        tell(now);
        if let Some(cool_down) = wanted {
            self.recalls.fetch_add(1, Ordering::Relaxed);
            state.cool_down.begin(now, cool_down);
        }
        let given_up = state.take_parked(|parked| parked.entry() == entry);
        drop(state);
        drop(given_up);
    }

    /// Gives up an entry that nobody has used for its idle time. Returns when to ask again, if one is
    /// kept.
    pub(super) fn end_idle(&self) -> Option<BootInstant> {
        let now = Clock::system().now();
        let mut state = self.state();
        let Local::Parked { until, .. } = state.local else {
            return None;
        };
        let given_up = state.take_parked(|_| until <= now);
        drop(state);
        drop(given_up);
        Some(until)
    }

    /// Returns the entry that is kept while nobody uses it, for its removal.
    pub(super) fn take_parked(&self) -> Option<Box<Kept>> {
        self.state().take_parked(|_| true)
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
    fn take_parked(&mut self, is_meant: impl FnOnce(&Kept) -> bool) -> Option<Box<Kept>> {
        match std::mem::replace(&mut self.local, Local::Nobody) {
            Local::Parked { kept, .. } if is_meant(&kept) => Some(kept),
            local => {
                self.local = local;
                None
            }
        }
    }
}

impl CoolDown {
    fn is_on(&self) -> bool {
        self.until
            .is_some_and(|until| Clock::system().now() < until)
    }

    /// Begins to cool down. If the last time ended less than its own length ago, this one is twice as
    /// long.
    fn begin(&mut self, now: BootInstant, least: Duration) {
        let soon = self.until.is_some_and(|until| now < until + self.length);
        self.length = match soon {
            true => (self.length * 2).min(LONGEST_COOL_DOWN).max(least),
            false => least,
        };
        self.until = Some(now + self.length);
    }
}

impl Turn {
    fn new(slot: &Arc<Slot>, sticky: Sticky, kept: Option<Box<Kept>>) -> Self {
        Turn {
            slot: slot.clone(),
            sticky,
            kept,
            acquiring: None,
            is_over: false,
        }
    }

    /// Goes on with what another task has begun, as this one's lock says.
    pub(super) fn set_sticky(&mut self, sticky: Sticky) {
        self.sticky = sticky;
    }

    /// Decides whether the task may hold the lock with the entry that is kept. Lets a keeper find out
    /// what is not known. Gives up an entry that is not to be used. Returns what to wait for before
    /// the next decision, or nothing if it is made.
    pub(super) fn settle_kept(&mut self) -> Option<watch::Receiver<Others>> {
        let kept = self.kept.as_mut()?;
        match kept.judge(&self.sticky) {
            Judgement::Usable => None,
            Judgement::Unsure => {
                self.slot.watch(kept, &self.sticky);
                kept.watched()
            }
            Judgement::Over => {
                self.kept = None;
                None
            }
        }
    }

    /// Begins the hold of the task, which has an entry. Returns the session, the ticket, the entry and
    /// the token of the hold with the turn.
    pub(super) fn into_hold(mut self) -> Option<StickyHold> {
        let number = self.kept.as_mut()?.begin_turn();
        if number > 0 {
            self.slot.hits.fetch_add(1, Ordering::Relaxed);
        } else {
            self.slot.placed.fetch_add(1, Ordering::Relaxed);
        }
        Some(StickyHold { turn: self, number })
    }

    fn into_parts(mut self) -> (Option<Box<Kept>>, Option<Acquiring>) {
        self.is_over = true;
        (self.kept.take(), self.acquiring.take())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (kept, acquiring) = (self.kept.take(), self.acquiring.take());
        // In a forked child, another thread of the parent may have locked the slot for ever.
        if background::is_forked() {
            std::mem::forget((kept, acquiring, self.slot.clone()));
            return;
        }
        self.slot.pass_on(self.sticky, kept, acquiring);
    }
}

impl StickyHold {
    /// Returns the number of the turn: 0 for the first with its token.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Returns the entry that the hold rests on.
    pub(super) fn kept(&self) -> Option<&Kept> {
        self.turn.kept.as_deref()
    }

    /// Returns whether the entry is to be used further after this turn.
    pub(crate) fn is_worth_keeping(&self) -> bool {
        let kept = self.kept();
        kept.is_some_and(|kept| self.turn.slot.would_keep(kept, &self.turn.sticky))
    }

    /// Ends the turn, and leaves the removal of the entry to the caller.
    pub(crate) fn end_without_entry(mut self) {
        if let Some(mut kept) = self.turn.kept.take() {
            kept.leave();
        }
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("lock", &self.slot.name)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

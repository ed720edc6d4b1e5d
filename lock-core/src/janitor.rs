//! What must happen although nobody waits for it: entries of dropped acquires and guards are
//! removed, entries of held locks are watched, and a session that nobody uses any more is closed.
//! The only place in the core that spawns.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::{BoxFuture, FusedFuture};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::coop;

use crate::background;
use crate::backoff::Backoff;
use crate::entry::{EntryId, Metadata, Mode, Ticket};
use crate::error::{Error, ErrorKind};
use crate::guard::Hold;
use crate::liveness::{LossReason, State};
use crate::name::LockName;
use crate::rule;
use crate::session::{AsOf, Session};

/// A hold that is over within this time never has its entry watched: the watch would cost more than
/// the lock. One that lasts has it within three times this.
const SWEEP: Duration = Duration::from_millis(25);

/// A watch event can be lost in the store: a held entry is looked up by itself this often (up to
/// twice it, at random).
const BACKSTOP: Duration = Duration::from_secs(60);

/// That many holds are looked up as often as that, or watched anew when their watches broke. If there
/// are more, each has to wait so much longer, so that to hold many locks costs no more requests than to
/// hold these.
const BACKSTOP_HOLDS: usize = 1000;

/// Held entries that are looked up at once. The rest wait their turn: when a connection breaks, all
/// that were watched over it are to be looked up.
const LOOKS: usize = 64;

/// Removals under way at once. The rest wait their turn: a coordinator that was away is not to be
/// buried under them.
const REMOVALS: usize = 64;

/// A session in use: shared by the locks, waiters and guards that rest on it. When the last of them
/// goes, the janitor finishes its removals and closes the session.
#[derive(Debug)]
pub(crate) struct Tenancy {
    session: Arc<dyn Session>,
    serial: AtomicU64,
    /// An entry is removed once, so the entries are its limit; a bound of its own could not be
    /// waited for in `Drop`.
    jobs: mpsc::UnboundedSender<Job>,
    holds: Mutex<HashMap<u64, Weak<Hold>>>,
    sweep_due: AtomicBool,
}

enum Job {
    Remove(Ticket, Option<EntryId>),
    /// Holds were added since the last sweep.
    Sweep(Weak<Tenancy>),
    Watch(Vec<Arc<Hold>>),
    /// Close the session now, and say how that went.
    Close(oneshot::Sender<Result<(), Error>>),
}

impl Tenancy {
    pub(crate) fn new(session: Arc<dyn Session>) -> Arc<Self> {
        let (jobs, queue) = mpsc::unbounded_channel();
        background::handle().spawn(work(session.clone(), queue));
        Arc::new(Tenancy {
            session,
            serial: AtomicU64::new(1),
            jobs,
            holds: Mutex::default(),
            sweep_due: AtomicBool::new(false),
        })
    }

    pub(crate) fn session(&self) -> &dyn Session {
        &*self.session
    }

    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.session.liveness().state(), State::Lost(_))
    }

    pub(crate) fn ticket(&self, name: LockName, mode: Mode, metadata: Arc<Metadata>) -> Ticket {
        Ticket {
            name,
            mode,
            serial: self.serial.fetch_add(1, Ordering::Relaxed),
            metadata,
        }
    }

    /// Removes an entry in the background, for as long as it takes. Callable from `Drop`: does not
    /// block or spawn.
    pub(crate) fn discard(&self, ticket: Ticket, entry: Option<EntryId>) {
        // A janitor that is gone has closed the session, and the entry went with it.
        let _ = self.jobs.send(Job::Remove(ticket, entry));
    }

    /// Closes the session, whoever uses it. When it fails, the janitor goes on trying.
    pub(crate) async fn close(&self) -> Result<(), Error> {
        let (done, closed) = oneshot::channel();
        let _ = self.jobs.send(Job::Close(done));
        // No answer: it was closed before.
        closed.await.unwrap_or(Ok(()))
    }

    /// Has the entry of a hold watched if it lasts. One message to the janitor serves all holds of
    /// the next two [`SWEEP`]s, so a short hold costs no wake-up of another thread.
    pub(crate) fn register(self: &Arc<Self>, hold: &Arc<Hold>) {
        lock(&self.holds).insert(hold.serial(), Arc::downgrade(hold));
        if !self.sweep_due.swap(true, Ordering::SeqCst) {
            let _ = self.jobs.send(Job::Sweep(Arc::downgrade(self)));
        }
    }

    pub(crate) fn unregister(&self, serial: u64) {
        lock(&self.holds).remove(&serial);
    }

    /// Takes out the holds of tickets from before this serial; a next sweep is for the others.
    fn sweep(self: &Arc<Self>, young: u64) -> Vec<Arc<Hold>> {
        let mut holds = lock(&self.holds);
        let old = holds.extract_if(|serial, _| *serial < young);
        let old = old.filter_map(|(_, hold)| hold.upgrade()).collect();
        if holds.is_empty() {
            self.sweep_due.store(false, Ordering::SeqCst);
        } else {
            let _ = self.jobs.send(Job::Sweep(Arc::downgrade(self)));
        }
        old
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The janitor of one session.
async fn work(session: Arc<dyn Session>, mut jobs: mpsc::UnboundedReceiver<Job>) {
    let watched = AtomicUsize::new(0);
    let looks = Semaphore::new(LOOKS);
    let mut waiting: VecDeque<(Ticket, Option<EntryId>)> = VecDeque::new();
    let mut removals: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    let mut watches: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    let mut sweeps: FuturesUnordered<BoxFuture<'_, Vec<Arc<Hold>>>> = FuturesUnordered::new();
    // Once for all watches: each would have to look at the clock whenever the deadline moves on.
    let mut lost = pin!(session.liveness().lost().fuse());
    let mut told = None;
    loop {
        while removals.len() < REMOVALS
            && let Some((ticket, entry)) = waiting.pop_front()
        {
            removals.push(guarded(remove(&*session, ticket, entry)));
        }
        let job = tokio::select! {
            job = jobs.recv() => job,
            Some(holds) = sweeps.next() => Some(Job::Watch(holds)),
            Some(()) = removals.next() => continue,
            Some(()) = watches.next() => {
                watched.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            _ = &mut lost => {
                watches.clear();
                continue;
            }
        };
        match job {
            Some(Job::Remove(ticket, entry)) => waiting.push_back((ticket, entry)),
            Some(Job::Sweep(tenancy)) => sweeps.push(Box::pin(async move {
                tokio::time::sleep(SWEEP).await;
                let young = tenancy.upgrade().map(|t| t.serial.load(Ordering::SeqCst));
                tokio::time::sleep(SWEEP).await;
                let swept = tenancy
                    .upgrade()
                    .zip(young)
                    .map(|(t, young)| t.sweep(young));
                swept.unwrap_or_default()
            })),
            // What its deadline has ended needs no watch.
            Some(Job::Watch(_)) if lost.is_terminated() => {}
            Some(Job::Watch(holds)) => {
                watched.fetch_add(holds.len(), Ordering::Relaxed);
                for hold in holds {
                    let watch = watch(&*session, hold, &watched, &looks);
                    // When all are woken at once, the budget of this task would be spent with the
                    // first of them, and the others be woken in vain over and over.
                    watches.push(guarded(coop::unconstrained(watch)));
                }
            }
            Some(Job::Close(done)) => {
                told = Some(done);
                break;
            }
            // Nobody holds or waits any more.
            None => break,
        }
    }
    // A watch that is being set may hold on to what the backend must let go of to close the session.
    drop(watches);
    // The removals are part of the close where it works; where it does not, they matter.
    waiting
        .into_iter()
        .for_each(|(t, e)| removals.push(guarded(remove(&*session, t, e))));
    let mut closing = pin!(close(&*session, told));
    loop {
        tokio::select! {
            () = &mut closing => return,
            Some(()) = removals.next() => {}
        }
    }
}

/// A panic of a backend in one of its calls ends that call, not the janitor.
fn guarded<'a>(task: impl Future<Output = ()> + Send + 'a) -> BoxFuture<'a, ()> {
    // Not an async block around it, which would keep room for the task twice.
    let task = AssertUnwindSafe(task).catch_unwind().map(|ended| {
        if ended.is_err() {
            tracing::error!("a backend panicked in the background: please report this");
        }
    });
    task.boxed()
}

/// Closes the session; tries until it is done or the session has surely ended by itself.
async fn close(session: &dyn Session, told: Option<oneshot::Sender<Result<(), Error>>>) {
    let clock = session.liveness().clock().clone();
    // The server's time to live is a little longer than what it proves, and counts from now at the
    // latest: nothing is renewed any more.
    let over = clock.now() + 2 * session.liveness().validity() + SWEEP;
    let mut told = told;
    let mut backoff = Backoff::default();
    loop {
        let closed = session.close().await;
        if let Err(error) = &closed {
            tracing::debug!(%error, session = %session.id(), "a session could not be closed yet");
        }
        let done = closed.is_ok() || clock.now() >= over;
        if let Some(told) = told.take() {
            let _ = told.send(closed);
        }
        if done {
            return;
        }
        tokio::time::sleep(backoff.next_pause()).await;
    }
}

/// Removes an entry; tries until it is done, or refused, or the session, and the entry with it, is
/// over. A session that we close is not over before the server says so.
async fn remove(session: &dyn Session, ticket: Ticket, entry: Option<EntryId>) {
    let mut backoff = Backoff::default();
    loop {
        let Err(error) = session.remove(&ticket, entry.as_ref()).await else {
            return;
        };
        let lost = match session.liveness().state() {
            State::Lost(reason) => reason != LossReason::Closed,
            State::Held | State::Jeopardy => false,
        };
        if lost {
            return;
        }
        if !error.is_retryable() && !matches!(error.kind(), ErrorKind::SessionLost(_)) {
            tracing::warn!(%error, lock = %ticket.name, "an entry stays until the session ends");
            return;
        }
        tracing::debug!(%error, lock = %ticket.name, "an entry could not be removed yet");
        tokio::time::sleep(backoff.next_pause()).await;
    }
}

/// How many times longer than usual a hold waits to be looked up; one at least.
fn crowding(watched: &AtomicUsize) -> f64 {
    let watched = watched.load(Ordering::Relaxed).max(BACKSTOP_HOLDS);
    // More than fit into 52 bits are not held.
    watched as f64 / BACKSTOP_HOLDS as f64
}

/// Watches the entry of a held lock until it is gone or released, or the session is lost, when this
/// is dropped. A wake-up, an error and a
/// while without either are all the same: a reason to look.
async fn watch(session: &dyn Session, hold: Arc<Hold>, watched: &AtomicUsize, looks: &Semaphore) {
    let ask = rule::ask(hold.ticket().mode);
    let mut backoff = Backoff::default();
    loop {
        let pause = BACKSTOP.mul_f64(crowding(watched) * (1.0 + fastrand::f64()));
        let interrupted = tokio::select! {
            changed = session.changed(hold.entry(), hold.entry()) => Some(changed),
            () = tokio::time::sleep(pause) => None,
            () = hold.over() => return,
        };
        let as_of = match &interrupted {
            Some(Ok(())) => AsOf::Change,
            Some(Err(_)) | None => AsOf::Now,
        };
        let look = async {
            // Never closed.
            let _turn = looks.acquire().await;
            session.look(hold.ticket(), hold.entry(), ask, as_of).await
        };
        // Apart, so that no room is kept for it while nothing happens.
        let looked = Box::pin(async {
            tokio::select! {
                looked = look => Some(looked),
                () = hold.over() => None,
            }
        });
        let Some(looked) = looked.await else {
            return;
        };
        match looked {
            Ok(view) if !view.present => {
                hold.lose(LossReason::EntryGone);
                return;
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, lock = %hold.ticket().name, "a held entry was not found out about");
            }
        }
        if interrupted.is_none() {
            backoff = Backoff::default();
            continue;
        }
        // A coordinator that has no watches left would hear of all of them over and over.
        let rest = backoff.next_pause().mul_f64(crowding(watched));
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = hold.over() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_holds_are_looked_up_no_more_often_than_a_thousand() {
        let looks_a_minute =
            |holds: usize| (holds as f64 / crowding(&AtomicUsize::new(holds))).round();
        assert_eq!([0, 10, 1000].map(looks_a_minute), [0.0, 10.0, 1000.0]);
        assert_eq!([1001, 100_000].map(looks_a_minute), [1000.0, 1000.0]);
    }
}

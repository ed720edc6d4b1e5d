//! What must happen although nobody waits for it: entries of dropped acquires and guards are
//! removed, entries of held locks are watched, and a session that nobody uses any more is closed.
//! The only place in the core that spawns.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use crate::background;
use crate::backoff::Backoff;
use crate::entry::{EntryId, Metadata, Mode, Ticket};
use crate::guard::Hold;
use crate::liveness::{LossReason, State};
use crate::name::LockName;
use crate::rule;
use crate::session::Session;

/// Holds shorter than this never have their entry watched: the watch would cost more than the lock.
const WATCH_AFTER: Duration = Duration::from_millis(50);

/// A session in use: shared by the locks, waiters and guards that rest on it. When the last of them
/// goes, the janitor finishes its removals and closes the session.
#[derive(Debug)]
pub(crate) struct Tenancy {
    session: Arc<dyn Session>,
    serial: AtomicU64,
    /// No more than two jobs for each entry are ever queued, so the entries are its limit; a bound
    /// of its own could not be waited for in `Drop`.
    jobs: mpsc::UnboundedSender<Job>,
    holds: Mutex<HashMap<u64, Weak<Hold>>>,
    sweep_due: AtomicBool,
}

enum Job {
    Remove(Ticket, Option<EntryId>),
    /// Holds were added since the last sweep.
    Sweep(Weak<Tenancy>),
    Watch(Vec<Arc<Hold>>),
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
        // The janitor outlives every tenancy, so it can only be gone when the process is ending.
        let _ = self.jobs.send(Job::Remove(ticket, entry));
    }

    /// Has the entry of a hold watched if it lasts. One message to the janitor serves all holds of
    /// the next [`WATCH_AFTER`], so a short hold costs no wake-up of another thread.
    pub(crate) fn register(self: &Arc<Self>, hold: &Arc<Hold>) {
        lock(&self.holds).insert(hold.serial(), Arc::downgrade(hold));
        if !self.sweep_due.swap(true, Ordering::SeqCst) {
            let _ = self.jobs.send(Job::Sweep(Arc::downgrade(self)));
        }
    }

    pub(crate) fn unregister(&self, serial: u64) {
        lock(&self.holds).remove(&serial);
    }

    fn sweep(&self) -> Vec<Arc<Hold>> {
        self.sweep_due.store(false, Ordering::SeqCst);
        lock(&self.holds)
            .drain()
            .filter_map(|(_, hold)| hold.upgrade())
            .collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The janitor of one session.
async fn work(session: Arc<dyn Session>, mut jobs: mpsc::UnboundedReceiver<Job>) {
    let mut removals: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    let mut watches: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    let mut sweeps: FuturesUnordered<BoxFuture<'_, Vec<Arc<Hold>>>> = FuturesUnordered::new();
    loop {
        let job = tokio::select! {
            job = jobs.recv() => job,
            Some(holds) = sweeps.next() => Some(Job::Watch(holds)),
            Some(()) = removals.next() => continue,
            Some(()) = watches.next() => continue,
        };
        match job {
            Some(Job::Remove(ticket, entry)) => {
                removals.push(Box::pin(remove(&*session, ticket, entry)));
            }
            Some(Job::Sweep(tenancy)) => sweeps.push(Box::pin(async move {
                tokio::time::sleep(WATCH_AFTER).await;
                tenancy.upgrade().map(|t| t.sweep()).unwrap_or_default()
            })),
            Some(Job::Watch(holds)) => {
                for hold in holds {
                    watches.push(Box::pin(watch(&*session, hold)));
                }
            }
            None => break,
        }
    }
    // Nobody holds or waits any more. The removals are part of the close where it works; where it
    // does not, they matter.
    if let Err(error) = session.close().await {
        tracing::debug!(%error, session = %session.id(), "the session will end by its time to live");
        while removals.next().await.is_some() {}
    }
}

/// Removes an entry; tries until it is done or the session, and the entry with it, is over.
async fn remove(session: &dyn Session, ticket: Ticket, entry: Option<EntryId>) {
    let mut backoff = Backoff::default();
    loop {
        match session.remove(&ticket, entry.as_ref()).await {
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(%error, lock = %ticket.name, "an entry could not be removed yet")
            }
        }
        if let State::Lost(_) = session.liveness().state() {
            return;
        }
        tokio::time::sleep(backoff.next_pause()).await;
    }
}

/// Watches the entry of a held lock until it is gone or released.
async fn watch(session: &dyn Session, hold: Arc<Hold>) {
    let mut backoff = Backoff::default();
    let ask = rule::ask(hold.ticket().mode);
    let entries = [hold.entry().clone()];
    loop {
        let changed = tokio::select! {
            changed = session.changed(&entries) => changed,
            () = hold.over() => return,
            _ = session.liveness().lost() => return,
        };
        // A change is a hint; whether the entry is gone is looked up.
        let looked = match changed {
            Ok(()) => session.look(hold.ticket(), hold.entry(), ask).await,
            Err(error) => Err(error),
        };
        match looked {
            Ok(view) if !view.present => return hold.lose(LossReason::EntryGone),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, lock = %hold.ticket().name, "a held entry could not be watched")
            }
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_pause()) => {}
            () = hold.over() => return,
        }
    }
}

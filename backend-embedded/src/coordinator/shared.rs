//! The state that callers, the committer and the expiry thread share.

use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "server")]
use std::sync::{Arc, Weak};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use lock_core::clock::Stopwatch;
use tokio::sync::{oneshot, watch};

use super::bell::Bell;
#[cfg(feature = "server")]
use super::copy::Retained;
#[cfg(feature = "server")]
use super::figures::Figures;
use super::folder_watchdog::{ShutdownGuard, WatchdogHandle};
use super::pending::{Class, Outcome, Pending};
use super::watch::Hub;
use super::{Applied, Status};
use crate::config::Limits;
use crate::error::Error;
use crate::evidence::Evidence;
use crate::machine::op::LeaseId;
use crate::machine::{Changes, LeaseChange, Machine, Snapshot};
use crate::store::{Identity, Store, random};

/// How often a thread looks whether the state is free before it sleeps: some microseconds, which is
/// longer than a request holds the state. The standard library's mutex looks only as long as no
/// other thread sleeps, so that from the first such thread on each request would cost two system
/// calls and a switch of threads.
const SPINS: u32 = 200;

/// The clock of the leases. It is monotonic, and it deliberately stands still while the machine is
/// suspended. The server's clock must be the slowest of all clocks involved: a holder counts its
/// own time by one that runs through suspend, so the holder gives up before the server does.
#[derive(Debug, Clone)]
pub(super) struct Clock(Stopwatch);

impl Clock {
    pub(super) fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The result of a request, and the receiver to wait for before the result is valid.
pub(super) type Answer<T> = (
    Result<Applied<T>, Error>,
    Option<oneshot::Receiver<Outcome>>,
);

#[derive(Debug)]
pub(crate) struct Shared {
    /// Locked before `hub` where both are held.
    state: Mutex<State>,
    /// Wakes the committer.
    pub(super) work: Bell,
    /// Wakes the expiry when the first lease is granted.
    pub(super) granted: Bell,
    hub: Mutex<Hub>,
    clock: Clock,
    identity: Identity,
    limits: Limits,
    ids: Mutex<fastrand::Rng>,
    lease_count: watch::Sender<usize>,
    ended: watch::Sender<Option<Error>>,
    file_size: AtomicU64,
    /// Present while the folder is watched.
    watchdog: Mutex<Option<WatchdogHandle>>,
    evidence: Evidence,
    /// What the metrics of the server show. Programs without a server do not pay for it.
    #[cfg(feature = "server")]
    figures: Figures,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) machine: Machine,
    /// What has to be recorded; `None` if the coordinator is in memory only.
    pub(super) recording: Option<Recording>,
    closing: bool,
    end: Option<End>,
    /// What the snapshot retains that is being sent, if there is one.
    #[cfg(feature = "server")]
    pub(super) retained: Weak<Retained>,
}

#[derive(Debug, Default)]
pub(super) struct Recording {
    pub(super) pending: Pending,
    /// Whether a commit is in progress.
    pub(super) committing: bool,
    /// The reason why writes are refused now, if they are.
    pub(super) full: Option<Error>,
}

impl Recording {
    /// Returns whether everything applied is recorded. Only then does the committer wait for work.
    fn is_idle(&self) -> bool {
        !self.committing && self.pending.is_empty()
    }
}

#[derive(Debug)]
struct End {
    error: Error,
    failed: bool,
}

impl State {
    /// Returns whether the threads have to end.
    pub(super) fn is_over(&self) -> bool {
        self.closing || self.end.is_some()
    }

    pub(super) fn check_running(&self) -> Result<(), Error> {
        match &self.end {
            Some(end) => Err(end.error.clone()),
            None if self.closing => Err(closed_error()),
            None => Ok(()),
        }
    }

    fn admit(&self, class: Class, limits: &Limits) -> Result<(), Error> {
        self.check_running()?;
        let Some(recording) = &self.recording else {
            return Ok(());
        };
        if let (Class::Write, Some(full)) = (class, &recording.full) {
            return Err(full.clone());
        }
        if !recording.pending.has_room(class, limits) {
            return Err(Error::Overloaded);
        }
        Ok(())
    }
}

pub(super) fn closed_error() -> Error {
    Error::Stopped {
        reason: "it was closed".into(),
    }
}

impl Shared {
    pub(super) fn new(
        snapshot: Snapshot,
        identity: Identity,
        limits: Limits,
        durable: Option<Evidence>,
    ) -> Self {
        let clock = Clock(Stopwatch::start());
        #[cfg(feature = "server")]
        let figures = Figures::new(snapshot.revision);
        let hub = Hub::new(snapshot.revision, snapshot.compact_revision, &limits);
        let machine = Machine::restore(limits.clone(), snapshot, clock.now());
        let (lease_count, _) = watch::channel(machine.lease_count());
        let state = State {
            machine,
            recording: durable.is_some().then(Recording::default),
            closing: false,
            end: None,
            #[cfg(feature = "server")]
            retained: Weak::new(),
        };
        Self {
            state: Mutex::new(state),
            work: Bell::default(),
            granted: Bell::default(),
            hub: Mutex::new(hub),
            clock,
            identity,
            limits,
            ids: Mutex::new(random()),
            lease_count,
            ended: watch::channel(None).0,
            file_size: AtomicU64::new(0),
            watchdog: Mutex::new(None),
            evidence: durable.unwrap_or_default(),
            #[cfg(feature = "server")]
            figures,
        }
    }

    fn watchdog(&self) -> MutexGuard<'_, Option<WatchdogHandle>> {
        self.watchdog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_watchdog(&self, watchdog: WatchdogHandle) {
        *self.watchdog() = Some(watchdog);
    }

    /// Wakes the watchdog, which has nothing left to watch.
    pub(super) fn stop_watchdog(&self) {
        self.watchdog().take();
    }

    /// Checks at once whether the folder is still in its place, and stops if it is not.
    #[cfg(feature = "server")]
    pub(super) fn check_location(&self) {
        let folder = self
            .watchdog()
            .as_ref()
            .map(|watchdog| Arc::clone(&watchdog.folder));
        if let Some(Err(error)) = folder.map(|folder| folder.check()) {
            self.stop(&error);
        }
    }

    /// Returns a guard for a task that must report the coordinator's end to others.
    pub(super) fn shutdown_guard(&self) -> ShutdownGuard {
        ShutdownGuard::new(self.watchdog().as_ref())
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        for _ in 0..SPINS {
            match self.state.try_lock() {
                Ok(state) => return state,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    #[cfg(feature = "server")]
    pub(super) fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Counts a request that was refused because a limit was reached.
    pub(super) fn note_refusal(&self, error: &Error) {
        #[cfg(feature = "server")]
        self.figures.count_refusal(error);
        #[cfg(not(feature = "server"))]
        let _ = error;
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Applies a request. If there is a receiver, the result, or the error, is valid only after the
    /// receiver has reported success: until then it depends on changes that are not durable.
    pub(super) fn apply<T>(
        &self,
        class: Class,
        request: &mut impl FnMut(&mut Machine, &Clock, &mut Changes) -> Result<T, Error>,
    ) -> Result<Answer<T>, Error> {
        let mut state = self.state();
        if let Err(error) = state.admit(class, &self.limits) {
            self.note_refusal(&error);
            return Err(error);
        }
        let mut changes = Changes::default();
        let result = request(&mut state.machine, &self.clock, &mut changes);
        if let Err(error) = &result {
            self.note_refusal(error);
        }
        let revision = state.machine.revision();
        self.record(&mut state, changes);
        let busy = state.recording.as_mut().filter(|it| !it.is_idle());
        let durable = busy.map(|it| it.pending.add_waiter());
        let answer = result.map(|result| Applied { revision, result });
        Ok((answer, durable))
    }

    /// Passes on what a request has changed: to the pending commit, or to the watches at once.
    pub(super) fn record(&self, state: &mut State, changes: Changes) {
        if changes.is_empty() {
            return;
        }
        if !changes.leases.is_empty() {
            self.publish_lease_count(&state.machine);
            for change in &changes.leases {
                if let LeaseChange::Removed { id } = change {
                    self.evidence.forget(*id);
                }
            }
        }
        #[cfg(feature = "server")]
        if let Some(retained) = state.retained.upgrade() {
            retained.note(&changes.events);
        }
        let revision = state.machine.revision();
        if let Some(recording) = &mut state.recording {
            // A committer at work looks for more work before it waits. Notifying it would cost a
            // system call for nothing.
            let idle = recording.is_idle();
            recording.pending.add(revision, changes);
            if idle {
                self.work.ring();
            }
            return;
        }
        let mut hub = self.hub();
        if !changes.events.is_empty() {
            hub.publish(revision, &changes.events);
        }
        if let Some(revision) = changes.compacted {
            hub.compact(revision);
        }
    }

    pub(super) fn publish_lease_count(&self, machine: &Machine) {
        let count = machine.lease_count();
        let mut first = false;
        self.lease_count.send_if_modified(|published| {
            first = *published == 0 && count > 0;
            std::mem::replace(published, count) != count
        });
        if first {
            self.granted.ring();
        }
    }

    pub(super) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Returns a random positive lease id.
    pub(super) fn choose_id(&self) -> LeaseId {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.i64(1..=LeaseId::MAX)
    }

    pub(super) fn status(&self) -> Status {
        let state = self.state();
        let hub = self.hub();
        Status {
            revision: hub.revision(),
            compact_revision: hub.compact_revision(),
            cluster_id: self.identity.cluster_id,
            member_id: self.identity.member_id,
            db_size: self.file_size.load(Ordering::Relaxed),
            db_size_in_use: state.machine.bytes(),
            keys: state.machine.key_count(),
            leases: state.machine.lease_count(),
        }
    }

    pub(super) fn live_leases(&self) -> watch::Receiver<usize> {
        self.lease_count.subscribe()
    }

    /// Notes how large the files of the store are.
    pub(super) fn note_sizes(&self, store: &Store) {
        self.file_size.store(store.file_size(), Ordering::Relaxed);
        #[cfg(feature = "server")]
        self.figures.note_journal(store.journal_bytes());
    }

    /// Refuses new requests, and makes the threads end.
    pub(super) fn begin_close(&self) {
        self.state().closing = true;
        self.work.ring();
        self.granted.ring();
        self.stop_watchdog();
    }

    /// Ends the coordinator as requested by `close`, unless it has already ended.
    pub(super) fn finish_close(&self) {
        self.end(End {
            error: closed_error(),
            failed: false,
        });
    }

    /// Stops the coordinator for good, unless it has already ended. Nothing is acknowledged after
    /// this.
    pub(super) fn stop(&self, reason: &Error) {
        let error = match reason {
            Error::Displaced { .. } => reason.clone(),
            other => Error::Stopped {
                reason: other.to_string().into(),
            },
        };
        self.end(End {
            error,
            failed: true,
        });
    }

    fn end(&self, end: End) {
        let mut state = self.state();
        if state.end.is_some() {
            return;
        }
        let error = end.error.clone();
        state.end = Some(end);
        let pending = state
            .recording
            .as_mut()
            .map(|it| std::mem::take(&mut it.pending));
        self.hub().stop(&error);
        drop(state);
        self.work.ring();
        self.granted.ring();
        if let Some(pending) = pending {
            pending.notify(&Outcome::Stopped(error.clone()));
        }
        self.ended.send_replace(Some(error));
        self.stop_watchdog();
    }

    /// Returns why the coordinator has ended, if it has.
    #[cfg(feature = "server")]
    pub(super) fn end_reason(&self) -> Option<Error> {
        self.ended.borrow().clone()
    }

    /// Returns why the coordinator stopped by itself, if it did.
    pub(super) fn failure(&self) -> Option<Error> {
        let state = self.state();
        let end = state.end.as_ref().filter(|end| end.failed)?;
        Some(end.error.clone())
    }

    /// Waits until the coordinator has ended, and returns the reason.
    pub(super) async fn wait_for_end(&self) -> Error {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(error) => error.clone().unwrap_or_else(closed_error),
            Err(_) => closed_error(),
        }
    }
}

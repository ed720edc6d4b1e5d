//! The committer: makes applied requests durable, many at a time.
//!
//! It works in steps. A thread carries them out ([`Committer::run`]); in a simulation, a task does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::pending::{Outcome, Pending};
use super::shared::{Shared, State};
use crate::error::Error;
use crate::machine::Machine;
use crate::store::{Failure, Store};

/// The time between two checks of a full disk.
const SPACE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The delay before evidence is synced. After a power cut, the process of a session younger than
/// this may be unknown.
const EVIDENCE_SYNC_DELAY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    store: Store,
    /// When to check for free space again, while there is none, by the shared clock.
    next_check: Option<Duration>,
    /// When to sync the evidence, if some of it is not synced, by the shared clock.
    next_sync: Option<Duration>,
}

/// What a committer has to do next.
pub(super) enum Work {
    Commit(Pending),
    /// See [`Committer::maintain`].
    Maintain,
    /// Wait for work, for at most this long if there is a limit.
    Wait(Option<Duration>),
    End,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, store: Store) -> Self {
        Self {
            shared,
            store,
            next_check: None,
            next_sync: None,
        }
    }

    /// Runs until the coordinator is closed and everything pending is recorded, or until a failure
    /// makes it stop.
    pub(super) fn run(mut self) {
        let result = catch_unwind(AssertUnwindSafe(|| self.serve())).unwrap_or_else(|_| {
            Err(Error::Stopped {
                reason: "the thread that records changes panicked".into(),
            })
        });
        self.finish_run(result);
    }

    fn serve(&mut self) -> Result<(), Error> {
        // Detects a full disk before the first request meets it.
        self.maintain()?;
        loop {
            match self.wait_for_work() {
                Work::Commit(mut pending) => {
                    let recorded = self.record(&mut pending);
                    self.conclude(pending, recorded)?;
                }
                Work::Maintain | Work::Wait(_) => {}
                Work::End => return Ok(()),
            }
            self.maintain()?;
        }
    }

    fn wait_for_work(&self) -> Work {
        let mut state = self.shared.state();
        loop {
            match self.next_work(&mut state) {
                Work::Wait(timeout) => state = self.shared.work.wait(state, timeout),
                work => return work,
            }
        }
    }

    /// Takes the work that is due now.
    pub(super) fn next_work(&self, state: &mut State) -> Work {
        let over = state.is_over();
        if let Some(recording) = &mut state.recording
            && !recording.pending.is_empty()
        {
            recording.committing = true;
            return Work::Commit(std::mem::take(&mut recording.pending));
        }
        if over {
            return Work::End;
        }
        let Some(due) = self.next_check.into_iter().chain(self.next_sync).min() else {
            return Work::Wait(None);
        };
        match due.checked_sub(self.shared.clock().now()) {
            None | Some(Duration::ZERO) => Work::Maintain,
            timeout => Work::Wait(timeout),
        }
    }

    /// Checks for space and syncs the evidence, if that is due.
    pub(super) fn maintain(&mut self) -> Result<(), Error> {
        self.check_space()?;
        self.sync_evidence();
        Ok(())
    }

    /// Ends the coordinator, unless it has ended already.
    pub(super) fn finish_run(self, result: Result<(), Error>) {
        // The watchdog releases the folder at about this time too, or after it has waited for the
        // notifications.
        drop(self.store);
        match result {
            Ok(()) => self.shared.finish_close(),
            Err(error) => {
                tracing::error!(%error, "the coordinator stops");
                self.shared.stop(&error);
            }
        }
    }

    /// Records changes on the disk.
    pub(super) fn record(&mut self, pending: &mut Pending) -> Result<(), Failure> {
        #[cfg(feature = "server")]
        let begun = self.shared.clock().now();
        #[cfg(feature = "server")]
        self.shared.figures().begin_commit(begun);
        let recorded = self.store.commit(std::mem::take(&mut pending.batch));
        #[cfg(feature = "server")]
        {
            let ended = self.shared.clock().now();
            (self.shared.figures()).end_commit(begun, ended, recorded.is_ok());
        }
        recorded
    }

    /// Reports how the changes were recorded to all who wait for that.
    pub(super) fn conclude(
        &mut self,
        pending: Pending,
        recorded: Result<(), Failure>,
    ) -> Result<(), Error> {
        match recorded {
            // A change that is recorded where nobody will look for it must not be acknowledged.
            Ok(()) => match self.store.check_location() {
                Ok(()) => {
                    self.finish(pending);
                    Ok(())
                }
                Err(error) => Err(self.fail(pending, error)),
            },
            Err(Failure::NoSpace(error)) => self.undo(pending, error),
            Err(Failure::Fatal(error)) => Err(self.fail(pending, error)),
        }
    }

    /// Publishes changes that are durable, and answers their requests.
    fn finish(&self, pending: Pending) {
        self.shared.note_sizes(&self.store);
        let mut state = self.shared.state();
        self.publish(&pending);
        if let Some(recording) = &mut state.recording {
            recording.committing = false;
        }
        drop(state);
        pending.notify(&Outcome::Durable);
    }

    fn publish(&self, pending: &Pending) {
        let mut hub = self.shared.hub();
        for (revision, events) in &pending.events {
            hub.publish(*revision, events);
        }
        if let Some(revision) = pending.compacted {
            hub.compact(revision);
        }
    }

    /// Undoes a commit for which there was no space: returns to the recorded state.
    fn undo(&mut self, pending: Pending, error: Error) -> Result<(), Error> {
        tracing::warn!(%error, "writes are refused until there is space");
        self.set_full(Some(error.clone()));
        let loaded = match self.store.recover() {
            Ok(loaded) => loaded,
            Err(Failure::NoSpace(error) | Failure::Fatal(error)) => {
                return Err(self.fail(pending, error));
            }
        };
        let recorded = self.store.is_last_attempt_recorded();
        let mut state = self.shared.state();
        let limits = self.shared.limits().clone();
        let now = self.shared.clock().now();
        let mut machine = Machine::restore(limits, loaded.snapshot, now);
        machine.adopt_volatile(&state.machine);
        state.machine = machine;
        self.shared.publish_lease_count(&state.machine);
        let mut later = Pending::default();
        if let Some(recording) = &mut state.recording {
            recording.committing = false;
            later = std::mem::take(&mut recording.pending);
        }
        if recorded {
            self.publish(&pending);
        }
        drop(state);
        let undone = Outcome::Undone(error);
        pending.notify(if recorded { &Outcome::Durable } else { &undone });
        // These were applied on top of changes that are undone.
        later.notify(&undone);
        Ok(())
    }

    /// Syncs the evidence from time to time, so that it survives a power cut. No request waits for
    /// this.
    fn sync_evidence(&mut self) {
        if !self.shared.evidence().is_unsynced() {
            return;
        }
        let now = self.shared.clock().now();
        let at = *self.next_sync.get_or_insert(now + EVIDENCE_SYNC_DELAY);
        if at <= now {
            self.shared.evidence().sync();
            self.next_sync = None;
        }
    }

    /// Reserves space ahead of the store's size. So a full disk is met here and not during a
    /// commit, and releases can still be recorded then.
    fn check_space(&mut self) -> Result<(), Error> {
        if self
            .next_check
            .is_some_and(|at| self.shared.clock().now() < at)
        {
            return Ok(());
        }
        match self.store.reserve() {
            Ok(()) if self.next_check.is_some() => {
                tracing::info!("there is space again, writes resume");
                self.set_full(None);
                Ok(())
            }
            Ok(()) => Ok(()),
            Err(Failure::NoSpace(error)) => {
                self.set_full(Some(error));
                Ok(())
            }
            Err(Failure::Fatal(error)) => Err(error),
        }
    }

    fn set_full(&mut self, full: Option<Error>) {
        self.next_check = full
            .is_some()
            .then(|| self.shared.clock().now() + SPACE_CHECK_INTERVAL);
        if let Some(recording) = &mut self.shared.state().recording {
            recording.full = full;
        }
    }

    /// Stops the coordinator, and reports that to the requests of a commit.
    fn fail(&self, pending: Pending, error: Error) -> Error {
        self.shared.stop(&error);
        if let Some(stopped) = self.shared.failure() {
            pending.notify(&Outcome::Stopped(stopped));
        }
        error
    }
}

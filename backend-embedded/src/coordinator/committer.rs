//! The committer: the thread that makes applied requests durable, many at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pending::{Outcome, Pending};
use super::shared::Shared;
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
    shared: Arc<Shared>,
    store: Store,
    /// When to check for free space again, while there is none.
    next_check: Option<Instant>,
    /// When to sync the evidence, if some of it is not synced.
    next_sync: Option<Instant>,
}

enum Work {
    Commit(Pending),
    CheckSpace,
    SyncEvidence,
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

    fn serve(&mut self) -> Result<(), Error> {
        // Detects a full disk before the first request meets it.
        self.check_space()?;
        self.sync_evidence();
        loop {
            match self.next_work() {
                Work::Commit(pending) => self.commit(pending)?,
                Work::CheckSpace | Work::SyncEvidence => {}
                Work::End => return Ok(()),
            }
            self.check_space()?;
            self.sync_evidence();
        }
    }

    fn next_work(&self) -> Work {
        let mut state = self.shared.state();
        loop {
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
            let remaining = |at: Instant| at.saturating_duration_since(Instant::now());
            let [check, sync] = [self.next_check, self.next_sync].map(|at| at.map(remaining));
            match (check, sync) {
                (Some(Duration::ZERO), _) => return Work::CheckSpace,
                (_, Some(Duration::ZERO)) => return Work::SyncEvidence,
                _ => {}
            }
            let timeout = check.into_iter().chain(sync).min();
            state = self.shared.wait_for_work(state, timeout);
        }
    }

    fn commit(&mut self, mut pending: Pending) -> Result<(), Error> {
        match self.store.commit(std::mem::take(&mut pending.batch)) {
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
        self.shared.set_file_size(self.store.file_size());
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
        machine.adopt_deadlines(&state.machine);
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
        let now = Instant::now();
        let at = *self.next_sync.get_or_insert(now + EVIDENCE_SYNC_DELAY);
        if at <= now {
            self.shared.evidence().sync();
            self.next_sync = None;
        }
    }

    /// Reserves space ahead of the store's size. So a full disk is met here and not during a
    /// commit, and releases can still be recorded then.
    fn check_space(&mut self) -> Result<(), Error> {
        if self.next_check.is_some_and(|at| Instant::now() < at) {
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
            .then(|| Instant::now() + SPACE_CHECK_INTERVAL);
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

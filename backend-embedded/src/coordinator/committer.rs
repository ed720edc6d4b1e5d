//! The committer: the thread that makes what was applied durable, many requests at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pending::{Outcome, Pending};
use super::shared::Shared;
use crate::error::Error;
use crate::machine::Machine;
use crate::store::{Failure, Store};

/// How often a full disk is looked at again.
const SPACE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// After a power cut, whose a session was that is younger than this may not be known.
const EVIDENCE_SYNC_DELAY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Committer {
    shared: Arc<Shared>,
    store: Store,
    /// When to look whether there is space again, while there is none.
    next_check: Option<Instant>,
    /// When to sync the evidence, if there is any that is not.
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

    /// Runs until the coordinator is closed and everything pending is recorded, or until something
    /// fails that cannot be lived with.
    pub(super) fn run(mut self) {
        let result = catch_unwind(AssertUnwindSafe(|| self.serve())).unwrap_or_else(|_| {
            Err(Error::Stopped {
                reason: "the thread that records changes panicked".into(),
            })
        });
        // The keeper lets go of the folder about now, too, or after those who have to be told.
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
        // A full disk is known before the first request meets it.
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
            let left = |at: Instant| at.saturating_duration_since(Instant::now());
            let [check, sync] = [self.next_check, self.next_sync].map(|at| at.map(left));
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
            // What is recorded where nobody will look for it must not be acknowledged.
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

    /// Makes durable changes known, and answers.
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

    /// There was no space for a commit: goes back to what is recorded.
    fn undo(&mut self, pending: Pending, error: Error) -> Result<(), Error> {
        tracing::warn!(%error, "writing is refused until there is space");
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
        // Applied on top of what is gone.
        later.notify(&undone);
        Ok(())
    }

    /// Has the evidence of some while survive a power cut: not at once, as nobody waits for it.
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

    /// Has the store keep room ahead of what it holds, so that a full disk is met here and not in
    /// the middle of a commit, and so that releases can still be recorded then.
    fn check_space(&mut self) -> Result<(), Error> {
        if self.next_check.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        match self.store.reserve() {
            Ok(()) if self.next_check.is_some() => {
                tracing::info!("there is space again, writing resumes");
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

    /// Stops with the requests of a commit unanswered but for that.
    fn fail(&self, pending: Pending, error: Error) -> Error {
        self.shared.stop(&error);
        if let Some(stopped) = self.shared.failure() {
            pending.notify(&Outcome::Stopped(stopped));
        }
        error
    }
}

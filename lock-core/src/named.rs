//! The common part of mutexes and read/write locks: an acquire, over as many sessions as it takes.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use crate::acquire::Pending;
use crate::acquire_options::AcquireOptions;
use crate::background;
use crate::backoff::Backoff;
use crate::client::Client;
use crate::clock::{BootInstant, Clock};
use crate::entry::Mode;
use crate::error::{Error, ErrorKind, LossReason};
use crate::guard::Guard;
use crate::guard_mode::GuardMode;
use crate::held_lock::HeldLock;
use crate::janitor::SharedSession;
use crate::name::LockName;
use crate::observe::{AcquireRecord, NotAcquired, spans};
use crate::operation::Operation;
use crate::options::OnSessionLoss;
use crate::sticky::{Sticky, StickyLock};
use crate::wait_limit::WaitLimit;

#[derive(Debug, Clone)]
pub(crate) struct Named {
    client: Arc<Client>,
    name: LockName,
    sticky: Option<StickyLock>,
}

impl Named {
    pub(crate) fn new(client: Arc<Client>, name: LockName) -> Self {
        Named {
            client,
            name,
            sticky: None,
        }
    }

    /// Makes the lock sticky.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if an option is out of bounds.
    pub(crate) fn with_sticky(mut self, sticky: Sticky) -> Result<Self, Error> {
        self.sticky = Some(StickyLock::new(&self.client, &self, sticky)?);
        Ok(self)
    }

    /// Returns the sticky part of the lock, if it has one.
    pub(crate) fn sticky(&self) -> Option<&StickyLock> {
        self.sticky.as_ref()
    }

    pub(crate) fn name(&self) -> &LockName {
        &self.name
    }

    /// Acquires the lock as the options say. Returns `None` if they wait for less than it takes.
    pub(crate) async fn acquire<M: GuardMode>(
        &self,
        options: AcquireOptions<M>,
    ) -> Result<Option<Guard<M>>, Error> {
        let (mode, limit) = (options.to_mode(), options.to_wait_limit());
        let policy = options.session_loss_policy(self.client.on_session_loss());
        let span = spans::of_acquire(
            &self.name,
            mode,
            limit,
            self.client.sessions().backend().name(),
        );
        let held = self.acquire_in_span(mode, limit, policy).instrument(span);
        Ok(held.await?.map(Guard::new))
    }

    async fn acquire_in_span(
        &self,
        mode: Mode,
        limit: WaitLimit,
        policy: OnSessionLoss,
    ) -> Result<Option<HeldLock>, Error> {
        let record = AcquireRecord::begin(self.client.observed(), &self.name, mode);
        // A loop of acquires that never wait must let other tasks run.
        tokio::task::coop::consume_budget().await;
        let held = async {
            let _place = self.client.enter()?;
            match &self.sticky {
                // In a box, so that the acquire of another lock does without the memory.
                Some(sticky) => Box::pin(sticky.acquire(self, limit, policy, &record)).await,
                None => self.wait(mode, limit, policy, &record).await,
            }
        };
        let held = held.await;
        let held = held.map_err(|error| error.during(Operation::Acquire, Some(&self.name)));
        match &held {
            Ok(Some(_)) => {}
            Ok(None) if matches!(limit, WaitLimit::Try(_)) => record.fail(NotAcquired::Busy),
            Ok(None) => record.fail(NotAcquired::TimedOut),
            Err(error) => record.fail(NotAcquired::Failed(error)),
        }
        held
    }

    /// Acquires the lock with options that wait without a limit.
    pub(crate) async fn acquire_forever<M: GuardMode>(
        &self,
        options: AcquireOptions<M>,
    ) -> Result<Guard<M>, Error> {
        self.acquire(options).await?.ok_or_else(no_lock_error)
    }

    /// Waits in the lock's queue, over as many sessions as it takes.
    pub(crate) async fn wait(
        &self,
        mode: Mode,
        limit: WaitLimit,
        policy: OnSessionLoss,
        record: &AcquireRecord<'_>,
    ) -> Result<Option<HeldLock>, Error> {
        let trace_context = self.client.observed().trace_context();
        let requeues = policy == OnSessionLoss::Requeue;
        let gate = self.client.sessions().gate();
        if let WaitLimit::Try(_) = limit {
            gate.check()?;
        }
        let mut shared_session = self.session(limit, None).await?;
        let mut replaced = false;
        let mut backoff = Backoff::default();
        loop {
            let session = shared_session.session().id();
            let metadata = Arc::new(self.client.metadata(session, trace_context));
            let ticket = shared_session.ticket(self.name.clone(), mode, metadata);
            let mut pending = Pending::new(shared_session, ticket, gate, record);
            let error = match pending.acquire(limit, replaced && requeues).await {
                Err(error) if is_loss(&error) => error,
                outcome => return outcome,
            };
            let may_have_entry = pending.may_have_entry();
            drop(pending);
            if may_have_entry && requeues {
                self.note_requeue(&error);
                record.note_lost_place(&error);
            } else if may_have_entry || replaced && !requeues {
                return Err(error);
            }
            // A session that ended before we had a place in the queue is replaced once. A lost
            // place is replaced as often as that happens.
            if may_have_entry {
                backoff = Backoff::default();
            } else if replaced {
                background::sleep(backoff.next_pause()).await;
            }
            replaced = true;
            shared_session = match requeues {
                true => self.session_after_outage(limit).await?,
                false => self.session(limit, None).await?,
            };
        }
    }

    /// Reports that a wait has lost its place by this error, and queues anew.
    pub(crate) fn note_requeue(&self, error: &Error) {
        self.client.notify_requeue(&self.name, error);
    }

    /// Returns the session that is open now, if any.
    pub(crate) fn current_session(&self) -> Option<Arc<SharedSession>> {
        self.client.sessions().current()
    }

    /// Returns the session, and opens one if there is none.
    async fn session(
        &self,
        limit: WaitLimit,
        outage: Option<&Outage>,
    ) -> Result<Arc<SharedSession>, Error> {
        tokio::select! {
            biased;
            shared_session = self.client.shared_session() => shared_session,
            () = limit.wait_for_end() => Err(no_session_error(outage)),
        }
    }

    /// Opens a session in place of one that was lost. Tries for as long as the limit lasts: the
    /// coordinator may be away for longer than a session lives.
    async fn session_after_outage(&self, limit: WaitLimit) -> Result<Arc<SharedSession>, Error> {
        let mut backoff = Backoff::of_outage();
        let mut outage = Outage {
            since: Clock::system().now(),
            cause: None,
        };
        loop {
            let error = match self.session(limit, Some(&outage)).await {
                Err(error) if is_transient(&error) && !limit.is_over() => error,
                outcome => return outcome,
            };
            tracing::debug!(%error, lock = %self.name, "a session will be opened later");
            outage.cause = Some(error);
            tokio::select! {
                () = background::sleep(backoff.next_pause()) => {}
                () = limit.wait_for_end() => return Err(no_session_error(Some(&outage))),
            }
        }
    }
}

/// A time without a session.
struct Outage {
    since: BootInstant,
    /// Why there is no session: the error of the latest try.
    cause: Option<Error>,
}

/// Returns the error of a wait without a limit that ended without a lock.
pub(crate) fn no_lock_error() -> Error {
    let text = "a wait without a limit ended without a lock: please report this";
    Error::new(ErrorKind::Internal, text)
}

/// Returns whether the session was lost, other than by a close of ours.
pub(crate) fn is_loss(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::SessionLost(reason) if reason != LossReason::Closed)
}

/// Returns whether a session may be opened later although it failed like this.
fn is_transient(error: &Error) -> bool {
    error.is_retryable() || is_loss(error)
}

/// Returns the error of an acquire whose time ended without a session.
fn no_session_error(outage: Option<&Outage>) -> Error {
    let text = "the coordinator did not open a session in the time given";
    let Some(Outage { since, cause }) = outage else {
        return Error::new(ErrorKind::Unreachable, text);
    };
    let lasted = Clock::system().now().saturating_since(*since);
    let text = format!(
        "{text}: the last one was lost {} before that",
        format_seconds(lasted)
    );
    let error = Error::new(ErrorKind::Unreachable, text);
    match cause {
        Some(cause) => error.with_source(cause.clone()),
        None => error,
    }
}

/// Formats a duration for people, in seconds.
pub(crate) fn format_seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

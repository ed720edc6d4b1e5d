//! The state that all clones and locks of one connection share.

use std::sync::Arc;

use tokio::sync::SemaphorePermit;

use crate::bulkhead::Bulkhead;
use crate::clock;
use crate::entry::{Metadata, SessionId};
use crate::error::{Error, ErrorKind};
use crate::gate::Gate;
use crate::janitor::SharedSession;
use crate::name::LockName;
use crate::nesting::NestingOf;
use crate::observe::{Observed, TraceContext};
use crate::options::{MAX_TTL, MIN_TTL, OnRequeue, OnSessionLoss, Options};
use crate::session::Backend;
use crate::session_slot::SessionSlot;
use crate::sticky::Slots;
use crate::surroundings::Surroundings;

/// The session of a process on its coordinator, with the options of its locks.
#[derive(Debug)]
pub(crate) struct Client {
    sessions: Arc<SessionSlot>,
    on_session_loss: OnSessionLoss,
    on_requeue: Option<OnRequeue>,
    observed: Observed,
    bulkhead: Option<Bulkhead>,
    nesting: Option<NestingOf>,
    slots: Slots,
    metadata: Metadata,
}

impl Client {
    /// Returns a client of this backend. Does no I/O.
    pub(crate) fn new(backend: Arc<dyn Backend>, options: Options) -> Result<Self, Error> {
        let Options {
            ttl,
            owner,
            note,
            command,
            announces,
            on_session_loss,
            on_requeue,
            observer,
            max_pending_acquires,
            circuit_breaker,
            retry_budget,
            nesting,
        } = options;
        if !(MIN_TTL..=MAX_TTL).contains(&ttl) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "a time to live of {ttl:?} is out of bounds: give {MIN_TTL:?} to {MAX_TTL:?}"
                ),
            ));
        }
        let surroundings = Surroundings::current();
        let metadata = Metadata {
            owner,
            host: surroundings.host_name(),
            pid: surroundings.process_id(),
            since_unix_ms: 0,
            note,
            command,
            held_unix_ms: announces.then_some(0),
            traceparent: None,
            nesting: None,
        };
        metadata.check()?;
        let observed = Observed::new(observer);
        let gate = Arc::new(Gate::new(circuit_breaker, retry_budget, observed.clone()));
        Ok(Client {
            sessions: SessionSlot::new(backend, ttl, gate, observed.clone()),
            on_session_loss,
            on_requeue,
            observed,
            bulkhead: max_pending_acquires.map(Bulkhead::new).transpose()?,
            nesting,
            slots: Slots::default(),
            metadata,
        })
    }

    /// Returns the slot of the session.
    pub(crate) fn sessions(&self) -> &Arc<SessionSlot> {
        &self.sessions
    }

    /// Returns the session, and opens one if there is none.
    pub(crate) async fn shared_session(&self) -> Result<Arc<SharedSession>, Error> {
        self.sessions.shared_session().await
    }

    /// Returns the policy of waits whose acquire chooses none.
    pub(crate) fn on_session_loss(&self) -> OnSessionLoss {
        self.on_session_loss
    }

    /// Reports that a wait enqueues again after its session was lost.
    pub(crate) fn notify_requeue(&self, name: &LockName, error: &Error) {
        if let Some(on_requeue) = &self.on_requeue {
            on_requeue.notify(name, error);
        }
    }

    /// Takes a place among the acquires that are under way, until the result is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] if there are as many as there may be.
    pub(crate) fn enter(&self) -> Result<Option<SemaphorePermit<'_>>, Error> {
        self.bulkhead.as_ref().map(Bulkhead::enter).transpose()
    }

    /// Returns the slots of the sticky locks.
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Returns the observer of all locks.
    pub(crate) fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Returns the metadata of an entry that is made now in this session, for a task that works for
    /// this trace.
    pub(crate) fn metadata(
        &self,
        session: SessionId,
        traceparent: Option<TraceContext>,
    ) -> Metadata {
        let nesting = self.nesting.as_ref();
        Metadata {
            since_unix_ms: clock::unix_millis(),
            traceparent,
            nesting: nesting.and_then(|nesting| nesting.describe(session)),
            ..self.metadata.clone()
        }
    }
}

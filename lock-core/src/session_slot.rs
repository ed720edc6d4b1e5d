//! The one session that all clones of a `Locks` share: opened when it is needed, and anew once it
//! is lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tracing::Instrument;
use tracing::field::display;

use crate::background;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::gate::Gate;
use crate::handoff::HandoffRegistry;
use crate::janitor::SharedSession;
use crate::observe::{Event, Observed, spans};
use crate::operation::Operation;
use crate::retry::{RetryPolicy, retry_through};
use crate::session::Backend;

/// Holds the session of all clones of a `Locks`, and opens it.
#[derive(Debug)]
pub(crate) struct SessionSlot {
    backend: Arc<dyn Backend>,
    registry: Arc<HandoffRegistry>,
    ttl: Duration,
    gate: Arc<Gate>,
    observed: Observed,
    slot: Mutex<Slot>,
}

/// The session, if there is one.
#[derive(Debug, Default)]
enum Slot {
    #[default]
    None,
    /// Being opened. All callers wait for the same session.
    Opening(Opening),
    Open(Arc<SharedSession>),
}

/// Holds the outcome of an opening once there is one.
type Opening = watch::Receiver<Option<Result<Arc<SharedSession>, Error>>>;

impl SessionSlot {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        ttl: Duration,
        gate: Arc<Gate>,
        observed: Observed,
    ) -> Arc<Self> {
        Arc::new(SessionSlot {
            registry: HandoffRegistry::of_backend(&backend),
            backend,
            ttl,
            gate,
            observed,
            slot: Mutex::default(),
        })
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Returns what decides whether requests to the backend are sent.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Returns the session that is open now, if any.
    pub(crate) fn current(&self) -> Option<Arc<SharedSession>> {
        match &*self.slot() {
            Slot::Open(shared_session) if shared_session.is_alive() => Some(shared_session.clone()),
            _ => None,
        }
    }

    /// Ends the session, if there is one.
    pub(crate) async fn close(&self) -> Result<(), Error> {
        let slot = std::mem::take(&mut *self.slot());
        let shared_session = match slot {
            Slot::None => return Ok(()),
            Slot::Open(shared_session) => shared_session,
            // The callers that wait for it then find it closed.
            Slot::Opening(opening) => match await_opening(opening).await {
                Ok(shared_session) => shared_session,
                Err(_) => return Ok(()),
            },
        };
        shared_session.close().await
    }

    /// Returns the session, and opens one if there is none. All callers wait for one opening and
    /// get its outcome. It goes on for the next caller when those that wait for it are gone.
    pub(crate) async fn shared_session(self: &Arc<Self>) -> Result<Arc<SharedSession>, Error> {
        background::check_process()?;
        let opening = {
            let mut slot = self.slot();
            match &*slot {
                Slot::Open(shared_session) if shared_session.is_alive() => {
                    return Ok(shared_session.clone());
                }
                Slot::Opening(opening) => opening.clone(),
                Slot::Open(_) | Slot::None => {
                    let opening = self.open()?;
                    *slot = Slot::Opening(opening.clone());
                    opening
                }
            }
        };
        await_opening(opening).await
    }

    fn open(self: &Arc<Self>) -> Result<Opening, Error> {
        let background = background::handle()?;
        let (sender, opening) = watch::channel(None);
        let (backend, ttl) = (self.backend.clone(), self.ttl);
        let (registry, observed) = (self.registry.clone(), self.observed.clone());
        let gate = self.gate.clone();
        let (shared, ours) = (Arc::downgrade(self), opening.clone());
        background.spawn(async move {
            let begun = Clock::system().now();
            let retries = observed.of_retries(Operation::OpenSession);
            let span = spans::of_session_opening(backend.name());
            let opened = retry_through(&gate, None, RetryPolicy::Brief, retries, || {
                backend.open_session(ttl)
            });
            let opened = opened.instrument(span.clone()).await;
            match &opened {
                Ok(session) => {
                    span.record("turnlock.session.id", display(session.id()));
                    let ttl = session.liveness().ttl();
                    span.record("turnlock.session.ttl_ms", ttl.as_millis());
                }
                Err(error) => spans::record_error(&span, error),
            }
            let outcome = opened.and_then(|session| {
                let liveness = session.liveness().clone();
                liveness.observe(session.id(), observed.clone(), gate.clone());
                observed.emit(|| Event::SessionOpened {
                    session: session.id(),
                    liveness: &liveness,
                    took: Clock::system().now().saturating_since(begun),
                });
                SharedSession::new(session, registry, gate)
            });
            let outcome = outcome.map_err(|error| error.during(Operation::OpenSession, None));
            // If nobody is left to use the session, it is dropped here, and so closed.
            if let Some(shared) = shared.upgrade() {
                let mut slot = shared.slot();
                if matches!(&*slot, Slot::Opening(other) if other.same_channel(&ours)) {
                    *slot = match &outcome {
                        Ok(shared_session) => Slot::Open(shared_session.clone()),
                        Err(_) => Slot::None,
                    };
                }
            }
            sender.send_replace(Some(outcome));
        });
        Ok(opening)
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In a forked child the session belongs to the parent, so the child leaks what it has of it: a
/// drop might wait for a mutex that stays locked for ever.
impl Drop for SessionSlot {
    fn drop(&mut self) {
        if background::is_forked() {
            std::mem::forget(self.backend.clone());
            std::mem::forget(std::mem::take(
                self.slot.get_mut().unwrap_or_else(PoisonError::into_inner),
            ));
        }
    }
}

async fn await_opening(mut opening: Opening) -> Result<Arc<SharedSession>, Error> {
    match opening.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(opening_error())),
        Err(_) => Err(opening_error()),
    }
}

fn opening_error() -> Error {
    Error::new(
        ErrorKind::Internal,
        "the opening of a session ended without one: please report this",
    )
}

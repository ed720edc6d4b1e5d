//! The one session that all clones of a `Locks` share: opened when it is needed, and anew once it is
//! lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::background;
use crate::error::{Error, ErrorKind};
use crate::janitor::SharedSession;
use crate::retry;
use crate::session::Backend;

#[derive(Debug)]
pub(crate) struct SessionSlot {
    backend: Arc<dyn Backend>,
    ttl: Duration,
    slot: Mutex<Slot>,
}

/// The session of all clones.
#[derive(Debug, Default)]
enum Slot {
    #[default]
    None,
    /// On its way. All who need it wait for the same one.
    Opening(Opening),
    Open(Arc<SharedSession>),
}

/// Says how the opening of a session went, once it has.
type Opening = watch::Receiver<Option<Result<Arc<SharedSession>, Error>>>;

impl SessionSlot {
    pub(crate) fn new(backend: Arc<dyn Backend>, ttl: Duration) -> Arc<Self> {
        Arc::new(SessionSlot {
            backend,
            ttl,
            slot: Mutex::default(),
        })
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// The session that is open now, if any.
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
            // Whoever waits for it is told that it was closed.
            Slot::Opening(opening) => match opened(opening).await {
                Ok(shared_session) => shared_session,
                Err(_) => return Ok(()),
            },
        };
        shared_session.close().await
    }

    /// The session; opens one if there is none. The opening goes on when its callers have left, for
    /// the next one, and its outcome is told to all who wait for it.
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
        opened(opening).await
    }

    fn open(self: &Arc<Self>) -> Result<Opening, Error> {
        let background = background::handle()?;
        let (tell, opening) = watch::channel(None);
        let (backend, ttl) = (self.backend.clone(), self.ttl);
        let (shared, ours) = (Arc::downgrade(self), opening.clone());
        background.spawn(async move {
            let opened = retry::briefly(|| backend.open_session(ttl)).await;
            let outcome = opened.and_then(SharedSession::new);
            // Without anybody to use it, it is dropped here, and so closed.
            if let Some(shared) = shared.upgrade() {
                let mut slot = shared.slot();
                if matches!(&*slot, Slot::Opening(other) if other.same_channel(&ours)) {
                    *slot = match &outcome {
                        Ok(shared_session) => Slot::Open(shared_session.clone()),
                        Err(_) => Slot::None,
                    };
                }
            }
            tell.send_replace(Some(outcome));
        });
        Ok(opening)
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In a forked child the parent's session is left alone, and everything that could tell of it: to
/// drop it might wait for what is locked for ever.
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

async fn opened(mut opening: Opening) -> Result<Arc<SharedSession>, Error> {
    match opening.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(never_opened())),
        Err(_) => Err(never_opened()),
    }
}

fn never_opened() -> Error {
    Error::new(
        ErrorKind::Internal,
        "the opening of a session ended without one: please report this",
    )
}

//! The store as a backend of one contender.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lock_core::clock::{self, Clock};
use lock_core::renewal::keep_alive;
use lock_core::rule::{Ask, View};
use lock_core::{
    Access, Accessed, Admission, AsOf, Backend, Behind, DataKey, Enqueued, EntryId, Error,
    ErrorKind, Liveness, LockName, LossReason, Metadata, Queue, Raised, Removal, Removed, Session,
    SessionId, Ticket, TokenOffset, Watcher, background,
};
use testkit::history::Cause;
use tokio::task::AbortHandle;

use super::state::{Now, State};
use super::{Shared, in_doubt};
use crate::network::{CLIENT, Link};
use crate::world::lock;

/// A contender's way to the store.
#[derive(Clone)]
pub struct StoreBackend {
    store: Arc<Shared>,
    link: Arc<Link>,
}

#[derive(Debug)]
struct StoreSession {
    backend: StoreBackend,
    id: i64,
    liveness: Arc<Liveness>,
    renewal: AbortHandle,
    /// The number of the last access. The store does none after one with a higher number.
    accesses: AtomicU64,
}

impl StoreBackend {
    pub fn new(store: Arc<Shared>, link: Arc<Link>) -> Arc<Self> {
        Arc::new(StoreBackend { store, link })
    }

    async fn call<T: Send + 'static>(
        &self,
        request: impl FnOnce(&mut State, Now) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.store.call(&self.link, request).await
    }
}

impl fmt::Debug for StoreBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreBackend")
    }
}

/// Contenders make none of the requests that need no session, except for raises.
fn unsupported<T>() -> Result<T, Error> {
    Err(Error::new(
        ErrorKind::Unsupported,
        "no contender asks for it",
    ))
}

#[async_trait]
impl Backend for StoreBackend {
    fn name(&self) -> &'static str {
        "store"
    }

    async fn open_session(&self, ttl: Duration) -> Result<Arc<dyn Session>, Error> {
        let clock = Clock::system();
        let sent = clock.now();
        let id = self
            .call(move |state, now| Ok(state.open(ttl, now)))
            .await?;
        let liveness = Liveness::from_grant(clock, sent, ttl, Duration::ZERO);
        let renewal = background::handle()?.spawn({
            let (backend, liveness) = (self.clone(), liveness.clone());
            async move {
                let renew = async || {
                    backend.call(move |state, now| state.renew(id, now)).await?;
                    Ok(clock::validity(ttl))
                };
                keep_alive(&liveness, ttl, renew).await;
            }
        });
        Ok(Arc::new(StoreSession {
            backend: self.clone(),
            id,
            liveness,
            renewal: renewal.abort_handle(),
            accesses: AtomicU64::new(0),
        }))
    }

    async fn queue(&self, _: &LockName) -> Result<Queue, Error> {
        unsupported()
    }

    async fn locks(&self, _: &str, _: Option<&LockName>, _: usize) -> Result<Vec<Queue>, Error> {
        unsupported()
    }

    async fn get(&self, _: &DataKey) -> Result<Option<Vec<u8>>, Error> {
        unsupported()
    }

    async fn evict(&self, _: &LockName, _: &EntryId) -> Result<Removed, Error> {
        unsupported()
    }

    async fn raise_token_offset(&self, offset: TokenOffset) -> Result<Raised, Error> {
        self.call(move |state, now| Ok(state.raise(offset, now)))
            .await
    }
}

impl StoreSession {
    async fn call<T: Send + 'static>(
        &self,
        request: impl FnOnce(&mut State, Now) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let done = self.backend.call(request).await;
        self.liveness.note_session_loss(done)
    }
}

#[async_trait]
impl Session for StoreSession {
    fn id(&self) -> SessionId {
        SessionId(self.id)
    }

    fn liveness(&self) -> &Arc<Liveness> {
        &self.liveness
    }

    async fn enqueue(
        &self,
        ticket: &Ticket,
        ask: Ask,
        admission: Admission,
    ) -> Result<Enqueued, Error> {
        let (id, ticket) = (self.id, ticket.clone());
        self.call(move |state, now| state.enqueue(id, &ticket, ask, admission, now))
            .await
    }

    async fn look(&self, _: &Ticket, entry: &EntryId, ask: Ask, _: AsOf) -> Result<View, Error> {
        let (id, entry) = (self.id, entry.clone());
        self.call(move |state, _| state.look(id, &entry, ask)).await
    }

    async fn watch(&self, entry: &EntryId, _: Watcher) -> Result<(), Error> {
        let StoreBackend { store, link } = &self.backend;
        let mut changed = store.changed.subscribe();
        let Some(process) = lock(&store.process).clone() else {
            return Err(in_doubt());
        };
        link.pass(CLIENT).await;
        let watching = async {
            while lock(&store.state).has(entry) {
                // The store outlives all of its users.
                let _ = changed.changed().await;
                if process.has_ended() {
                    return Err(in_doubt());
                }
            }
            Ok(())
        };
        store.watch(link, watching).await
    }

    async fn watch_behind(&self, _: &Ticket, entry: &EntryId) -> Result<Behind, Error> {
        let StoreBackend { store, link } = self.backend.clone();
        let mut changed = store.changed.subscribe();
        let Some(process) = lock(&store.process).clone() else {
            return Err(in_doubt());
        };
        let (id, own) = (self.id, entry.clone());
        match self.call(move |state, _| state.is_last(id, &own)).await? {
            None => return Ok(Behind::Gone),
            Some(false) => return Ok(Behind::Somebody),
            Some(true) => {}
        }
        let entry = entry.clone();
        Ok(Behind::Nobody(Box::pin(async move {
            let watching = async {
                while lock(&store.state).has_nobody_behind(&entry) {
                    // The store outlives all of its users.
                    let _ = changed.changed().await;
                    if process.has_ended() {
                        return Err(in_doubt());
                    }
                }
                Ok(())
            };
            store.watch(&link, watching).await
        })))
    }

    async fn remove(
        &self,
        ticket: &Ticket,
        _: Option<&EntryId>,
        waiters: &[EntryId],
    ) -> Result<Removal, Error> {
        let (id, ticket, waiters) = (self.id, ticket.clone(), waiters.to_vec());
        self.call(move |state, now| Ok(state.remove(id, &ticket, &waiters, now)))
            .await
    }

    async fn access(
        &self,
        _: &Ticket,
        entry: &EntryId,
        key: &DataKey,
        access: &Access,
    ) -> Result<Accessed, Error> {
        let number = self.accesses.fetch_add(1, Ordering::Relaxed);
        let (id, entry, access) = (self.id, entry.clone(), access.clone());
        let key = key.as_str().to_owned();
        self.call(move |state, _| state.access(id, &entry, (&key, number), &access))
            .await
    }

    async fn describe(&self, _: &Ticket, entry: &EntryId, _: &Metadata) -> Result<bool, Error> {
        let entry = entry.clone();
        self.call(move |state, _| Ok(state.has(&entry))).await
    }

    async fn metadata(&self, entry: &EntryId) -> Result<Option<Metadata>, Error> {
        let entry = entry.clone();
        self.call(move |state, _| Ok(state.metadata(&entry))).await
    }

    async fn close(&self) -> Result<(), Error> {
        self.liveness.lose(LossReason::Closed);
        let id = self.id;
        self.call(move |state, now| {
            state.end(id, now, Cause::Unknown);
            Ok(())
        })
        .await
    }
}

impl Drop for StoreSession {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

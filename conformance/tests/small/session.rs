//! A session on the store: the client side of the small backend.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lock_core::clock::{self, Clock};
use lock_core::renewal::keep_alive;
use lock_core::rule::{Ask, View};
use lock_core::session::{Admission, AsOf, Behind, Enqueued, Removal, Removed, Watcher};
use lock_core::{
    Access, Accessed, DataKey, EntryId, Error, Liveness, LossReason, Metadata, Session, SessionId,
    Ticket, background,
};
use tokio::task::AbortHandle;

use super::store::{Store, entry_key};

#[derive(Debug)]
struct SmallSession {
    store: Arc<Store>,
    id: SessionId,
    liveness: Arc<Liveness>,
    renewal: AbortHandle,
}

/// Opens a session, and renews it until it is closed, dropped or lost.
pub fn open(store: Arc<Store>, ttl: Duration) -> Result<Arc<dyn Session>, Error> {
    let clock = Clock::system();
    // Before the request: the deadline counts from when it was sent.
    let sent = clock.now();
    let id = store.open(ttl);
    let liveness = Liveness::from_grant(clock, sent, ttl, Duration::ZERO);
    let renewing = {
        let (store, liveness) = (store.clone(), liveness.clone());
        async move {
            keep_alive(&liveness, ttl, async || {
                store.renew(id, ttl)?;
                Ok(clock::validity(ttl))
            })
            .await;
        }
    };
    Ok(Arc::new(SmallSession {
        store,
        id,
        liveness,
        // On the core's own thread: renewals go on while the user's executor is blocked.
        renewal: background::handle()?.spawn(renewing).abort_handle(),
    }))
}

impl SmallSession {
    /// Returns an error if the session has ended, and reports the loss to all who hold a lock by
    /// it.
    fn check(&self) -> Result<(), Error> {
        self.liveness.note_session_loss(self.store.check(self.id))
    }
}

#[async_trait]
impl Session for SmallSession {
    fn id(&self) -> SessionId {
        self.id
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
        let enqueued = self.store.enqueue(self.id, ticket, ask, admission);
        self.liveness.note_session_loss(enqueued)
    }

    async fn look(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        ask: Ask,
        _: AsOf,
    ) -> Result<View, Error> {
        self.check()?;
        Ok(self.store.look(&ticket.name, entry, ask))
    }

    async fn watch(&self, entry: &EntryId, _: Watcher) -> Result<(), Error> {
        self.store.gone(entry).await;
        Ok(())
    }

    async fn watch_behind(&self, ticket: &Ticket, entry: &EntryId) -> Result<Behind, Error> {
        self.check()?;
        let name = ticket.name.clone();
        Ok(self.store.clone().watch_behind(&name, entry))
    }

    async fn remove(
        &self,
        ticket: &Ticket,
        entry: Option<&EntryId>,
        _: &[EntryId],
    ) -> Result<Removal, Error> {
        let key = entry_key(self.id, ticket);
        let removed = self.store.remove(|found| match entry {
            Some(entry) => found.id == *entry,
            // The ticket is never used again, so its key alone means one entry.
            None => found.id.key == key,
        });
        Ok(match removed {
            true => Removed::Removed.into(),
            false => Removed::AlreadyGone.into(),
        })
    }

    async fn access(
        &self,
        _: &Ticket,
        entry: &EntryId,
        key: &DataKey,
        access: &Access,
    ) -> Result<Accessed, Error> {
        self.check()?;
        Ok(self.store.access(entry, key, access))
    }

    async fn describe(
        &self,
        _: &Ticket,
        entry: &EntryId,
        metadata: &Metadata,
    ) -> Result<bool, Error> {
        self.check()?;
        Ok(self.store.describe(entry, metadata))
    }

    async fn metadata(&self, entry: &EntryId) -> Result<Option<Metadata>, Error> {
        self.check()?;
        Ok(self.store.metadata(entry))
    }

    async fn close(&self) -> Result<(), Error> {
        self.renewal.abort();
        self.liveness.lose(LossReason::Closed);
        self.store.end(self.id);
        Ok(())
    }
}

impl Drop for SmallSession {
    /// Stops the renewal, so that the session ends with its time to live.
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

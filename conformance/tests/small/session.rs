//! A session on the store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lock_core::clock::{self, Clock};
use lock_core::renewal::keep_alive;
use lock_core::rule::{Ask, View};
use lock_core::session::{Admission, AsOf, Enqueued, Removed};
use lock_core::{
    Access, Accessed, DataKey, EntryId, Error, ErrorKind, Liveness, LossReason, Metadata, Session,
    SessionId, Ticket, background,
};
use tokio::task::AbortHandle;

use super::Promise;
use super::store::{Store, own_key};

#[derive(Debug)]
struct SmallSession {
    store: Arc<Store>,
    id: SessionId,
    liveness: Arc<Liveness>,
    renewal: AbortHandle,
}

pub fn open(store: Arc<Store>, ttl: Duration) -> Arc<dyn Session> {
    let clock = Clock::system();
    let sent = clock.now();
    let id = store.open(ttl);
    let liveness = Liveness::granted(clock, sent, ttl, Duration::ZERO);
    let renewing = {
        let (store, liveness) = (store.clone(), liveness.clone());
        async move {
            keep_alive(&liveness, ttl, async || match store.renew(id, ttl) {
                true => Ok(clock::validity(ttl)),
                false => Err(over()),
            })
            .await;
        }
    };
    Arc::new(SmallSession {
        store,
        id,
        liveness,
        renewal: background::handle()
            .expect("a background thread")
            .spawn(renewing)
            .abort_handle(),
    })
}

fn over() -> Error {
    Error::new(
        ErrorKind::SessionLost(LossReason::SessionGone),
        "the session is over",
    )
}

impl SmallSession {
    fn check(&self) -> Result<(), Error> {
        if self.store.lives(self.id) {
            return Ok(());
        }
        self.liveness.lose(LossReason::SessionGone);
        Err(over())
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
        self.check()?;
        self.store.enqueue(self.id, ticket, ask, admission)
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

    async fn changed(&self, entry: &EntryId, _: &EntryId) -> Result<(), Error> {
        self.store.gone(entry).await;
        Ok(())
    }

    async fn remove(&self, ticket: &Ticket, entry: Option<&EntryId>) -> Result<Removed, Error> {
        let key = own_key(self.id, ticket);
        let by_name = self.store.breaks(Promise::Incarnations);
        let removed = self.store.remove(|found| match entry {
            Some(_) if by_name => found.session == Some(self.id),
            Some(entry) => found.id == *entry,
            None => found.id.key == key,
        });
        Ok(match removed {
            true => Removed::Removed,
            false => Removed::AlreadyGone,
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

    async fn close(&self) -> Result<(), Error> {
        self.renewal.abort();
        self.liveness.lose(LossReason::Closed);
        self.store.end(self.id);
        Ok(())
    }
}

impl Drop for SmallSession {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

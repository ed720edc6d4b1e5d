//! The small backend, made to break one promise: each wrapper forwards, and does one thing wrong.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use conformance::{Administrator, Deployment, Fixture, Link, Members, Skip};
use lock_core::rule::{Ask, View};
use lock_core::session::{Admission, AsOf, Behind, Enqueued, Placed};
use lock_core::{
    Access, Accessed, Backend, DataKey, EntryId, Error, Liveness, LockName, Metadata, Queue,
    Raised, Removal, Removed, Session, SessionId, Ticket, TokenOffset, Watcher,
};

use crate::fixture::Started;
use crate::small::client::Client;
use crate::small::store::{State, Store, queue_key};

/// A promise that a backend can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// It shows no entry ahead.
    Exclusion,
    /// The latest entry stands right behind the holder's.
    Order,
    /// Tokens begin anew when a queue was empty.
    TokensRise,
    /// A retried enqueue makes another entry.
    Idempotence,
    /// A removal takes every entry that its session has.
    Incarnations,
    /// It never reports that an entry is gone.
    WakeUps,
    /// It never reports that somebody stands behind an entry.
    Recalls,
    /// A session that was ended comes back.
    SessionEnds,
    /// A closed session leaves its entries.
    Closing,
    /// A dropped session is renewed for ever.
    Abandonment,
    /// It shows the nearest entry, whatever the rule asked for.
    Sharing,
    /// The queue of a lock is also that of the locks below it.
    Names,
    /// A raw lock is the native one of the same name.
    RawNames,
    /// It keeps what a former holder writes.
    Writes,
    /// It raises the offset under locks in use.
    TokenOffset,
    /// It evicts by the key alone, whatever has that key since.
    Eviction,
    /// It reads what an entry says by the key alone, whatever has that key since.
    Metadata,
}

/// The small backend, which breaks this promise.
pub struct Broken(pub Promise);

impl Fixture for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn start(&self) -> Box<dyn Deployment> {
        let store = Store::new();
        Box::new(BrokenDeployment {
            promise: self.0,
            started: Started(store),
        })
    }
}

struct BrokenDeployment {
    promise: Promise,
    started: Started,
}

impl Deployment for BrokenDeployment {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(BrokenClient {
            promise: self.promise,
            client: Client(self.started.0.clone()),
        })
    }

    fn shortest_ttl(&self) -> Duration {
        self.started.shortest_ttl()
    }

    fn whole_store(&self) -> Result<(), Skip> {
        self.started.whole_store()
    }

    fn administrator(&self) -> Result<&dyn Administrator, Skip> {
        Ok(self)
    }

    fn link(&self) -> Result<Link, Skip> {
        self.started.link()
    }

    fn members(&self) -> Result<&dyn Members, Skip> {
        self.started.members()
    }
}

#[async_trait]
impl Administrator for BrokenDeployment {
    async fn end_session(&self, id: SessionId) {
        let store = &self.started.0;
        let expiry = store.state().sessions.get(&id).copied();
        store.end(id);
        if let (Promise::SessionEnds, Some(expiry)) = (self.promise, expiry) {
            store.state().sessions.insert(id, expiry);
        }
    }

    async fn remove(&self, entry: &EntryId) {
        self.started.remove(entry).await;
    }

    async fn sessions(&self) -> Vec<SessionId> {
        self.started.sessions().await
    }
}

/// Returns the name that a backend takes this lock for.
fn taken_for(promise: Promise, name: &LockName) -> LockName {
    let above = name.as_str().split('/').next().unwrap_or_default();
    let mistaken = match (promise, name.is_raw()) {
        (Promise::Names, true) => LockName::raw(above),
        (Promise::RawNames, true) => LockName::new(name.as_str()),
        (Promise::Names, false) => LockName::new(above),
        _ => return name.clone(),
    };
    mistaken.unwrap_or_else(|_| name.clone())
}

#[derive(Debug)]
struct BrokenClient {
    promise: Promise,
    client: Client,
}

#[async_trait]
impl Backend for BrokenClient {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    async fn open_session(&self, ttl: Duration) -> Result<Arc<dyn Session>, Error> {
        let session = self.client.open_session(ttl).await?;
        if self.promise == Promise::Abandonment {
            // The renewal stops when the last clone is dropped.
            std::mem::forget(session.clone());
        }
        Ok(Arc::new(BrokenSession {
            promise: self.promise,
            store: self.client.0.clone(),
            session,
        }))
    }

    async fn queue(&self, name: &LockName) -> Result<Queue, Error> {
        let found = self.client.queue(&taken_for(self.promise, name)).await?;
        Ok(Queue::new(name.clone(), found.entries))
    }

    async fn locks(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Queue>, Error> {
        self.client.locks(prefix, after, limit).await
    }

    async fn get(&self, key: &DataKey) -> Result<Option<Vec<u8>>, Error> {
        self.client.get(key).await
    }

    async fn evict(&self, name: &LockName, entry: &EntryId) -> Result<Removed, Error> {
        let name = taken_for(self.promise, name);
        let removed = self.client.evict(&name, entry).await?;
        let by_key = self.promise == Promise::Eviction
            && self.client.0.remove(|found| found.id.key == entry.key);
        Ok(match by_key {
            true => Removed::Removed,
            false => removed,
        })
    }

    async fn raise_token_offset(&self, offset: TokenOffset) -> Result<Raised, Error> {
        let raised = self.client.raise_token_offset(offset).await?;
        if (self.promise, raised) == (Promise::TokenOffset, Raised::InUse) {
            self.client.0.state().offset = offset;
            return Ok(Raised::To(offset));
        }
        Ok(raised)
    }
}

#[derive(Debug)]
struct BrokenSession {
    promise: Promise,
    store: Arc<Store>,
    session: Arc<dyn Session>,
}

impl BrokenSession {
    fn breaks(&self, promise: Promise) -> bool {
        self.promise == promise
    }

    /// Returns the ticket that the store is given.
    fn mistake(&self, ticket: &Ticket) -> Ticket {
        Ticket {
            name: taken_for(self.promise, &ticket.name),
            ..ticket.clone()
        }
    }

    fn mistake_ask(&self, ask: Ask) -> Ask {
        Ask {
            exclusive_only: ask.exclusive_only && !self.breaks(Promise::Sharing),
            ..ask
        }
    }

    fn mistake_view(&self, view: View) -> View {
        match self.breaks(Promise::Exclusion) {
            true => View {
                ahead: Vec::new(),
                ..view
            },
            false => view,
        }
    }

    /// Has the store number the next entry of this queue as its history suggests, which it forgets
    /// when it is empty.
    fn forget_tokens(&self, state: &mut State, ticket: &Ticket) {
        let queue = state.queues.get(&queue_key(&ticket.name));
        let last = queue.and_then(|queue| queue.last());
        let number = last.and_then(|last| last.id.incarnation);
        state.latest_number = number.map_or(0, |number| number.get());
    }

    /// Moves the latest entry of this queue right behind the first, and looks from there.
    fn overtake(&self, ticket: &Ticket, placed: Placed, ask: Ask) -> Placed {
        let mut state = self.store.state();
        let key = queue_key(&ticket.name);
        if let Some(queue) = state.queues.get_mut(&key)
            && let Some(latest) = queue.pop()
        {
            queue.insert(queue.len().min(1), latest);
        }
        let view = state.view(&key, &placed.entry, ask);
        Placed { view, ..placed }
    }
}

#[async_trait]
impl Session for BrokenSession {
    fn id(&self) -> SessionId {
        self.session.id()
    }

    fn liveness(&self) -> &Arc<Liveness> {
        self.session.liveness()
    }

    async fn enqueue(
        &self,
        ticket: &Ticket,
        ask: Ask,
        admission: Admission,
    ) -> Result<Enqueued, Error> {
        let (mut ticket, ask) = (self.mistake(ticket), self.mistake_ask(ask));
        if self.breaks(Promise::TokensRise) {
            self.forget_tokens(&mut self.store.state(), &ticket);
        }
        if self.breaks(Promise::Idempotence) {
            // Of its own for each try.
            ticket.serial = (ticket.serial << 32) + u64::from(fastrand::u32(..));
        }
        let placed = match self.session.enqueue(&ticket, ask, admission).await? {
            Enqueued::Placed(placed) => placed,
            Enqueued::Busy => return Ok(Enqueued::Busy),
        };
        let placed = match self.breaks(Promise::Order) {
            true => self.overtake(&ticket, placed, ask),
            false => placed,
        };
        let view = self.mistake_view(placed.view);
        Ok(Enqueued::Placed(Placed { view, ..placed }))
    }

    async fn look(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        ask: Ask,
        as_of: AsOf,
    ) -> Result<View, Error> {
        let (ticket, ask) = (self.mistake(ticket), self.mistake_ask(ask));
        let view = self.session.look(&ticket, entry, ask, as_of).await?;
        Ok(self.mistake_view(view))
    }

    async fn watch(&self, entry: &EntryId, watcher: Watcher) -> Result<(), Error> {
        if self.breaks(Promise::WakeUps) {
            return std::future::pending().await;
        }
        self.session.watch(entry, watcher).await
    }

    async fn watch_behind(&self, ticket: &Ticket, entry: &EntryId) -> Result<Behind, Error> {
        if self.breaks(Promise::Recalls) {
            return Ok(Behind::Nobody(Box::pin(std::future::pending())));
        }
        self.session.watch_behind(ticket, entry).await
    }

    async fn remove(
        &self,
        ticket: &Ticket,
        entry: Option<&EntryId>,
        waiters: &[EntryId],
    ) -> Result<Removal, Error> {
        if self.breaks(Promise::Incarnations) && entry.is_some() {
            let own = Some(self.id());
            return Ok(match self.store.remove(|found| found.session == own) {
                true => Removed::Removed.into(),
                false => Removed::AlreadyGone.into(),
            });
        }
        self.session
            .remove(&self.mistake(ticket), entry, waiters)
            .await
    }

    async fn access(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        key: &DataKey,
        access: &Access,
    ) -> Result<Accessed, Error> {
        let accessed = self.session.access(ticket, entry, key, access).await?;
        if let (Promise::Writes, Accessed::NotOurs, Access::Put(value)) =
            (self.promise, &accessed, access)
        {
            let values = &mut self.store.state().values;
            values.insert(key.clone(), value.to_vec());
            return Ok(Accessed::Done(None));
        }
        Ok(accessed)
    }

    async fn describe(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        metadata: &Metadata,
    ) -> Result<bool, Error> {
        self.session.describe(ticket, entry, metadata).await
    }

    async fn metadata(&self, entry: &EntryId) -> Result<Option<Metadata>, Error> {
        if self.breaks(Promise::Metadata) {
            let state = self.store.state();
            let mut entries = state.queues.values().flatten();
            let found = entries.rfind(|found| found.id.key == entry.key);
            return Ok(found.and_then(|found| found.metadata.clone()));
        }
        self.session.metadata(entry).await
    }

    async fn close(&self) -> Result<(), Error> {
        let before = self.store.state().queues.clone();
        self.session.close().await?;
        if self.breaks(Promise::Closing) {
            for (key, entries) in before {
                let own = entries.into_iter().filter(|e| e.session == Some(self.id()));
                let mut state = self.store.state();
                state.queues.entry(key).or_default().extend(own);
                state.queues.retain(|_, queue| !queue.is_empty());
            }
        }
        Ok(())
    }
}

//! Implements a backend that records its calls, and notes on every entry the acquire that it
//! belongs to.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lock_core::rule::{Ask, View};
use lock_core::{
    Access, Accessed, Admission, AsOf, Backend, Behind, DataKey, Enqueued, EntryId, Error,
    Liveness, LockName, Metadata, Queue, Raised, Removal, Removed, Session, SessionId, State,
    Ticket, TokenOffset, Watcher,
};

use crate::history::journal::Journal;
use crate::history::{Event, OpId, Role};

tokio::task_local! {
    static OP: OpId;
    /// Numbers the places of sticky locks.
    static PLACES: Arc<AtomicU32>;
}

/// Runs an acquire, so that its calls of the backend are recorded as its own.
pub async fn within<T>(op: OpId, acquire: impl Future<Output = T>) -> T {
    OP.scope(op, acquire).await
}

/// Runs an acquire of a sticky lock, so that its calls of the backend are recorded as those of a place,
/// which gets the next of these numbers.
pub async fn within_turn<T>(
    op: OpId,
    numbers: Arc<AtomicU32>,
    acquire: impl Future<Output = T>,
) -> T {
    PLACES.scope(numbers, within(op, acquire)).await
}

/// A backend whose sessions write to a journal.
#[derive(Debug)]
pub struct Recorder {
    inner: Arc<dyn Backend>,
    journal: Journal,
}

impl Recorder {
    pub fn new(inner: Arc<dyn Backend>, journal: Journal) -> Arc<Self> {
        Arc::new(Recorder { inner, journal })
    }
}

#[async_trait]
impl Backend for Recorder {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn open_session(&self, ttl: Duration) -> Result<Arc<dyn Session>, Error> {
        Ok(Arc::new(Recorded {
            inner: self.inner.open_session(ttl).await?,
            journal: self.journal.clone(),
            ops: Mutex::default(),
        }))
    }

    async fn queue(&self, name: &LockName) -> Result<Queue, Error> {
        self.inner.queue(name).await
    }

    async fn locks(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Queue>, Error> {
        self.inner.locks(prefix, after, limit).await
    }

    async fn get(&self, key: &DataKey) -> Result<Option<Vec<u8>>, Error> {
        self.inner.get(key).await
    }

    async fn evict(&self, name: &LockName, entry: &EntryId) -> Result<Removed, Error> {
        self.inner.evict(name, entry).await
    }

    async fn raise_token_offset(&self, offset: TokenOffset) -> Result<Raised, Error> {
        self.inner.raise_token_offset(offset).await
    }
}

#[derive(Debug)]
struct Recorded {
    inner: Arc<dyn Session>,
    journal: Journal,
    /// The acquires of this session's tickets, by serial.
    ops: Mutex<HashMap<u64, OpId>>,
}

impl Recorded {
    /// Returns the acquire of a ticket, or the place. The first call that shows a ticket is made by the
    /// acquire itself.
    fn op(&self, ticket: &Ticket) -> OpId {
        let mut ops = self.ops.lock().unwrap_or_else(PoisonError::into_inner);
        *ops.entry(ticket.serial).or_insert_with(|| {
            let acquire = OP.get();
            let number = PLACES.try_with(|places| places.fetch_add(1, Ordering::Relaxed));
            let Ok(number) = number else { return acquire };
            let place = OpId { number, ..acquire };
            self.journal.write(Event::Acquire {
                op: place,
                lock: ticket.name.as_str().to_owned(),
                mode: ticket.mode,
                role: Role::Place,
            });
            place
        })
    }
}

#[async_trait]
impl Session for Recorded {
    fn id(&self) -> SessionId {
        self.inner.id()
    }

    fn liveness(&self) -> &Arc<Liveness> {
        self.inner.liveness()
    }

    async fn enqueue(
        &self,
        ticket: &Ticket,
        ask: Ask,
        admission: Admission,
    ) -> Result<Enqueued, Error> {
        let op = self.op(ticket);
        let metadata = Metadata::clone(&ticket.metadata).with_note(op.to_string());
        let noted = Ticket {
            metadata: Arc::new(metadata),
            ..ticket.clone()
        };
        self.journal.write(Event::ask(op, self.id()));
        let enqueued = self.inner.enqueue(&noted, ask, admission).await?;
        if let Enqueued::Placed(placed) = &enqueued {
            let token = placed.token;
            self.journal.write(Event::Placed { op, token });
        }
        Ok(enqueued)
    }

    async fn look(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        ask: Ask,
        as_of: AsOf,
    ) -> Result<View, Error> {
        self.inner.look(ticket, entry, ask, as_of).await
    }

    async fn watch(&self, entry: &EntryId, watcher: Watcher) -> Result<(), Error> {
        self.inner.watch(entry, watcher).await
    }

    async fn watch_behind(&self, ticket: &Ticket, entry: &EntryId) -> Result<Behind, Error> {
        self.inner.watch_behind(ticket, entry).await
    }

    async fn remove(
        &self,
        ticket: &Ticket,
        entry: Option<&EntryId>,
        waiters: &[EntryId],
    ) -> Result<Removal, Error> {
        let op = self.op(ticket);
        self.journal.write(Event::Remove { op });
        let removal = self.inner.remove(ticket, entry, waiters).await?;
        let did = removal.removed == Removed::Removed;
        self.journal.write(Event::Removed { op, did });
        Ok(removal)
    }

    async fn access(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        key: &DataKey,
        access: &Access,
    ) -> Result<Accessed, Error> {
        self.inner.access(ticket, entry, key, access).await
    }

    async fn describe(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        metadata: &Metadata,
    ) -> Result<bool, Error> {
        self.inner.describe(ticket, entry, metadata).await
    }

    async fn metadata(&self, entry: &EntryId) -> Result<Option<Metadata>, Error> {
        self.inner.metadata(entry).await
    }

    async fn close(&self) -> Result<(), Error> {
        // One that is lost already is closed because of that.
        if !matches!(self.liveness().state(), State::Lost(_)) {
            let session = self.id().0;
            self.journal.write(Event::Close { session });
        }
        self.inner.close().await
    }
}

//! The suite on a coordinator that others use. It stays in namespaces of its own, does no harm, and
//! leaves nothing behind.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lock_core::rule::{Ask, View};
use lock_core::session::{Admission, AsOf, Behind, Enqueued, Removed};
use lock_core::{
    Access, Accessed, Backend, DEFAULT_TTL, DataKey, EntryId, Error, Liveness, LockName, Locks,
    Metadata, Options, Queue, Raised, Removal, Session, SessionId, Ticket, TokenOffset, Watcher,
};

use crate::fixture::{Administrator, Deployment, Fixture, Members, Skip};
use crate::link::Link;
use crate::run::TIME_LIMIT;
use crate::test_bed::lock_ignoring_poison;

/// Makes a new client in the namespace of this number.
type Connect = dyn Fn(u64) -> Result<Arc<dyn Backend>, Error> + Send + Sync;

/// A fixture on a running coordinator, with a namespace for each case.
#[derive(Clone)]
pub struct Live {
    connect: Arc<Connect>,
    cases: Arc<AtomicU64>,
    traces: Traces,
}

/// What the cases leave behind until it is cleaned up.
#[derive(Debug, Clone, Default)]
struct Traces {
    sessions: Arc<Mutex<Vec<Arc<dyn Session>>>>,
    /// The values that were put: the number of the namespace, and the key.
    values: Arc<Mutex<BTreeSet<(u64, String)>>>,
}

impl Live {
    /// Returns a fixture on the coordinator that `connect` connects to. `connect` is given the
    /// number of a namespace, and again the same number when a case asks for another client.
    pub fn new(
        connect: impl Fn(u64) -> Result<Arc<dyn Backend>, Error> + Send + Sync + 'static,
    ) -> Self {
        Live {
            connect: Arc::new(connect),
            cases: Arc::default(),
            traces: Traces::default(),
        }
    }

    /// Closes all sessions that the cases have opened so far, which removes their entries, and
    /// deletes the values that they put.
    ///
    /// # Errors
    /// If the coordinator does not respond. The entries that are left end with their time to live.
    ///
    /// # Cancel safety
    /// The sessions that are not closed yet end with their time to live. Values stay.
    pub async fn clean(&self) -> Result<(), Error> {
        let sessions = std::mem::take(&mut *lock_ignoring_poison(&self.traces.sessions));
        for session in sessions {
            let started = Instant::now();
            while let Err(error) = session.close().await {
                if !error.is_retryable() || started.elapsed() > TIME_LIMIT {
                    return Err(error);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let values = std::mem::take(&mut *lock_ignoring_poison(&self.traces.values));
        for (namespace, key) in values {
            let locks = Locks::new((self.connect)(namespace)?, Options::default())?;
            let guard = locks.mutex("clean")?.acquire().await?;
            guard.delete(&key).await?;
            drop(guard);
            locks.close().await?;
        }
        Ok(())
    }
}

impl Fixture for Live {
    fn name(&self) -> &'static str {
        "live"
    }

    fn start(&self) -> Box<dyn Deployment> {
        Box::new(Namespace {
            number: self.cases.fetch_add(1, Ordering::Relaxed),
            live: self.clone(),
        })
    }
}

struct Namespace {
    number: u64,
    live: Live,
}

fn skip_shared<T>(what: &str) -> Result<T, Skip> {
    Err(Skip::because(format!(
        "others use this coordinator: {what}"
    )))
}

impl Deployment for Namespace {
    fn backend(&self) -> Arc<dyn Backend> {
        let backend = (self.live.connect)(self.number).expect("a client, as before");
        Arc::new(Traced {
            inner: backend,
            namespace: self.number,
            traces: self.live.traces.clone(),
        })
    }

    fn shortest_ttl(&self) -> Duration {
        // Whether the coordinator grants a shorter one is not known.
        DEFAULT_TTL
    }

    fn whole_store(&self) -> Result<(), Skip> {
        skip_shared(
            "raw names may be theirs, an offset is never lowered again, and no session is left open",
        )
    }

    fn administrator(&self) -> Result<&dyn Administrator, Skip> {
        skip_shared("no session or entry is ended by force")
    }

    fn link(&self) -> Result<Link, Skip> {
        skip_shared("it is reached without a detour")
    }

    fn members(&self) -> Result<&dyn Members, Skip> {
        skip_shared("no server is stopped")
    }
}

/// A client, or a session, that records what it leaves behind.
#[derive(Debug)]
struct Traced<T> {
    inner: T,
    namespace: u64,
    traces: Traces,
}

#[async_trait]
impl Backend for Traced<Arc<dyn Backend>> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn open_session(&self, ttl: Duration) -> Result<Arc<dyn Session>, Error> {
        let session = Arc::new(Traced {
            inner: self.inner.open_session(ttl).await?,
            namespace: self.namespace,
            traces: self.traces.clone(),
        });
        lock_ignoring_poison(&self.traces.sessions).push(session.inner.clone());
        Ok(session)
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

#[async_trait]
impl Session for Traced<Arc<dyn Session>> {
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
        self.inner.enqueue(ticket, ask, admission).await
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
        self.inner.remove(ticket, entry, waiters).await
    }

    async fn access(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        key: &DataKey,
        access: &Access,
    ) -> Result<Accessed, Error> {
        if matches!(access, Access::Put(_)) {
            let value = (self.namespace, key.as_str().to_owned());
            lock_ignoring_poison(&self.traces.values).insert(value);
        }
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
        self.inner.close().await
    }
}

//! A third backend: a small one that keeps its queues in the memory of one process. It is right
//! unless it is told to break a promise.

mod session;
mod store;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use conformance::{Administrator, Deployment, Fixture, Link, Members, Skip};
use lock_core::{
    Backend, DataKey, EntryId, Error, LockName, Queue, Raised, Removed, Session, SessionId,
    TokenOffset,
};

use store::Store;

/// A promise that a backend can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// It sees nobody ahead.
    Exclusion,
    /// Who comes last stands right behind the holder.
    Order,
    /// Tokens begin anew when a queue was empty.
    TokensRise,
    /// A retried enqueue makes another entry.
    Idempotence,
    /// A removal takes whatever its session has in that queue.
    Incarnations,
    /// It never tells that an entry is gone.
    WakeUps,
    /// The renewal of a session that was ended makes it anew.
    SessionEnds,
    /// A closed session leaves its entries.
    Closing,
    /// It tells of the nearest entry, whatever it was asked for.
    Sharing,
    /// The queue of a lock is also that of those below it.
    Names,
    /// It keeps what a former holder writes.
    Writes,
    /// It raises the offset under those who stand on it.
    TokenOffset,
    /// It removes somebody else's entry by its place, whatever has come there since.
    Eviction,
}

/// The backend; broken, if a promise is named.
pub struct Small(pub Option<Promise>);

impl Fixture for Small {
    fn name(&self) -> &'static str {
        "small"
    }

    fn start(&self) -> Box<dyn Deployment> {
        Box::new(Started(Store::new(self.0)))
    }
}

struct Started(Arc<Store>);

impl Deployment for Started {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(Client(self.0.clone()))
    }

    fn shortest_ttl(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn whole_store(&self) -> Result<(), Skip> {
        Ok(())
    }

    fn administrator(&self) -> Result<&dyn Administrator, Skip> {
        Ok(self)
    }

    fn link(&self) -> Result<Link, Skip> {
        Err(Skip::because("it is in process"))
    }

    fn members(&self) -> Result<&dyn Members, Skip> {
        Err(Skip::because("it is in process"))
    }
}

#[async_trait]
impl Administrator for Started {
    async fn end_session(&self, id: SessionId) {
        self.0.end(id);
    }

    async fn remove(&self, entry: &EntryId) {
        assert!(self.0.remove(|found| found.id == *entry), "it is there");
    }

    async fn sessions(&self) -> Vec<SessionId> {
        self.0.sessions()
    }
}

#[derive(Debug)]
struct Client(Arc<Store>);

#[async_trait]
impl Backend for Client {
    async fn open_session(&self, ttl: Duration) -> Result<Arc<dyn Session>, Error> {
        Ok(session::open(self.0.clone(), ttl))
    }

    async fn queue(&self, name: &LockName) -> Result<Queue, Error> {
        Ok(Queue {
            name: name.clone(),
            entries: self.0.queue(name),
        })
    }

    async fn locks(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Queue>, Error> {
        let queues = self.0.native_queues().into_iter().filter(|queue| {
            let name = queue.name.as_str();
            name.starts_with(prefix) && after.is_none_or(|after| name > after.as_str())
        });
        Ok(queues.take(limit).collect())
    }

    async fn get(&self, key: &DataKey) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.value(key))
    }

    async fn evict(&self, name: &LockName, entry: &EntryId) -> Result<Removed, Error> {
        self.0.evict(name, entry)
    }

    async fn raise_token_offset(&self, offset: TokenOffset) -> Result<Raised, Error> {
        Ok(self.0.raise_token_offset(offset))
    }
}

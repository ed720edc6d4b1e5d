//! A third backend: a small one that keeps its queues in the memory of one process. The page
//! `docs/adding-a-backend.md` explains it.

pub mod store;

mod session;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use conformance::{Administrator, Deployment, Fixture, Link, Members, Skip};
use lock_core::{
    Backend, DataKey, EntryId, Error, LockName, Queue, Raised, Removed, Session, SessionId,
    TokenOffset,
};

use store::Store;

/// What a program gives to `lock_core::Locks::new`.
#[derive(Debug)]
pub struct Client(pub Arc<Store>);

#[async_trait]
impl Backend for Client {
    async fn open_session(&self, ttl: Duration) -> Result<Arc<dyn Session>, Error> {
        session::open(self.0.clone(), ttl)
    }

    async fn queue(&self, name: &LockName) -> Result<Queue, Error> {
        Ok(Queue::new(name.clone(), self.0.queue(name)))
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

/// Starts the backend for the suite.
pub struct Small;

impl Fixture for Small {
    fn name(&self) -> &'static str {
        "small"
    }

    fn start(&self) -> Box<dyn Deployment> {
        Box::new(Started(Store::new()))
    }
}

/// One store, for one case.
pub struct Started(pub Arc<Store>);

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

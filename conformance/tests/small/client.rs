//! The client of the small backend: what needs no session, and the opening of sessions.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lock_core::{
    Backend, DataKey, EntryId, Error, LockName, Queue, Raised, Removed, Session, TokenOffset,
};

use super::session;
use super::store::Store;

/// What a program gives to `lock_core::Locks::new`.
#[derive(Debug)]
pub struct Client(pub Arc<Store>);

#[async_trait]
impl Backend for Client {
    fn name(&self) -> &'static str {
        "small"
    }

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

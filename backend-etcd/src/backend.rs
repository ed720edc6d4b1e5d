//! The backend: one client of a cluster, shared by all sessions opened on it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lock_core::{
    Backend, DataKey, EntryId, Error, LockName, Queue, Raised, Removed, Session, TokenOffset, retry,
};

use crate::client::Client;
use crate::config::Config;
use crate::{layout, listing, offset, session};

/// Locks on an etcd cluster, or on a coordinator that speaks etcd's API.
#[derive(Debug)]
pub struct EtcdBackend {
    client: Arc<Client>,
}

impl EtcdBackend {
    /// A backend with this configuration. It connects when it is first used, and whenever a
    /// connection was lost; only the system's CA certificates are read now, if TLS needs them.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](lock_core::ErrorKind::Configuration) if an address, a
    /// certificate or a key cannot be used.
    pub fn new(config: Config) -> Result<Arc<Self>, Error> {
        let client = Client::new(config)?;
        Ok(Arc::new(EtcdBackend { client }))
    }

    /// A client for requests of the caller's own, over the connection that the sessions use now.
    /// When that is lost it stays lost: ask again. A round trip if there is no connection yet.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`](lock_core::ErrorKind::Unreachable) or
    /// [`ErrorKind::Refused`](lock_core::ErrorKind::Refused) if no connection can be made.
    pub async fn client(&self) -> Result<etcd_client::Client, Error> {
        let transport = &self.client.transport;
        let connection = retry::briefly(|| transport.connection()).await?;
        Ok((*connection.client).clone())
    }
}

#[async_trait]
impl Backend for EtcdBackend {
    async fn open_session(&self, ttl: Duration) -> Result<Arc<dyn Session>, Error> {
        session::open(self.client.clone(), ttl).await
    }

    async fn queue(&self, name: &LockName) -> Result<Queue, Error> {
        listing::queue(&self.client, name).await
    }

    async fn locks(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Queue>, Error> {
        listing::locks(&self.client, prefix, after, limit).await
    }

    async fn get(&self, key: &DataKey) -> Result<Option<Vec<u8>>, Error> {
        listing::get(&self.client, key).await
    }

    async fn evict(&self, name: &LockName, entry: &EntryId) -> Result<Removed, Error> {
        self.client.keyspace.check_entry(name, entry)?;
        let removal = layout::remove(entry, &[]);
        let answer = self.client.transport.txn(move || removal.clone()).await?;
        Ok(match answer.succeeded() {
            true => Removed::Removed,
            false => Removed::AlreadyGone,
        })
    }

    async fn raise_token_offset(&self, offset: TokenOffset) -> Result<Raised, Error> {
        offset::raise(&self.client, offset).await
    }
}

//! The backend: opening sessions, and operations without one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lock_core::{
    Backend, DataKey, EntryId, Error, LockName, Queue, Raised, Removed, Session, TokenOffset,
};

use crate::client::Client;
use crate::config::Config;
use crate::{layout, listing, offset, session};

/// Locks on an etcd cluster, or on a coordinator that speaks etcd's API.
///
/// ```no_run
/// use backend_etcd::{Config, EtcdBackend};
/// use lock_core::Locks;
///
/// # async fn example() -> Result<(), lock_core::Error> {
/// let backend = EtcdBackend::new(Config::from_url("etcd://etcd1:2379,etcd2:2379")?)?;
/// let locks = Locks::new(backend, Default::default())?;
/// let guard = locks.mutex("nightly")?.acquire().await?;
/// # drop(guard);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EtcdBackend {
    client: Arc<Client>,
}

impl EtcdBackend {
    /// Returns a backend with this configuration. It connects when it is first used, and again
    /// whenever a connection is lost. With TLS and without the parameter `ca`, it reads the
    /// system's CA certificates now.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](lock_core::ErrorKind::Configuration) if an address, a
    /// certificate or a key cannot be used.
    pub fn new(config: Config) -> Result<Arc<Self>, Error> {
        let client = Client::new(config)?;
        Ok(Arc::new(EtcdBackend { client }))
    }

    /// Returns a client for other requests. It uses the connection that the sessions use now, and
    /// does not make another one when that is lost. Makes the connection if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`](lock_core::ErrorKind::Unreachable) or
    /// [`ErrorKind::Refused`](lock_core::ErrorKind::Refused) if no connection can be made.
    ///
    /// # Cancel safety
    /// Safe: a connection under way is made for the next request.
    #[cfg(feature = "raw-client")]
    pub async fn client(&self) -> Result<etcd_client::Client, Error> {
        let transport = &self.client.transport;
        let connection = lock_core::retry::retry_briefly(|| transport.connection()).await?;
        Ok((*connection.client).clone())
    }
}

#[async_trait]
impl Backend for EtcdBackend {
    fn name(&self) -> &'static str {
        "etcd"
    }

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
        let answer = self.client.transport.write(move || removal.clone()).await?;
        Ok(match answer.succeeded() {
            true => Removed::Removed,
            false => Removed::AlreadyGone,
        })
    }

    async fn raise_token_offset(&self, offset: TokenOffset) -> Result<Raised, Error> {
        offset::raise(&self.client, offset).await
    }
}

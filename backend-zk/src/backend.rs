//! The backend: how sessions are opened, and what needs none.

use std::sync::{Arc, Once};
use std::time::Duration;

use async_trait::async_trait;
use lock_core::{
    Backend, DataKey, EntryId, Error, LockName, Queue, Raised, Removed, Session, TokenOffset,
    background, retry,
};

use crate::client::Cluster;
use crate::config::Config;
use crate::{evict, listing, offset, session, tidy};

/// Locks on a ZooKeeper ensemble.
#[derive(Debug)]
pub struct ZkBackend {
    cluster: Arc<Cluster>,
}

impl ZkBackend {
    /// A backend with this configuration. Does no I/O: each session has a connection of its own.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](lock_core::ErrorKind::Configuration) if a certificate or a key
    /// cannot be used.
    pub fn new(config: Config) -> Result<Arc<Self>, Error> {
        if !config.security().has_identity() {
            static WARNED: Once = Once::new();
            WARNED.call_once(|| {
                tracing::warn!("locks on ZooKeeper are open to whoever reaches the servers: give the parameters user and password_file");
            });
        }
        if let Some(host) = config.exposed() {
            static WARNED: Once = Once::new();
            WARNED.call_once(|| {
                tracing::warn!(
                    host,
                    "the connection to ZooKeeper is not encrypted: use zks://"
                );
            });
        }
        Ok(Arc::new(ZkBackend {
            cluster: Cluster::new(config)?,
        }))
    }

    /// A client for requests of the caller's own, with a session of its own of this length, which
    /// ends with the last clone of it.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`](lock_core::ErrorKind::Unreachable) or
    /// [`ErrorKind::Refused`](lock_core::ErrorKind::Refused) if no session can be opened.
    pub async fn client(&self, session: Duration) -> Result<zookeeper_client::Client, Error> {
        let cluster = self.cluster.clone();
        let connecting = async move { retry::briefly(|| cluster.connect(session)).await };
        Ok(background::finish(connecting).await?.into_inner())
    }

    /// Removes the empty directories of this namespace, itself among them, now instead of when the
    /// servers come to it, which takes them a minute or more. Harmless while the namespace is used:
    /// an acquire makes what it finds missing. A directory that was made by hand cannot be told from
    /// one of ours and goes, too; one that has data of its own stays, as do those above.
    ///
    /// # Errors
    /// As the servers': unreachable, refused.
    pub async fn tidy(&self) -> Result<(), Error> {
        retry::briefly(|| tidy::tidy(&self.cluster)).await
    }
}

#[async_trait]
impl Backend for ZkBackend {
    async fn open_session(&self, ttl: Duration) -> Result<Arc<dyn Session>, Error> {
        session::open(self.cluster.clone(), ttl).await
    }

    async fn queue(&self, name: &LockName) -> Result<Queue, Error> {
        listing::queue(&self.cluster, name).await
    }

    async fn locks(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Queue>, Error> {
        listing::locks(&self.cluster, prefix, after, limit).await
    }

    async fn get(&self, key: &DataKey) -> Result<Option<Vec<u8>>, Error> {
        listing::get(&self.cluster, key).await
    }

    async fn evict(&self, name: &LockName, entry: &EntryId) -> Result<Removed, Error> {
        evict::evict(&self.cluster, name, entry).await
    }

    async fn raise_token_offset(&self, offset: TokenOffset) -> Result<Raised, Error> {
        offset::raise(&self.cluster, offset).await
    }
}

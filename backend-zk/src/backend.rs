//! The backend: how sessions are opened, and what needs none.

use std::sync::{Arc, Once};
use std::time::Duration;

use async_trait::async_trait;
use lock_core::{Backend, DataKey, Error, LockName, Queue, Session};

use crate::client::Cluster;
use crate::config::Config;
use crate::{listing, session};

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
            tracing::warn!(
                host,
                "the connection to ZooKeeper is not encrypted: use zks://"
            );
        }
        Ok(Arc::new(ZkBackend {
            cluster: Cluster::new(config)?,
        }))
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
}

//! The backend: opening sessions, and operations without one.

use std::sync::{Arc, Once};
use std::time::Duration;

use async_trait::async_trait;
use lock_core::{
    Backend, DataKey, EntryId, Error, LockName, Queue, Raised, Removed, Session, TokenOffset,
};

use crate::client::Cluster;
use crate::config::Config;
use crate::{evict, listing, offset, session, tidy};

/// Locks on a ZooKeeper ensemble.
///
/// ```no_run
/// use backend_zk::{Config, ZkBackend};
/// use lock_core::Locks;
///
/// # async fn example() -> Result<(), lock_core::Error> {
/// let backend = ZkBackend::new(Config::from_url("zk://zk1:2181,zk2:2181")?)?;
/// let locks = Locks::new(backend, Default::default())?;
/// let guard = locks.mutex("nightly")?.acquire().await?;
/// # drop(guard);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ZkBackend {
    cluster: Arc<Cluster>,
}

impl ZkBackend {
    /// Returns a backend with this configuration. Does no I/O: each session makes a connection of
    /// its own.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](lock_core::ErrorKind::Configuration) if a certificate or a key
    /// cannot be used.
    pub fn new(config: Config) -> Result<Arc<Self>, Error> {
        if !config.security().has_identity() {
            static WARNED: Once = Once::new();
            WARNED.call_once(|| {
                tracing::warn!(
                    "everybody who can connect to the ZooKeeper servers may change the locks: \
                     give the parameters user and password_file"
                );
            });
        }
        if let Some(host) = config.find_exposed_host() {
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

    /// Opens a session of this length for other requests. It ends with the last clone of the
    /// client.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`](lock_core::ErrorKind::Unreachable) or
    /// [`ErrorKind::Refused`](lock_core::ErrorKind::Refused) if no session can be opened.
    ///
    /// # Cancel safety
    /// Safe: a session that was opened meanwhile is closed again.
    #[cfg(feature = "raw-client")]
    pub async fn client(&self, session: Duration) -> Result<zookeeper_client::Client, Error> {
        let cluster = self.cluster.clone();
        let connecting =
            async move { lock_core::retry::retry_briefly(|| cluster.connect(session)).await };
        Ok(lock_core::background::finish(connecting)
            .await?
            .into_inner())
    }

    /// Removes the empty directories of this namespace, and the namespace itself if it is empty.
    /// The servers would do so a minute or more later. Does no harm while the namespace is used: an
    /// acquire creates the directories that it needs. An empty directory that was created by hand
    /// is removed, too. A directory with data of its own stays, as do those above it.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`](lock_core::ErrorKind::Unreachable) or
    /// [`ErrorKind::Refused`](lock_core::ErrorKind::Refused), as the servers answer.
    ///
    /// # Cancel safety
    /// Safe: the removal goes on in the background.
    pub async fn tidy(&self) -> Result<(), Error> {
        lock_core::retry::retry_briefly(|| tidy::tidy(&self.cluster)).await
    }
}

#[async_trait]
impl Backend for ZkBackend {
    fn name(&self) -> &'static str {
        "zk"
    }

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

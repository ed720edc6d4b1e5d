//! The backend: one client of a cluster, shared by all sessions opened on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backend_kit::keyspace::Keyspace;
use lock_core::handoff::HandoffRegistry;
use lock_core::{
    Backend, DataKey, Effect, EntryId, Error, LockName, Queue, Raised, Removed, Session,
    TokenOffset,
};
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::group::Group;
use crate::transport::Transport;
use crate::watch::Watches;
use crate::{layout, listing, offset, session};

/// Holders whose entries come under watch at once. When the stream of the watches breaks, it may be
/// that of a hundred thousand: asked about all at once, no server would answer in time.
const SETTLING: usize = 64;

/// Locks on an etcd cluster, or on a coordinator that speaks etcd's API.
#[derive(Debug)]
pub struct EtcdBackend {
    client: Arc<Client>,
}

/// What the sessions of one backend share.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) keyspace: Keyspace,
    pub(crate) transport: Arc<Transport>,
    pub(crate) group: Arc<Group>,
    pub(crate) watches: Watches,
    pub(crate) handoffs: Arc<HandoffRegistry>,
    /// For the holders whose entries come under watch.
    pub(crate) settling: Semaphore,
}

impl EtcdBackend {
    /// A backend with this configuration. It connects when it is first used, and whenever a
    /// connection was lost; only the system's CA certificates are read now, if TLS needs them.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](lock_core::ErrorKind::Configuration) if an address, a
    /// certificate or a key cannot be used.
    pub fn new(config: Config) -> Result<Arc<Self>, Error> {
        let keyspace = config.keyspace().clone();
        let transport = Transport::new(config)?;
        Ok(Arc::new(EtcdBackend {
            client: Arc::new(Client {
                keyspace,
                group: Group::new(transport.clone()),
                watches: Watches::new(transport.clone()),
                transport,
                handoffs: HandoffRegistry::new(layout::KEY_SCHEME),
                settling: Semaphore::new(SETTLING),
            }),
        }))
    }

    /// A client for requests of the caller's own, over the connection that the sessions use now.
    /// When that is lost it stays lost: ask again. A round trip if there is no connection yet.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`](lock_core::ErrorKind::Unreachable) or
    /// [`ErrorKind::Refused`](lock_core::ErrorKind::Refused) if no connection can be made.
    pub async fn client(&self) -> Result<etcd_client::Client, Error> {
        let transport = &self.client.transport;
        let connection = transport.retry(|| transport.connection()).await?;
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
        let (transport, removal) = (&self.client.transport, layout::remove(entry, &[]));
        // Whether an earlier try may have done it.
        let doubtful = AtomicBool::new(false);
        let removed = transport
            .retry(|| async {
                let removal = removal.clone();
                let answer = transport.txn(move || removal.clone()).await;
                if answer
                    .as_ref()
                    .is_err_and(|e| e.effect() == Effect::Unknown)
                {
                    doubtful.store(true, Ordering::SeqCst);
                }
                Ok(answer?.succeeded())
            })
            .await?;
        Ok(match removed || doubtful.into_inner() {
            true => Removed::Removed,
            false => Removed::AlreadyGone,
        })
    }

    async fn raise_token_offset(&self, offset: TokenOffset) -> Result<Raised, Error> {
        offset::raise(&self.client, offset).await
    }
}

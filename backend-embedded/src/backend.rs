//! The embedded coordinator as a backend of the locks: in process, without gRPC.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backend_kit::keyspace::Keyspace;
use lock_core::{
    Backend, DataKey, EntryId, Error, LockName, Queue, Raised, Removed, Session, TokenOffset,
    background,
};

use crate::config::{Config, Limits};
use crate::coordinator::Coordinator;
use crate::error::{to_lock_error, to_open_error};
use crate::machine::op::{KeyRange, Range};
use crate::on_use::Location;
use crate::session::EmbeddedSession;
use crate::{layout, listing, offset};

/// A backend that keeps its locks on a coordinator in this process.
///
/// Clients that reach the same coordinator through the etcd API join the same queues.
///
/// ```
/// use backend_embedded::{Coordinator, EmbeddedBackend, Limits};
/// use lock_core::{Locks, Options};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let coordinator = Coordinator::in_memory(Limits::default()).expect("a thread can be started");
/// let locks = Locks::new(EmbeddedBackend::new(coordinator), Options::default())?;
/// let guard = locks.mutex("nightly")?.acquire().await?;
/// # drop(guard);
/// # Ok::<(), lock_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct EmbeddedBackend {
    coordinator: Coordinator,
    keyspace: Keyspace,
}

impl EmbeddedBackend {
    /// Returns a backend that uses the default namespace of this coordinator.
    pub fn new(coordinator: Coordinator) -> Arc<Self> {
        Arc::new(EmbeddedBackend {
            coordinator,
            keyspace: Keyspace::default(),
        })
    }

    /// Opens the backend that a URL names: `embedded:///DIR` is a durable coordinator in the folder
    /// DIR, `embedded:memory` is a new one in memory. A folder is read and checked before this
    /// returns, on a separate thread; [`from_url`](crate::from_url) leaves that to the first
    /// request.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](lock_core::ErrorKind::Configuration) if the URL is malformed or
    /// the folder cannot be opened.
    ///
    /// # Cancel safety
    /// If the future is dropped, the folder is opened all the same, and closed at once.
    pub async fn open(url: &str) -> Result<Arc<Self>, Error> {
        match Location::parse(url)? {
            Location::Folder(config) => EmbeddedBackend::open_folder(config).await,
            Location::Memory => {
                let coordinator = Coordinator::in_memory(Limits::default());
                Ok(EmbeddedBackend::new(coordinator.map_err(to_open_error)?))
            }
        }
    }

    pub(crate) async fn open_folder(config: Config) -> Result<Arc<Self>, Error> {
        let coordinator = background::block(|| Coordinator::open(config)).await?;
        Ok(EmbeddedBackend::new(coordinator.map_err(to_open_error)?))
    }

    /// Returns the coordinator of this backend.
    pub fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }
}

#[async_trait]
impl Backend for EmbeddedBackend {
    fn name(&self) -> &'static str {
        "embedded"
    }

    async fn open_session(&self, ttl: Duration) -> Result<Arc<dyn Session>, Error> {
        let session =
            EmbeddedSession::open(self.coordinator.clone(), self.keyspace.clone(), ttl).await?;
        Ok(session)
    }

    async fn queue(&self, name: &LockName) -> Result<Queue, Error> {
        listing::read_queue(&self.coordinator, &self.keyspace, name).await
    }

    async fn locks(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Queue>, Error> {
        listing::list_queues(&self.coordinator, &self.keyspace, prefix, after, limit).await
    }

    async fn get(&self, key: &DataKey) -> Result<Option<Vec<u8>>, Error> {
        let key = self.keyspace.data_key(key).into_bytes();
        let range = Range::all(KeyRange::One(key.into()));
        let found = self.coordinator.range(range).await.map_err(to_lock_error)?;
        Ok(found.result.kvs.first().map(|kv| kv.value.to_vec()))
    }

    async fn evict(&self, name: &LockName, entry: &EntryId) -> Result<Removed, Error> {
        self.keyspace.check_entry(name, entry)?;
        let removal = layout::remove_if(&entry.key, layout::entry_exists(entry));
        let done = self.coordinator.txn(removal).await.map_err(to_lock_error)?;
        Ok(layout::to_removed(&done.result))
    }

    async fn raise_token_offset(&self, offset: TokenOffset) -> Result<Raised, Error> {
        offset::raise(&self.coordinator, &self.keyspace, offset).await
    }
}

//! What the sessions of one backend share: the connection and the watches.

use std::sync::Arc;

use backend_kit::keyspace::Keyspace;
use lock_core::Error;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::group::Group;
use crate::transport::Transport;
use crate::watch::Watches;

/// The most holders whose entries are put under watch at the same time. When the stream of the
/// watches breaks, a hundred thousand holders may need a new watch. No server would answer all of
/// them in time at once.
const MAX_HOLDERS_IN_SETUP: usize = 64;

/// A client of one cluster.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) keyspace: Keyspace,
    pub(crate) transport: Arc<Transport>,
    pub(crate) group: Arc<Group>,
    pub(crate) watches: Watches,
    /// Taken by each holder while its entry is put under watch.
    pub(crate) settling: Semaphore,
}

impl Client {
    /// Returns a client that connects when it is first used.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](lock_core::ErrorKind::Configuration) if an address, a
    /// certificate or a key cannot be used.
    pub(crate) fn new(config: Config) -> Result<Arc<Self>, Error> {
        let keyspace = config.keyspace().clone();
        let transport = Transport::new(config)?;
        Ok(Arc::new(Client {
            keyspace,
            group: Group::new(transport.clone()),
            watches: Watches::new(transport.clone()),
            transport,
            settling: Semaphore::new(MAX_HOLDERS_IN_SETUP),
        }))
    }
}

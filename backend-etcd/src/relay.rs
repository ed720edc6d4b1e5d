//! Renewals through etcd's `grpc-proxy`.
//!
//! The proxy renews the leases of its clients at a pace of its own. It answers a client's renewal
//! with the last answer that it had from etcd. That answer may be older than the request, so it
//! proves nothing. So the proxy is made to renew the lease, and etcd is asked how long it lives.

use std::time::Duration;

use etcd_client::WatchOptions;
use lock_core::background;
use tokio::task::JoinSet;

use crate::error::{self, Failure};
use crate::transport::Connection;

/// How long to wait before the proxy is asked again after an error.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// The id of a watch. etcd gives a watch the id that the client asks for. The proxy numbers them.
const PROBE_ID: i64 = 0x7475_726e;

/// Finds out whether the connection leads to a proxy instead of a server, once for each connection.
/// A server so old that clients cannot choose the ids of watches counts as a proxy, too. `key` must
/// be a key that the session may read.
pub(crate) async fn is_relayed(connection: &Connection, key: &str) -> Result<bool, Failure> {
    let probe = || probe(connection, key);
    connection.relayed.get_or_try_init(probe).await.copied()
}

async fn probe(connection: &Connection, key: &str) -> Result<bool, Failure> {
    let options = WatchOptions::new().with_watch_id(PROBE_ID);
    let mut client = connection.client.watch_client();
    let watch = client.watch(key, Some(options)).await;
    let mut watch = watch.map_err(|e| connection.failure(e))?;
    let answer = watch.message().await.map_err(|e| connection.failure(e))?;
    let answer = answer.ok_or_else(|| error::end_of_stream(&connection.address))?;
    Ok(answer.watch_id() != PROBE_ID)
}

/// Makes the proxy renew a lease, until this is dropped.
pub(crate) struct Relay {
    connection: Connection,
    lease: i64,
    /// The task that asks for renewals. It ends when this is dropped.
    _renewals: JoinSet<()>,
}

impl Relay {
    pub(crate) fn start(connection: Connection, lease: i64) -> Self {
        let mut renewals = JoinSet::new();
        let proxy = connection.clone();
        renewals.spawn(async move {
            loop {
                if let Err(error) = request_renewals(&proxy, lease).await {
                    tracing::debug!(%error, "a proxy does not renew a lease");
                }
                background::sleep(RETRY_PAUSE).await;
            }
        });
        Relay {
            connection,
            lease,
            _renewals: renewals,
        }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Asks etcd how long the lease still lives. Returns whole seconds, rounded down, or `None` if
    /// the lease is gone.
    pub(crate) async fn remaining(&self) -> Result<Option<Duration>, Failure> {
        let mut client = self.connection.client.lease_client();
        let answer = client.time_to_live(self.lease, None).await;
        let answer = answer.map_err(|e| self.connection.failure(e))?;
        Ok(u64::try_from(answer.ttl()).ok().map(Duration::from_secs))
    }
}

/// Asks for the next renewal as soon as one is answered. Returns when the lease is gone.
async fn request_renewals(connection: &Connection, lease: i64) -> Result<(), etcd_client::Error> {
    let mut client = connection.client.lease_client();
    let (mut keeper, mut answers) = client.keep_alive(lease).await?;
    loop {
        keeper.keep_alive().await?;
        match answers.message().await? {
            Some(answer) if answer.ttl() > 0 => {}
            Some(_) | None => return Ok(()),
        }
    }
}

//! Renewals by way of etcd's `grpc-proxy`. It renews the leases of its clients at a pace of its own,
//! and answers theirs with what etcd last said to its own: such an answer may be older than the
//! question and proves nothing. So it is made to renew, and etcd is asked how long the lease lives.

use std::time::Duration;

use etcd_client::WatchOptions;
use lock_core::background;
use tokio::task::JoinSet;

use crate::error::{self, Failure};
use crate::transport::Connection;

/// How long to wait until the proxy is asked again that has refused or given up.
const PAUSE: Duration = Duration::from_millis(200);
/// The name of a watch: etcd gives a watch the name that is asked for. The proxy counts.
const NAME: i64 = 0x7475_726e;

/// Whether what answers is no server, but passes on what is said to one. A server from before
/// watches had names is taken for such a one, too. The key is one that we may read.
pub(crate) async fn is_relayed(connection: &Connection, key: &str) -> Result<bool, Failure> {
    let look = || probe(connection, key);
    connection.relayed.get_or_try_init(look).await.copied()
}

async fn probe(connection: &Connection, key: &str) -> Result<bool, Failure> {
    let named = WatchOptions::new().with_watch_id(NAME);
    let mut client = connection.client.watch_client();
    let watch = client.watch(key, Some(named)).await;
    let mut watch = watch.map_err(|e| connection.failure(e))?;
    let answer = watch.message().await.map_err(|e| connection.failure(e))?;
    let answer = answer.ok_or_else(|| error::ended(&connection.address))?;
    Ok(answer.watch_id() != NAME)
}

/// Makes the proxy renew a lease, until it is dropped.
pub(crate) struct Relay {
    connection: Connection,
    lease: i64,
    /// Ends with it.
    _asking: JoinSet<()>,
}

impl Relay {
    pub(crate) fn start(connection: Connection, lease: i64) -> Self {
        let mut asking = JoinSet::new();
        let asked = connection.clone();
        asking.spawn(async move {
            loop {
                if let Err(error) = ask_for_renewals(&asked, lease).await {
                    tracing::debug!(%error, "a proxy does not renew");
                }
                background::sleep(PAUSE).await;
            }
        });
        Relay {
            connection,
            lease,
            _asking: asking,
        }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// How long the lease lives, by etcd's own word, in whole seconds and never too long; `None` if
    /// it does not.
    pub(crate) async fn remaining(&self) -> Result<Option<Duration>, Failure> {
        let mut client = self.connection.client.lease_client();
        let answer = client.time_to_live(self.lease, None).await;
        let answer = answer.map_err(|e| self.connection.failure(e))?;
        Ok(u64::try_from(answer.ttl()).ok().map(Duration::from_secs))
    }
}

/// Asks for the next renewal when one was answered. Ends with the lease, too.
async fn ask_for_renewals(connection: &Connection, lease: i64) -> Result<(), etcd_client::Error> {
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

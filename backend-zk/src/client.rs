//! The connection of one ZooKeeper session, and requests on it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backend_kit::continuity::Continuity;
use backend_kit::turns::Turns;
use futures_util::future::BoxFuture;
use lock_core::{Error, SessionId, background};
use zookeeper_client::{
    Acls, Connector, CreateMode, CreateOptions, Error as ZkError, StateWatcher,
};

use crate::config::Config;
use crate::layout::Layout;
use crate::{error, runtime, security, tls_fault};

/// The length of a session that is opened for one listing.
const BRIEF_SESSION: Duration = Duration::from_secs(10);

/// The ensemble, as all sessions of one backend share it.
pub(crate) struct Cluster {
    config: Config,
    pub(crate) layout: Layout,
    /// The addresses of the servers, for messages.
    servers: Arc<str>,
    /// What was seen of the store, over all sessions.
    pub(crate) continuity: Continuity,
    /// The addresses of the servers, for the client library: see [`repeat`].
    rounds: String,
    connector: Connector,
}

/// The connection of a session. The session is closed when this is dropped.
#[derive(Debug)]
pub(crate) struct Client {
    zk: zookeeper_client::Client,
    cluster: Arc<Cluster>,
    /// The turns of requests that make an entry, a directory for it, or a watch.
    pub(crate) turns: Arc<Turns>,
}

/// How many entries and watches are made at once. The servers answer the requests of a session in
/// their order, so a removal or a renewal waits behind all of these.
const TURNS: usize = 64;

/// How many addresses, at least, the client library has in one round over its servers.
const ROUND: usize = 20;

/// Repeats the addresses of the servers.
///
/// The client library tries its servers in rounds. The pause before each round doubles without
/// limit: after an election of ten seconds, the session would wait for another ten. Within a round,
/// pauses grow by 50 ms only. So each round has every server several times. Then the longest pause
/// is one second in the first ten seconds, and two in the next ten. It also leaves a cluster
/// without a leader some rest while a session is opened.
fn repeat(servers: &str, count: usize) -> String {
    vec![servers; ROUND.div_ceil(count.max(1))].join(",")
}

impl Cluster {
    pub(crate) fn new(config: Config) -> Result<Arc<Self>, Error> {
        let connector = zookeeper_client::Client::connector();
        Ok(Arc::new(Cluster {
            layout: config.layout(),
            servers: config.cluster().into(),
            continuity: Continuity::new(format!("ZooKeeper at {}", config.cluster()), "zxid"),
            rounds: repeat(&config.cluster(), config.hosts().count()),
            connector: config.security().apply(connector, config.hosts())?,
            config,
        }))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Returns what an error of the client library means.
    pub(crate) fn error(&self, error: ZkError) -> Error {
        error::from_zk_error(&self.servers, error)
    }

    /// Opens a session on one of the servers. They may grant another length than this one. Takes at
    /// most one connect timeout for each server, and over TLS another one to find out why it failed.
    /// Must run on the background thread. Does not use read-only servers, which are cut off from
    /// their peers.
    pub(crate) async fn connect(self: &Arc<Self>, timeout: Duration) -> Result<Client, Error> {
        // It is also how long a connection may be silent, and must leave time for another one.
        let silence = self.config.connect_timeout().min(timeout * 2 / 5);
        let connector = self
            .connector
            .clone()
            .with_session_timeout(timeout)
            .with_connection_timeout(silence);
        let connecting = async {
            match self.config.security().is_encrypted() {
                true => {
                    security::ensure_crypto_provider();
                    connector.secure_connect(&self.rounds).await
                }
                false => connector.connect(&self.rounds).await,
            }
        };
        let hosts = u32::try_from(self.config.hosts().count()).unwrap_or(u32::MAX);
        let limit = self.config.connect_timeout().saturating_mul(hosts);
        let connected = match self.config.security().is_encrypted() {
            false => runtime::timeout(limit, connecting).await,
            true => tokio::select! {
                biased;
                connected = runtime::timeout(limit, connecting) => connected,
                fault = tls_fault::wait_for_fault(&self.config) => return Err(fault),
            },
        };
        let zk = match connected {
            Ok(Ok(zk)) => zk,
            Err(_) | Ok(Err(ZkError::Timeout | ZkError::NoHosts)) => {
                let fault = tls_fault::find_fault(&self.config).await;
                return Err(fault.unwrap_or_else(|| self.error(ZkError::NoHosts)));
            }
            Ok(Err(error)) => return Err(self.error(error)),
        };
        Ok(Client {
            zk,
            cluster: self.clone(),
            turns: Turns::new(TURNS),
        })
    }

    /// Waits until the servers have acknowledged the end of a session whose client was dropped, or
    /// have ended it themselves.
    pub(crate) async fn wait_for_end(&self, mut state: StateWatcher) -> Result<(), Error> {
        let limit = self.config.request_timeout();
        let ended = async {
            let mut now = state.peek_state();
            while !now.is_terminated() {
                now = state.changed().await;
            }
        };
        runtime::timeout(limit, ended)
            .await
            .map_err(|_| error::timeout(&self.servers, limit))
    }

    /// Opens a session, does this work with it, and closes it again, also if the work fails.
    pub(crate) async fn with_client<T, F>(self: &Arc<Self>, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a Client) -> BoxFuture<'a, Result<T, Error>> + Send + 'static,
    {
        let cluster = self.clone();
        background::finish(async move {
            let client = cluster.connect(BRIEF_SESSION).await?;
            let outcome = work(&client).await;
            let state = client.state();
            drop(client);
            if let Err(error) = cluster.wait_for_end(state).await {
                tracing::debug!(%error, "the session of a listing ends by its time to live");
            }
            outcome
        })
        .await
    }
}

/// Leaves the connector of the client library out, which would show the password.
impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Client {
    #[cfg(feature = "raw-client")]
    pub(crate) fn into_inner(self) -> zookeeper_client::Client {
        self.zk
    }

    pub(crate) fn session(&self) -> SessionId {
        SessionId(self.zk.session_id().0)
    }

    /// Returns the length of the session, as granted.
    pub(crate) fn timeout(&self) -> Duration {
        self.zk.session_timeout()
    }

    pub(crate) fn state(&self) -> StateWatcher {
        self.zk.state_watcher()
    }

    /// Returns what was seen of the store.
    pub(crate) fn continuity(&self) -> &Continuity {
        &self.cluster.continuity
    }

    /// Sends these requests, in order, within the first poll. So a removal never overtakes the
    /// enqueue before it. Waits for the answers for one request timeout.
    ///
    /// # Cancel safety
    /// The server may execute what was sent. A watch that was asked for ends.
    pub(crate) async fn ask<T, F>(&self, requests: F) -> Result<T, Error>
    where
        T: Send,
        F: for<'a> FnOnce(&'a zookeeper_client::Client) -> BoxFuture<'a, Result<T, ZkError>> + Send,
    {
        let limit = self.cluster.config.request_timeout();
        match runtime::timeout(limit, requests(&self.zk)).await {
            Ok(answer) => answer.map_err(|error| self.cluster.error(error)),
            Err(_) => Err(error::timeout(&self.cluster.servers, limit)),
        }
    }

    /// Sends these requests as [`ask`](Self::ask) does, when it is their turn.
    ///
    /// # Cancel safety
    /// The same as that of [`ask`](Self::ask). If the caller gives up before its turn, nothing is
    /// sent.
    pub(crate) async fn ask_in_turn<T, F>(self: Arc<Self>, requests: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a zookeeper_client::Client) -> BoxFuture<'a, Result<T, ZkError>>
            + Send
            + 'static,
    {
        let turns = self.turns.clone();
        turns.take(async move { self.ask(requests).await }).await
    }

    /// Creates a directory as [`make_directory`](Self::make_directory) does, when it is its turn.
    pub(crate) async fn make_directory_in_turn(self: Arc<Self>, path: &str) -> Result<(), Error> {
        let (turns, path) = (self.turns.clone(), path.to_owned());
        let made = async move { self.make_directory(&path).await };
        turns.take(made).await
    }

    /// Creates a directory, and those above it. They are containers, which the servers remove some
    /// time after their last child. Where the servers do not support containers, the directories
    /// stay.
    pub(crate) async fn make_directory(&self, path: &str) -> Result<(), Error> {
        for mode in [CreateMode::Container, CreateMode::Persistent] {
            let (path, acls) = (path.to_owned(), self.acls());
            let made = self.ask(move |zk| {
                Box::pin(async move {
                    match zk.mkdir(&path, &mode.with_acls(acls)).await {
                        Err(ZkError::Unimplemented) => Ok(false),
                        made => made.map(|()| true),
                    }
                })
            });
            if made.await? {
                return Ok(());
            }
        }
        Err(self.cluster.error(ZkError::Unimplemented))
    }

    /// Returns what an error of the client library means.
    pub(crate) fn error(&self, error: ZkError) -> Error {
        self.cluster.error(error)
    }

    /// Returns the options for creating an entry.
    pub(crate) fn entry_options(&self) -> CreateOptions<'static> {
        CreateMode::EphemeralSequential.with_acls(self.acls())
    }

    /// Returns the options for creating a session's own node.
    pub(crate) fn session_options(&self) -> CreateOptions<'static> {
        CreateMode::Ephemeral.with_acls(self.acls())
    }

    /// Returns the options for creating the node of a value.
    pub(crate) fn data_options(&self) -> CreateOptions<'static> {
        CreateMode::Persistent.with_acls(self.acls())
    }

    fn acls(&self) -> Acls<'static> {
        self.cluster.config.security().acls()
    }
}

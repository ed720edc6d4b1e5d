//! One ZooKeeper session on the wire, and requests on it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use lock_core::handoff::HandoffRegistry;
use lock_core::{Error, SessionId, background};
use zookeeper_client::{
    Acls, Connector, CreateMode, CreateOptions, Error as ZkError, StateWatcher,
};

use crate::config::Config;
use crate::layout::{self, Layout};
use crate::{error, runtime, security};

/// The length of a session that is only opened to list something.
const BRIEF_SESSION: Duration = Duration::from_secs(10);

/// What all sessions of one backend share.
pub(crate) struct Cluster {
    config: Config,
    pub(crate) layout: Layout,
    /// The servers, for messages.
    servers: Arc<str>,
    /// The servers, for the client library.
    rounds: String,
    connector: Connector,
    pub(crate) handoffs: Arc<HandoffRegistry>,
}

/// A session's connection. The session is closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Client {
    zk: zookeeper_client::Client,
    cluster: Arc<Cluster>,
}

/// The client library comes back to its servers in rounds, with a pause before each that doubles for
/// ever: after an election of ten seconds it would sleep for another ten, and the session with it.
/// Within a round its pauses grow by 50 ms only. So each of its rounds has every server several
/// times, which makes the longest pause one second in the first ten, and two in the next. What opens
/// a session makes more than one round, too: as many single rounds would be all that a cluster
/// without a leader has to do.
const ROUND: usize = 20;

fn rounds(servers: &str, count: usize) -> String {
    vec![servers; ROUND.div_ceil(count.max(1))].join(",")
}

impl Cluster {
    pub(crate) fn new(config: Config) -> Result<Arc<Self>, Error> {
        let connector = zookeeper_client::Client::connector();
        Ok(Arc::new(Cluster {
            layout: config.layout(),
            servers: config.cluster().into(),
            rounds: rounds(&config.cluster(), config.hosts().count()),
            connector: config.security().apply(connector, config.hosts())?,
            handoffs: HandoffRegistry::new(layout::KEY_SCHEME),
            config,
        }))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// What an error of the client library's means.
    pub(crate) fn error(&self, error: ZkError) -> Error {
        error::of(&self.servers, error)
    }

    /// Opens a session of this length on one of the servers, as the servers see fit to grant it.
    /// Takes the time of one connection for each server at most; must run on the background thread. Read-only servers,
    /// which are cut off from their peers, are not used.
    pub(crate) async fn connect(self: &Arc<Self>, timeout: Duration) -> Result<Client, Error> {
        // What is also the longest silence of a connection must leave time for others.
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
        let zk = match runtime::timeout(limit, connecting).await {
            Ok(Ok(zk)) => zk,
            Err(_) | Ok(Err(ZkError::Timeout)) => return Err(self.error(ZkError::NoHosts)),
            Ok(Err(error)) => return Err(self.error(error)),
        };
        Ok(Client {
            zk,
            cluster: self.clone(),
        })
    }

    /// Waits until the servers have acknowledged the end of a session whose client is gone, or have
    /// ended it themselves.
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
            .map_err(|_| error::silence(&self.servers, limit))
    }

    /// Opens a session for one listing and closes it again, whether or not that succeeds.
    pub(crate) async fn briefly<T, F>(self: &Arc<Self>, work: F) -> Result<T, Error>
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

/// The client library's connector would show the password.
impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Client {
    pub(crate) fn into_inner(self) -> zookeeper_client::Client {
        self.zk
    }

    pub(crate) fn session(&self) -> SessionId {
        SessionId(self.zk.session_id().0)
    }

    /// The length of the session, as granted.
    pub(crate) fn timeout(&self) -> Duration {
        self.zk.session_timeout()
    }

    pub(crate) fn state(&self) -> StateWatcher {
        self.zk.state_watcher()
    }

    /// Sends what this makes, in order, in the first poll: so a removal never overtakes the enqueue
    /// that it is for. Answers within the time of one request. *Cancel safety:* the server may carry
    /// out what was sent; a watch that comes of it is given up.
    pub(crate) async fn ask<T, F>(&self, requests: F) -> Result<T, Error>
    where
        T: Send,
        F: for<'a> FnOnce(&'a zookeeper_client::Client) -> BoxFuture<'a, Result<T, ZkError>> + Send,
    {
        let limit = self.cluster.config.request_timeout();
        match runtime::timeout(limit, requests(&self.zk)).await {
            Ok(answer) => answer.map_err(|error| self.cluster.error(error)),
            Err(_) => Err(error::silence(&self.cluster.servers, limit)),
        }
    }

    /// Makes a directory, and those above it. Containers: the servers remove them some time after
    /// they were last used, so none of ours outlives its locks. Where the servers know no
    /// containers, they stay.
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

    /// What an error of the client library's means.
    pub(crate) fn error(&self, error: ZkError) -> Error {
        self.cluster.error(error)
    }

    /// How entries are made.
    pub(crate) fn entry_options(&self) -> CreateOptions<'static> {
        CreateMode::EphemeralSequential.with_acls(self.acls())
    }

    /// How a session's own node is made.
    pub(crate) fn session_options(&self) -> CreateOptions<'static> {
        CreateMode::Ephemeral.with_acls(self.acls())
    }

    /// How the values that holders keep are made.
    pub(crate) fn data_options(&self) -> CreateOptions<'static> {
        CreateMode::Persistent.with_acls(self.acls())
    }

    fn acls(&self) -> Acls<'static> {
        self.cluster.config.security().acls()
    }
}

//! Connections: one at a time, to one member, moving on to the next when it fails.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backend_kit::batched::Batched;
use backend_kit::secret::Credentials;
use etcd_client::{Channel, Client, ConnectOptions, Txn, TxnResponse};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use lock_core::process::ProcessName;
use lock_core::{Error, ErrorKind, background};
use tokio::io::AsyncWrite;
use tokio::net::UnixStream;
use tokio::sync::{OnceCell, watch};
use tonic::transport;
use tower::{ServiceExt, service_fn};

use crate::config::{Config, Dialer, Endpoint};
use crate::error::{self, Failure, Scope};
use crate::security::Tls;

/// A dialer may have to start a coordinator.
const DIALER_TIMEOUT: Duration = Duration::from_secs(30);
/// etcd closes connections that are pinged more often than every 5 s, or without a stream open.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a new token is asked for. etcd lets one lapse after five minutes unless told otherwise.
const TOKEN_REFRESH: Duration = Duration::from_secs(60);
/// How long after our credentials were refused they are not shown again: to check a password costs
/// the server a lot of work each time.
const REFUSAL: Duration = Duration::from_secs(1);

/// Longest answer to a transaction that is taken: those of many may be in it, and each tell of many
/// entries.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// While another member may do better, one that does not answer is given this part of the time.
const HASTE: u32 = 6;
/// How much longer than the slowest of the latest answers a member that works may take.
const SLACK: u32 = 4;

/// The way to a cluster. Sticks to one member while that answers.
pub(crate) struct Transport {
    members: Vec<Member>,
    connect_timeout: Duration,
    request_timeout: Duration,
    dialer: Option<Dialer>,
    server_uid: Option<u32>,
    credentials: Option<Credentials>,
    /// What may be wrong with a connection that broke before anything was answered on it.
    hint: Option<&'static str>,
    state: Mutex<State>,
    /// Counts connections: a failure of an earlier one says nothing about the present one.
    generation: watch::Sender<u64>,
}

#[derive(Clone)]
struct Member {
    address: Arc<str>,
    target: Target,
}

#[derive(Clone)]
enum Target {
    Tcp(transport::Endpoint),
    Unix(transport::Endpoint, Arc<std::path::Path>),
}

struct State {
    /// The member in use.
    member: usize,
    link: Link,
    /// When a member failed, if none has answered since.
    failing: Option<Instant>,
    /// How often we moved on to the next member since one answered.
    passed: usize,
    /// The slowest of the latest answers, forgotten by and by.
    slowest: Duration,
}

type Dial = Shared<BoxFuture<'static, Result<Connection, Error>>>;

enum Link {
    Down,
    /// Everyone who needs a connection waits for the same one.
    Dialing(Dial),
    Up(Connection),
    /// Our credentials were: since when, and by which words.
    Refused(Instant, Error),
}

/// A connection to one member.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) client: Arc<Client>,
    pub(crate) address: Arc<str>,
    generation: u64,
    /// Whether anything was answered on it.
    heard: Arc<AtomicBool>,
    /// Whether it leads to a proxy, once that was looked at.
    pub(crate) relayed: Arc<OnceCell<bool>>,
}

impl Transport {
    pub(crate) fn new(config: Config) -> Result<Arc<Self>, Error> {
        let members = config
            .endpoints()
            .iter()
            .map(|endpoint| Member::new(endpoint, &config))
            .collect::<Result<Vec<_>, _>>()?;
        if config.tls().is_none()
            && let Some(remote) = config.endpoints().iter().find(|e| !e.is_local())
        {
            tracing::warn!(address = %remote, "the connection to the coordinator is not encrypted: use etcds://");
        }
        let on_network = config
            .endpoints()
            .iter()
            .any(|e| matches!(e, Endpoint::Tcp(..)));
        let hint = match config.tls().map(Tls::has_identity) {
            None => on_network.then_some("if it speaks TLS, write etcds://"),
            Some(false) => {
                Some("if it wants a client certificate, give one in the parameters cert and key")
            }
            Some(true) => Some("check that it accepts the certificate in the parameter cert"),
        };
        Ok(Arc::new(Transport {
            members,
            connect_timeout: config.connect_timeout(),
            request_timeout: config.request_timeout(),
            dialer: config.dialer().cloned(),
            server_uid: config.server_uid(),
            credentials: config.credentials().cloned(),
            hint,
            state: Mutex::new(State {
                member: 0,
                link: Link::Down,
                failing: None,
                passed: 0,
                slowest: Duration::ZERO,
            }),
            generation: watch::Sender::new(0),
        }))
    }

    /// How long an answer is waited for now. A member that stands still must not cost a whole
    /// request timeout while the others of its cluster would answer, and those let requests lie that
    /// they are asked before an election. So for a while the wait is short, but never so short that
    /// a cluster that is merely slow is taken for dead.
    pub(crate) fn limit(&self) -> Duration {
        if !self.is_in_haste() {
            return self.request_timeout;
        }
        let slowest = self.state().slowest;
        (self.request_timeout / HASTE)
            .max(SLACK * slowest)
            .min(self.request_timeout)
    }

    /// The same for a connection and the check of a password, which take several round trips.
    fn connect_limit(&self) -> Duration {
        match self.is_in_haste() {
            true => self.connect_timeout / 2,
            false => self.connect_timeout,
        }
    }

    fn is_in_haste(&self) -> bool {
        let failing = self.state().failing;
        let for_long = failing.is_some_and(|since| since.elapsed() > self.request_timeout * 3 / 2);
        self.members.len() > 1 && !for_long
    }

    /// Takes note of an answer that took so long.
    fn answered(&self, took: Duration) {
        let mut state = self.state();
        state.failing = None;
        state.passed = 0;
        state.slowest = took.max(state.slowest - state.slowest / 64);
    }

    /// Resolves when this connection is given up. *Cancel safe.*
    pub(crate) fn given_up(&self, connection: &Connection) -> impl Future<Output = ()> + use<> {
        let mut generation = self.generation.subscribe();
        let ours = connection.generation;
        async move {
            // An error means that the transport is gone.
            let _ = generation.wait_for(|now| *now != ours).await;
        }
    }

    /// Whether a connection is the one that requests go over now.
    pub(crate) fn is_in_use(&self, connection: &Connection) -> bool {
        *self.generation.borrow() == connection.generation
    }

    /// Whether the connections have tokens, which can lapse.
    pub(crate) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// The present connection, or a new one to the member whose turn it is. One try.
    pub(crate) async fn connection(self: &Arc<Self>) -> Result<Connection, Error> {
        let dial = {
            let mut state = self.state();
            match &state.link {
                Link::Up(connection) => return Ok(connection.clone()),
                Link::Dialing(dial) => dial.clone(),
                Link::Refused(since, error) if since.elapsed() < REFUSAL => {
                    return Err(error.clone());
                }
                Link::Down | Link::Refused(..) => {
                    let task = background::handle()?.spawn(self.clone().dial(state.member));
                    let dial = task
                        .map(|outcome| {
                            outcome.unwrap_or_else(|died| {
                                let text = "connecting to the coordinator ended abnormally: please report this";
                                Err(Error::new(ErrorKind::Internal, text).with_source(died))
                            })
                        })
                        .boxed()
                        .shared();
                    state.link = Link::Dialing(dial.clone());
                    dial
                }
            }
        };
        dial.await
    }

    /// Connects to this member, or to the first one after it that has no fault of its own, such as
    /// an expired certificate, that no retry mends.
    async fn dial(self: Arc<Self>, member: usize) -> Result<Connection, Error> {
        let count = self.members.len();
        let mut tried = 0;
        let (member, outcome) = loop {
            let member = (member + tried) % count;
            tried += 1;
            match self.reach(member).await {
                Err(Failure { error, scope })
                    if tried < count && scope == Scope::Connection && !error.is_retryable() =>
                {
                    tracing::warn!(%error, "a member of the cluster is passed over");
                }
                outcome => break (member, outcome),
            }
        };
        let mut state = self.state();
        state.member = member;
        match outcome {
            Ok(client) => {
                let connection = Connection {
                    client: Arc::new(client),
                    address: self.members[member].address.clone(),
                    generation: *self.generation.borrow(),
                    heard: Arc::new(AtomicBool::new(self.credentials.is_some())),
                    relayed: Arc::default(),
                };
                if self.credentials.is_some() {
                    keep_fresh(&connection.client, self.request_timeout);
                }
                state.link = Link::Up(connection.clone());
                Ok(connection)
            }
            Err(Failure { error, scope }) => {
                tracing::debug!(%error, "not connected");
                self.next(&mut state);
                if scope == Scope::Request && error.kind() == ErrorKind::Refused {
                    state.link = Link::Refused(Instant::now(), error.clone());
                }
                Err(error)
            }
        }
    }

    async fn reach(&self, member: usize) -> Result<Client, Failure> {
        let Member { address, target } = self.members[member].clone();
        let channel = match target {
            Target::Tcp(endpoint) => {
                let limit = self.connect_limit();
                let mut tcp = HttpConnector::new();
                tcp.enforce_http(false);
                tcp.set_nodelay(true);
                tcp.set_connect_timeout(Some(limit));
                let tcp = tcp.map_response(|stream| batched(stream.into_inner()));
                endpoint.connect_with_connector(tcp).await
            }
            Target::Unix(endpoint, path) => {
                let dialer = self.dialer.clone();
                let (timeout, server_uid) = (self.connect_timeout, self.server_uid);
                // A connection that broke is not repaired behind our back: its repair would count
                // against some request's time.
                let mut first = true;
                introduced(endpoint)
                    .connect_with_connector(service_fn(move |_| {
                        let (path, dialer) = (path.clone(), dialer.clone());
                        let dialed = std::mem::take(&mut first);
                        async move {
                            if !dialed {
                                return Err(io::Error::from(io::ErrorKind::NotConnected));
                            }
                            let stream = socket(&path, timeout, dialer).await?;
                            require_trusted_server(&path, &stream, server_uid)?;
                            Ok(batched(stream))
                        }
                    }))
                    .await
            }
        };
        match channel {
            Ok(channel) => self.client(&address, channel).await,
            Err(error) => Err(Failure {
                error: error::no_connection(&address, error),
                scope: Scope::Connection,
            }),
        }
    }

    /// A client with a token, if we have credentials.
    async fn client(&self, address: &str, channel: transport::Channel) -> Result<Client, Failure> {
        // A member that is cut off from the others says so instead of waiting for them.
        let mut options = ConnectOptions::new().with_require_leader(true);
        if let Some(Credentials { user, password }) = &self.credentials {
            options = options.with_user(user, password.expose());
        }
        let client = Client::from_channel(Channel::Tonic(channel), Some(options));
        let limit = self.connect_limit();
        let failure = match tokio::time::timeout(limit, client).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(error)) => error::failure(address, error),
            Err(_) => error::silence(address, limit),
        };
        Err(self.hinted(failure, false))
    }

    fn hinted(&self, failure: Failure, heard: bool) -> Failure {
        let Failure { error, scope } = failure;
        let error = match self.hint {
            Some(hint)
                if !heard
                    && scope == Scope::Connection
                    && error.kind() == ErrorKind::Unreachable =>
            {
                error::at_first_contact(error, hint)
            }
            _ => error,
        };
        Failure { error, scope }
    }

    /// One attempt of a request: on the present connection, with a deadline of its own. Not even
    /// sent on a connection that had broken before, or turned away for a token that had lapsed:
    /// then on a new one.
    pub(crate) async fn call<T, F, Fut>(self: &Arc<Self>, request: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(Arc<Client>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let transport = self.clone();
        background::finish(async move {
            let mut again = true;
            loop {
                let connection = match transport.connection().await {
                    Ok(connection) => connection,
                    Err(error) => return Err(transport.explain(error)),
                };
                let answer = request(connection.client.clone());
                let (sent, limit) = (Instant::now(), transport.limit());
                let failure = match tokio::time::timeout(limit, answer).await {
                    Ok(Ok(answer)) => {
                        connection.heard.store(true, Ordering::Relaxed);
                        transport.answered(sent.elapsed());
                        return Ok(answer);
                    }
                    Ok(Err(error)) => error::failure(&connection.address, error),
                    Err(_) => error::silence(&connection.address, limit),
                };
                let heard = connection.heard.load(Ordering::Relaxed);
                let failure = transport.hinted(failure, heard);
                transport.failed(&connection, failure.scope);
                let elsewhere = match failure.scope {
                    Scope::NeverSent => true,
                    Scope::Token => transport.has_credentials(),
                    Scope::Request | Scope::Member | Scope::Connection => false,
                };
                if elsewhere && std::mem::take(&mut again) {
                    continue;
                }
                return Err(transport.explain(failure.error));
            }
        })
        .await
    }

    /// One attempt of a transaction, which `make` gives each time that it is sent.
    pub(crate) async fn txn(
        self: &Arc<Self>,
        make: impl Fn() -> Txn + Send + 'static,
    ) -> Result<TxnResponse, Error> {
        self.call(move |client| {
            let txn = make();
            let mut kv = client
                .kv_client()
                .max_decoding_message_size(MAX_ANSWER_BYTES);
            async move { kv.txn(txn).await }
        })
        .await
    }

    /// Takes note of what a failure says about a connection.
    pub(crate) fn failed(&self, connection: &Connection, scope: Scope) {
        let alone = self.members.len() == 1;
        let mut state = self.state();
        if !self.is_in_use(connection) {
            return;
        }
        match scope {
            Scope::Request => {}
            Scope::Member if alone => {}
            // An idle connection that broke says little about the member: it may be up again.
            Scope::NeverSent => self.hang_up(&mut state),
            // A new connection is made with a new token.
            Scope::Token => self.hang_up(&mut state),
            Scope::Member | Scope::Connection => self.next(&mut state),
        }
    }

    fn next(&self, state: &mut State) {
        state.member = (state.member + 1) % self.members.len();
        state.failing.get_or_insert_with(Instant::now);
        state.passed = state.passed.saturating_add(1);
        self.hang_up(state);
    }

    fn hang_up(&self, state: &mut State) {
        self.generation.send_modify(|generation| *generation += 1);
        state.link = Link::Down;
    }

    /// Adds the addresses of all members to the error of the last one, once each of them has failed.
    fn explain(&self, last: Error) -> Error {
        let count = self.members.len();
        if count == 1 || !last.is_retryable() || self.state().passed < count {
            return last;
        }
        let addresses: Vec<&str> = self.members.iter().map(|m| &*m.address).collect();
        let text = format!(
            "no member of the cluster at {} could serve us; the last error was: {last}",
            addresses.join(", ")
        );
        let effect = last.effect();
        Error::new(last.kind(), text)
            .with_effect(effect)
            .with_source(last)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// What an error on a stream over this connection means.
    pub(crate) fn failure(&self, error: etcd_client::Error) -> Failure {
        error::failure(&self.address, error)
    }
}

impl Member {
    fn new(endpoint: &Endpoint, config: &Config) -> Result<Self, Error> {
        let address = endpoint.to_string();
        let uri = match endpoint {
            Endpoint::Tcp(..) if config.tls().is_some() => format!("https://{address}"),
            Endpoint::Tcp(..) => format!("http://{address}"),
            // Only the authority header comes of it.
            Endpoint::Unix(_) => "http://localhost".to_owned(),
        };
        let mut channel = transport::Endpoint::from_shared(uri)
            .map_err(|error| {
                let text = format!("the coordinator's address {address:?} is not valid");
                Error::new(ErrorKind::Configuration, text).with_source(error)
            })?
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(false);
        if let Some(tls) = config.tls() {
            channel = tls.apply(channel, config.connect_timeout())?;
        }
        let target = match endpoint {
            Endpoint::Tcp(..) => Target::Tcp(channel),
            Endpoint::Unix(path) => Target::Unix(channel, path.as_path().into()),
        };
        Ok(Member {
            address: address.into(),
            target,
        })
    }
}

/// Asks for a new token before the present one can lapse, for as long as the connection is in use.
/// When that fails, the next request that is turned away tells.
fn keep_fresh(client: &Arc<Client>, limit: Duration) {
    let client = Arc::downgrade(client);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(TOKEN_REFRESH).await;
            let Some(client) = client.upgrade() else {
                return;
            };
            match tokio::time::timeout(limit, client.refresh_token()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "no new token"),
                Err(_) => tracing::debug!(?limit, "no new token in time"),
            }
        }
    });
}

fn batched<T: AsyncWrite>(connection: T) -> TokioIo<Batched<T>> {
    TokioIo::new(Batched::new(connection))
}

/// Has each request say which process it comes from: a coordinator on the same machine can then see
/// later that this one is dead. It believes that only if the kernel says so of the socket, too.
fn introduced(endpoint: transport::Endpoint) -> transport::Endpoint {
    let Some(name) = ProcessName::ours() else {
        return endpoint;
    };
    let said = format!("turnlock/{} {name}", env!("CARGO_PKG_VERSION"));
    endpoint.clone().user_agent(said).unwrap_or(endpoint)
}

async fn socket(
    path: &std::path::Path,
    timeout: Duration,
    dialer: Option<Dialer>,
) -> io::Result<UnixStream> {
    let refused = match tokio::time::timeout(timeout, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => return Ok(stream),
        // Who may open it does not change while we wait.
        Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            let error = Error::new(
                ErrorKind::Refused,
                format!(
                    "this user may not open the coordinator's socket {}: its group may, if it has one",
                    path.display()
                ),
            )
            .with_source(error);
            return Err(io::Error::other(error));
        }
        Ok(Err(error)) => error,
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    match dialer {
        Some(dialer) => tokio::time::timeout(DIALER_TIMEOUT, dialer())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        None => Err(refused),
    }
}

/// Refuses a socket that another user serves: in a folder that he can write, anybody could answer.
fn require_trusted_server(
    path: &std::path::Path,
    stream: &UnixStream,
    allowed: Option<u32>,
) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let us = rustix::process::geteuid().as_raw();
    if uid == us || uid == 0 || Some(uid) == allowed {
        return Ok(());
    }
    let error = Error::new(
        ErrorKind::Configuration,
        format!(
            "the socket {} is served by user {uid}, who is neither root nor us (user {us}): if that is right, add server_uid={uid} to the URL",
            path.display()
        ),
    );
    Err(io::Error::other(error))
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<&str> = self.members.iter().map(|m| &*m.address).collect();
        f.debug_struct("Transport")
            .field("members", &addresses)
            .finish_non_exhaustive()
    }
}

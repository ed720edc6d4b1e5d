//! Connections to a cluster: one at a time, to one member, and to the next one when it fails.

mod connector;
mod executor;
mod pace;

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backend_kit::continuity::{Continuity, SentWrite};
use etcd_client::{Client, ResponseHeader, Txn, TxnResponse};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use lock_core::{Error, ErrorKind, background};
use tokio::sync::{OnceCell, watch};
use tokio::time::Instant;

use self::connector::{Member, MemberConnector, refresh_tokens};
use self::pace::Pace;
use crate::config::Config;
use crate::error::{self, Failure, Scope};

/// How long credentials that the server refused are not sent again. To check a password costs the
/// server a lot of work each time.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);
/// The longest answer to a transaction that is accepted. It may hold the answers of many
/// transactions, and each may list many entries.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// The way to a cluster. It keeps to one member while that answers.
pub(crate) struct Transport {
    members: Vec<Member>,
    connector: MemberConnector,
    request_timeout: Duration,
    state: Mutex<State>,
    /// What was seen of the store, over all connections.
    pub(crate) continuity: Continuity,
    /// The number of the present connection. A failure of an earlier one says nothing about it.
    generation: watch::Sender<u64>,
    /// Whether somebody waits for the next answer, so that others cost no more than to read this.
    is_answer_awaited: AtomicBool,
    answer: watch::Sender<()>,
}

struct State {
    /// The index of the member in use.
    member: usize,
    link: Link,
    pace: Pace,
}

type Dial = Shared<BoxFuture<'static, Result<Connection, Error>>>;

enum Link {
    Down,
    /// All who need a connection wait for the same one.
    Dialing(Dial),
    Up(Connection),
    /// The server refused our credentials, at this time and with this error.
    Refused(Instant, Error),
}

/// A connection to one member.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) client: Arc<Client>,
    pub(crate) address: Arc<str>,
    generation: u64,
    /// Whether the server has answered on it.
    has_answered: Arc<AtomicBool>,
    /// Whether it leads to a proxy. Not known until that was checked.
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
        let addresses: Vec<&str> = members.iter().map(|m| &*m.address).collect();
        let continuity =
            Continuity::new(format!("the store at {}", addresses.join(", ")), "revision");
        let pace = Pace::new(
            config.connect_timeout(),
            config.request_timeout(),
            members.len() > 1,
        );
        Ok(Arc::new(Transport {
            members,
            connector: MemberConnector::new(&config),
            request_timeout: config.request_timeout(),
            state: Mutex::new(State {
                member: 0,
                link: Link::Down,
                pace,
            }),
            continuity,
            generation: watch::Sender::new(0),
            is_answer_awaited: AtomicBool::new(false),
            answer: watch::Sender::default(),
        }))
    }

    /// Returns how long to wait for an answer now.
    pub(crate) fn request_limit(&self) -> Duration {
        self.state().pace.request_limit()
    }

    /// Waits until this connection is no longer the one in use.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) fn wait_until_replaced(
        &self,
        connection: &Connection,
    ) -> impl Future<Output = ()> + use<> {
        let mut generation = self.generation.subscribe();
        let own = connection.generation;
        async move {
            // An error means that the transport is gone.
            let _ = generation.wait_for(|now| *now != own).await;
        }
    }

    /// Notes that the coordinator has answered a request.
    pub(crate) fn note_answer(&self) {
        // An answer that comes at the same time as the wait begins may be missed. Another follows.
        if self.is_answer_awaited.load(Ordering::Relaxed)
            && self.is_answer_awaited.swap(false, Ordering::Relaxed)
        {
            self.answer.send_replace(());
        }
    }

    /// Waits until the coordinator answers a request. For one caller at a time.
    pub(crate) async fn wait_for_answer(&self) {
        let mut answer = self.answer.subscribe();
        self.is_answer_awaited.store(true, Ordering::Relaxed);
        // The sender lives as long as this.
        let _ = answer.changed().await;
    }

    /// Whether requests go over this connection now.
    pub(crate) fn is_in_use(&self, connection: &Connection) -> bool {
        *self.generation.borrow() == connection.generation
    }

    /// Whether the connections have tokens, which can get out of date.
    pub(crate) fn has_credentials(&self) -> bool {
        self.connector.has_credentials()
    }

    /// Returns the present connection, or makes a new one to the member in use. One try.
    pub(crate) async fn connection(self: &Arc<Self>) -> Result<Connection, Error> {
        let dial = {
            let mut state = self.state();
            match &state.link {
                Link::Up(connection) => return Ok(connection.clone()),
                Link::Dialing(dial) => dial.clone(),
                Link::Refused(since, error) if since.elapsed() < REFUSAL_PAUSE => {
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

    /// Connects to this member. If it has a fault of its own that no retry mends, such as an expired
    /// certificate, connects to the first one after it without such a fault.
    async fn dial(self: Arc<Self>, member: usize) -> Result<Connection, Error> {
        let count = self.members.len();
        let mut tried = 0;
        let (member, outcome) = loop {
            let member = (member + tried) % count;
            tried += 1;
            let limit = self.state().pace.connect_limit();
            match self.connector.connect(&self.members[member], limit).await {
                Err(Failure { error, scope })
                    if tried < count && scope == Scope::Connection && !error.is_retryable() =>
                {
                    tracing::warn!(%error, "a member of the cluster is skipped");
                }
                outcome => break (member, outcome),
            }
        };
        let mut state = self.state();
        state.member = member;
        match outcome {
            Ok(client) => {
                // With credentials, the server has answered by giving a token.
                let has_token = self.has_credentials();
                let connection = Connection {
                    client: Arc::new(client),
                    address: self.members[member].address.clone(),
                    generation: *self.generation.borrow(),
                    has_answered: Arc::new(AtomicBool::new(has_token)),
                    relayed: Arc::default(),
                };
                if has_token {
                    refresh_tokens(&connection.client, self.request_timeout);
                }
                state.link = Link::Up(connection.clone());
                Ok(connection)
            }
            Err(Failure { error, scope }) => {
                tracing::debug!(%error, "no connection to a member of the cluster");
                self.select_next(&mut state);
                if scope == Scope::Request && error.kind() == ErrorKind::Refused {
                    state.link = Link::Refused(Instant::now(), error.clone());
                }
                Err(error)
            }
        }
    }

    /// Makes one attempt of a request, with a time limit of its own, on the present connection.
    ///
    /// Two failures do not count as an attempt, once: the connection had broken before, so that the
    /// request was not even sent, and the server refused it because the token was out of date. Then
    /// the request is sent on a new connection. A token that is out of date once more, since the
    /// permissions have changed again, is left to the retries of the caller.
    pub(crate) async fn call<T, F, Fut>(self: &Arc<Self>, request: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(Arc<Client>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let transport = self.clone();
        background::finish(async move {
            let mut may_repeat = true;
            loop {
                let connection = match transport.connection().await {
                    Ok(connection) => connection,
                    Err(error) => return Err(transport.explain(error)),
                };
                let answer = request(connection.client.clone());
                let (sent, limit) = (Instant::now(), transport.request_limit());
                let failure = match tokio::time::timeout(limit, answer).await {
                    Ok(Ok(answer)) => {
                        connection.has_answered.store(true, Ordering::Relaxed);
                        transport.state().pace.note_answer(sent.elapsed());
                        transport.note_answer();
                        return Ok(answer);
                    }
                    Ok(Err(error)) => connection.failure(error),
                    Err(_) => error::timeout(&connection.address, limit),
                };
                let failure = match connection.has_answered.load(Ordering::Relaxed) {
                    true => failure,
                    false => transport.connector.add_hint(failure),
                };
                transport.note_failure(&connection, failure.scope);
                let was_not_executed = match failure.scope {
                    Scope::NeverSent => true,
                    Scope::Token => transport.has_credentials(),
                    Scope::Request | Scope::Member | Scope::Connection => false,
                };
                if was_not_executed && std::mem::take(&mut may_repeat) {
                    continue;
                }
                let error = match failure.scope {
                    Scope::Token if transport.has_credentials() => {
                        error::stale_token(failure.error)
                    }
                    _ => failure.error,
                };
                return Err(transport.explain(error));
            }
        })
        .await
    }

    /// Makes one attempt of a transaction. `make` returns the transaction each time that it is sent.
    /// One that writes is for [`write`](Transport::write).
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

    /// Makes one attempt of a transaction that writes, at least in one of its branches. The cluster
    /// orders it with all writes, whichever branch it takes.
    pub(crate) async fn write(
        self: &Arc<Self>,
        make: impl Fn() -> Txn + Send + 'static,
    ) -> Result<TxnResponse, Error> {
        let sent = self.continuity.begin_write();
        let answer = self.txn(make).await?;
        self.end_write(sent, answer.header());
        Ok(answer)
    }

    /// Ends a write that was answered with this header. Returns the era of the answer.
    pub(crate) fn end_write(&self, sent: SentWrite, header: Option<&ResponseHeader>) -> u64 {
        let (cluster, revision) =
            header.map_or((0, 0), |header| (header.cluster_id(), header.revision()));
        let revision = u64::try_from(revision).unwrap_or_default();
        self.continuity.end_write(sent, cluster, revision)
    }

    /// Notes what a failure says about a connection, and gives the connection up if it is broken.
    pub(crate) fn note_failure(&self, connection: &Connection, scope: Scope) {
        let is_only = self.members.len() == 1;
        let mut state = self.state();
        if !self.is_in_use(connection) {
            return;
        }
        match scope {
            Scope::Request => {}
            Scope::Member if is_only => {}
            // An idle connection that broke says little about the member. It may be up again.
            Scope::NeverSent => self.hang_up(&mut state),
            // A new connection is made with a new token.
            Scope::Token => self.hang_up(&mut state),
            Scope::Member | Scope::Connection => self.select_next(&mut state),
        }
    }

    fn select_next(&self, state: &mut State) {
        state.member = (state.member + 1) % self.members.len();
        state.pace.note_failure();
        self.hang_up(state);
    }

    fn hang_up(&self, state: &mut State) {
        self.generation.send_modify(|generation| *generation += 1);
        state.link = Link::Down;
    }

    /// Adds the addresses of all members to the error of the last one, once each of them has failed.
    fn explain(&self, last: Error) -> Error {
        let count = self.members.len();
        if count == 1 || !last.is_retryable() || self.state().pace.failures() < count {
            return last;
        }
        let addresses: Vec<&str> = self.members.iter().map(|m| &*m.address).collect();
        let text = format!(
            "no member of the cluster at {} could serve the request; the last error was: {last}",
            addresses.join(", ")
        );
        let effect = last.effect();
        Error::new(last.kind(), text)
            .with_effect(effect)
            .with_source(last)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Returns what an error of a request or a stream over this connection means.
    pub(crate) fn failure(&self, error: etcd_client::Error) -> Failure {
        error::from_client(&self.address, error)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<&str> = self.members.iter().map(|m| &*m.address).collect();
        f.debug_struct("Transport")
            .field("members", &addresses)
            .finish_non_exhaustive()
    }
}

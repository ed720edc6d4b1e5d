//! The task behind all watches of a backend: keeps the stream, and whoever watches the same key
//! shares one watch of the server's.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    WatchFilterType, WatchOptions, WatchRequestSender, WatchResponse, WatchResponseStream,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lock_core::Error;
use lock_core::ErrorKind;
use smallvec::{SmallVec, smallvec};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::creations::{Creation, Creations};
use crate::error::{self, Failure, Scope};
use crate::transport::{Connection, Transport};

/// When a stream with watches on it was silent for so long, it is asked for a sign of life: a
/// member that stands still says nothing of it.
const QUIET: Duration = Duration::from_secs(1);
/// How long to wait for that sign at most.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a stream without watches stays open for the next one.
const IDLE: Duration = Duration::from_secs(10);
/// How long a watch that nobody needs stays for the next one on its key.
const LINGER: Duration = Duration::from_secs(1);
/// How many watches may stay so.
const LINGERING: usize = 1000;

type Key = Arc<[u8]>;

/// What a watcher is told.
#[derive(Debug)]
pub(super) enum Command {
    Add {
        key: Arc<[u8]>,
        waiting: Waiting,
        /// To be told, once the server has confirmed the watch, after which revision it sees every
        /// deletion. Dropped, if it has seen one before.
        created: oneshot::Sender<i64>,
    },
    Remove {
        key: Arc<[u8]>,
        serial: u64,
    },
}

/// Somebody who waits for a deletion of a key.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) serial: u64,
    /// After this revision.
    pub(super) after: i64,
    pub(super) gone: oneshot::Sender<Deletion>,
}

/// At which revision the key was deleted; or why the watch sees nothing any more.
pub(super) type Deletion = Result<i64, Arc<Error>>;

pub(super) struct Watcher {
    transport: Arc<Transport>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// In boxes: a table is up to half empty, and while it grows there are two.
    keys: HashMap<Key, Box<Watched>>,
    stream: Option<Stream>,
    creations: u64,
    /// Keys that nobody needed watched any more from an instant on, longest first. Some may be needed
    /// again.
    lingering: VecDeque<(Instant, Key)>,
}

/// A key under watch. A process that holds very many locks has one of these for each.
struct Watched {
    progress: Progress,
    /// The last deletion that was seen.
    deleted: i64,
    watchers: SmallVec<[Waiting; 1]>,
    /// How many times its last watcher left and it was put into `lingering`, where it still is.
    lingers: u32,
}

/// How far the server's watch has come.
enum Progress {
    /// It is not confirmed.
    Creating {
        /// Which creation is ours: the same key may have been watched and dropped before.
        creation: u64,
        told: Vec<oneshot::Sender<i64>>,
    },
    Confirmed {
        /// The server's name for the watch.
        id: i64,
        /// Deletions after this revision are seen.
        since: i64,
    },
}

struct Stream {
    connection: Connection,
    requests: WatchRequestSender,
    responses: WatchResponseStream,
    creating: Creations,
    keys: HashMap<i64, Key>,
    given_up: BoxFuture<'static, ()>,
    heard: Instant,
    /// Since when an answer is due, and how long it is waited for.
    due: Option<(Instant, Duration)>,
}

/// What the watcher wakes up for.
enum Wake {
    Command(Option<Command>),
    Response(Result<Option<WatchResponse>, etcd_client::Error>),
    /// The connection of the stream was given up, for what befell somebody else's request on it.
    GivenUp,
    Timer,
}

impl Watched {
    fn is_of(&self, this: u64) -> bool {
        matches!(self.progress, Progress::Creating { creation, .. } if creation == this)
    }
}

impl Watcher {
    pub(super) fn new(
        transport: Arc<Transport>,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        Watcher {
            transport,
            commands,
            keys: HashMap::new(),
            stream: None,
            creations: 0,
            lingering: VecDeque::new(),
        }
    }

    /// Runs until the backend and all watches are gone.
    pub(super) async fn run(mut self) {
        loop {
            let timer = self.timer();
            let response = async {
                match &mut self.stream {
                    Some(stream) => tokio::select! {
                        response = stream.responses.message() => Wake::Response(response),
                        () = &mut stream.given_up => Wake::GivenUp,
                    },
                    None => pending().await,
                }
            };
            let wake = tokio::select! {
                command = self.commands.recv() => Wake::Command(command),
                wake = response => wake,
                () = timer => Wake::Timer,
            };
            let outcome = match wake {
                Wake::Command(None) => return,
                Wake::Command(Some(Command::Add {
                    key,
                    waiting,
                    created,
                })) => self.add(key, waiting, created).await,
                Wake::Command(Some(Command::Remove { key, serial })) => {
                    self.remove(serial, &key).await
                }
                Wake::Response(response) => self.respond(response).await,
                Wake::GivenUp => self.given_up(),
                Wake::Timer => self.tick().await,
            };
            if let Err(failure) = outcome {
                self.fail(failure);
            }
        }
    }

    fn timer(&self) -> impl Future<Output = ()> + use<> {
        let at = self.stream.as_ref().map(|stream| match stream.due {
            Some((since, limit)) => since + limit,
            None if self.keys.is_empty() => stream.heard + IDLE,
            None => stream.heard + QUIET,
        });
        let lingered = self.lingering.front().map(|(since, _)| *since + LINGER);
        let at = at.into_iter().chain(lingered).min();
        async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => pending().await,
            }
        }
    }

    async fn add(
        &mut self,
        key: Key,
        waiting: Waiting,
        created: oneshot::Sender<i64>,
    ) -> Result<(), Failure> {
        if let Some(watched) = self.keys.get_mut(&key) {
            if watched.deleted > waiting.after {
                let _ = waiting.gone.send(Ok(watched.deleted));
                return Ok(());
            }
            match &mut watched.progress {
                Progress::Creating { told, .. } => told.push(created),
                Progress::Confirmed { since, .. } => _ = created.send(*since),
            }
            watched.watchers.push(waiting);
            return Ok(());
        }
        self.creations += 1;
        let creation = self.creations;
        self.keys.insert(
            key.clone(),
            Box::new(Watched {
                progress: Progress::Creating {
                    creation,
                    told: vec![created],
                },
                deleted: 0,
                watchers: smallvec![waiting],
                lingers: 0,
            }),
        );
        self.create(creation, key).await
    }

    /// Asks for a watch.
    async fn create(&mut self, serial: u64, key: Key) -> Result<(), Failure> {
        let limit = self.transport.limit();
        match &mut self.stream {
            Some(stream) => {
                let Stream {
                    requests,
                    connection,
                    creating,
                    ..
                } = stream;
                let asked = requests.watch(&*key, Some(options(creating.next_id())));
                sent(connection, limit, asked).await?;
                stream.due.get_or_insert((Instant::now(), limit));
                stream.creating.push(Creation { serial, key });
            }
            None => self.open(serial, key).await?,
        }
        Ok(())
    }

    /// Opens the stream with its first watch.
    async fn open(&mut self, serial: u64, key: Key) -> Result<(), Failure> {
        let limit = self.transport.limit();
        let connection = self.transport.connection().await.map_err(|error| Failure {
            error,
            scope: Scope::Request,
        })?;
        let mut client = connection.client.watch_client();
        let opened = timeout(limit, client.watch(&*key, Some(options(0))))
            .await
            .map_err(|_| error::silence(&connection.address, limit))
            .and_then(|opened| opened.map_err(|e| connection.failure(e)));
        let opened = match opened {
            Ok(opened) => opened,
            Err(failure) => {
                self.transport.failed(&connection, failure.scope);
                return Err(failure);
            }
        };
        let (requests, responses) = opened.split();
        let now = Instant::now();
        let mut stream = Stream {
            given_up: self.transport.given_up(&connection).boxed(),
            connection,
            requests,
            responses,
            creating: Creations::default(),
            keys: HashMap::new(),
            heard: now,
            due: Some((now, limit)),
        };
        stream.creating.push(Creation { serial, key });
        self.stream = Some(stream);
        Ok(())
    }

    async fn remove(&mut self, serial: u64, key: &Key) -> Result<(), Failure> {
        let Some(watched) = self.keys.get_mut(key) else {
            return Ok(());
        };
        watched.watchers.retain(|waiting| waiting.serial != serial);
        if watched.watchers.is_empty() {
            watched.lingers += 1;
            self.lingering.push_back((Instant::now(), key.clone()));
        }
        while self.lingering.len() > LINGERING {
            self.end_lingering().await?;
        }
        Ok(())
    }

    /// Cancels the watch that has stayed unneeded for longest, if it still is.
    async fn end_lingering(&mut self) -> Result<(), Failure> {
        let Some((_, key)) = self.lingering.pop_front() else {
            return Ok(());
        };
        let Some(watched) = self.keys.get_mut(&key) else {
            return Ok(());
        };
        watched.lingers = watched.lingers.saturating_sub(1);
        if watched.lingers > 0 || !watched.watchers.is_empty() {
            return Ok(());
        }
        match self.keys.remove(&key).map(|watched| watched.progress) {
            Some(Progress::Confirmed { id, .. }) => self.cancel(id).await,
            // It is cancelled when it is confirmed.
            Some(Progress::Creating { .. }) | None => Ok(()),
        }
    }

    async fn cancel(&mut self, id: i64) -> Result<(), Failure> {
        let limit = self.transport.limit();
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        stream.keys.remove(&id);
        sent(&stream.connection, limit, stream.requests.cancel(id)).await
    }

    async fn respond(
        &mut self,
        response: Result<Option<WatchResponse>, etcd_client::Error>,
    ) -> Result<(), Failure> {
        let limit = self.transport.limit();
        let authenticated = self.transport.has_credentials();
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let response = response
            .map_err(|e| stream.connection.failure(e))?
            .ok_or_else(|| error::ended(&stream.connection.address))?;
        // A stream keeps the token that it was opened with, and a server may have the same words
        // for one that lapsed as for a permission that there is not.
        if authenticated && response.canceled() && is_refusal(response.cancel_reason()) {
            return Err(Failure {
                error: refusal(response.cancel_reason()),
                scope: Scope::Token,
            });
        }
        let id = response.watch_id();
        stream.heard = Instant::now();
        let confirmed = match response.created() {
            true => stream.creating.confirmed(id),
            false => None,
        };
        stream.due = match stream.creating.is_empty() {
            true => None,
            false => Some((stream.heard, limit)),
        };
        if let Some(Creation { serial, key, .. }) = confirmed {
            let watched = self.keys.get_mut(&key).filter(|w| w.is_of(serial));
            match watched {
                Some(_) if response.canceled() => self.break_off(&key, cancelled(&response)),
                Some(watched) => {
                    let since = response.header().map_or(0, |header| header.revision());
                    let confirmed = Progress::Confirmed { id, since };
                    let before = std::mem::replace(&mut watched.progress, confirmed);
                    stream.keys.insert(id, key);
                    if let Progress::Creating { told, .. } = before {
                        for created in told {
                            let _ = created.send(since);
                        }
                    }
                }
                None if response.canceled() => {}
                None => self.cancel(id).await?,
            }
        } else if response.canceled() {
            if let Some(key) = stream.keys.remove(&id) {
                self.break_off(&key, cancelled(&response));
            }
        } else if let Some(deleted) = response
            .events()
            .iter()
            .filter_map(|e| e.kv())
            .map(|kv| kv.mod_revision())
            .max()
            && let Some(key) = stream.keys.get(&id).cloned()
        {
            self.deleted(&key, deleted);
        }
        Ok(())
    }

    fn given_up(&mut self) -> Result<(), Failure> {
        match &self.stream {
            Some(stream) => Err(error::ended(&stream.connection.address)),
            None => Ok(()),
        }
    }

    async fn tick(&mut self) -> Result<(), Failure> {
        while self
            .lingering
            .front()
            .is_some_and(|(since, _)| since.elapsed() >= LINGER)
        {
            self.end_lingering().await?;
        }
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        if let Some((since, limit)) = stream.due {
            if since.elapsed() < limit {
                return Ok(());
            }
            return Err(error::silence(&stream.connection.address, limit));
        }
        let quiet = stream.heard.elapsed();
        if self.keys.is_empty() {
            if quiet >= IDLE {
                self.stream = None;
            }
            return Ok(());
        }
        if quiet < QUIET {
            return Ok(());
        }
        // Not a request of progress, which etcd's proxy does not answer, and some versions of it die
        // of. A watch that belongs to nobody is ended when it is confirmed.
        let Some(key) = self.keys.keys().next().cloned() else {
            return Ok(());
        };
        let limit = self.transport.limit();
        stream.due = Some((Instant::now(), limit.min(PATIENCE)));
        self.creations += 1;
        self.create(self.creations, key).await
    }

    fn deleted(&mut self, key: &Key, revision: i64) {
        let Some(watched) = self.keys.get_mut(key) else {
            return;
        };
        watched.deleted = watched.deleted.max(revision);
        for waiting in std::mem::take(&mut watched.watchers) {
            match waiting.after < revision {
                true => _ = waiting.gone.send(Ok(revision)),
                false => watched.watchers.push(waiting),
            }
        }
    }

    fn break_off(&mut self, key: &Key, why: Error) {
        let why = Arc::new(why);
        let watchers = self.keys.remove(key).into_iter().flat_map(|w| w.watchers);
        for waiting in watchers {
            let _ = waiting.gone.send(Err(why.clone()));
        }
    }

    /// Gives the stream up, and all watches with it: those who watch look for themselves, and come
    /// again.
    fn fail(&mut self, failure: Failure) {
        let Failure { error, scope } = failure;
        tracing::debug!(%error, watches = self.keys.len(), "the watches are interrupted");
        if let Some(stream) = self.stream.take() {
            self.transport.failed(&stream.connection, scope);
        }
        let why = Arc::new(match scope {
            Scope::Token if self.transport.has_credentials() => error::token_lapsed(error),
            _ => error,
        });
        self.lingering.clear();
        for (_, watched) in self.keys.drain() {
            for waiting in watched.watchers {
                let _ = waiting.gone.send(Err(why.clone()));
            }
        }
    }
}

/// From now on, and only deletions. A watch that begins at a revision of the past waits for the
/// server's catch-up loop, which comes round ten times a second.
fn options(id: i64) -> WatchOptions {
    WatchOptions::new()
        .with_filters([WatchFilterType::NoPut])
        .with_watch_id(id)
}

async fn sent(
    connection: &Connection,
    limit: Duration,
    sending: impl Future<Output = Result<(), etcd_client::Error>>,
) -> Result<(), Failure> {
    match timeout(limit, sending).await {
        Ok(sent) => sent.map_err(|e| connection.failure(e)),
        Err(_) => Err(error::silence(&connection.address, limit)),
    }
}

/// The server ended a watch: for a compaction, for want of a leader or of a permission.
fn cancelled(response: &WatchResponse) -> Error {
    let reason = response.cancel_reason();
    match is_refusal(reason) {
        true => refusal(reason),
        false => told(ErrorKind::Exhausted, reason),
    }
}

fn is_refusal(reason: &str) -> bool {
    ["permission denied", "auth token", "auth store is old"]
        .iter()
        .any(|words| reason.contains(words))
}

fn refusal(reason: &str) -> Error {
    told(ErrorKind::Refused, reason)
}

fn told(kind: ErrorKind, reason: &str) -> Error {
    let text = format!("the coordinator cancelled a watch: it says {reason:?}");
    Error::new(kind, text)
}

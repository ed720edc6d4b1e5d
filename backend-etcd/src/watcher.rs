//! The task behind all watches of a backend: keeps the stream, and whoever watches the same key
//! shares one watch of the server's.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    WatchFilterType, WatchOptions, WatchRequestSender, WatchResponse, WatchResponseStream,
};
use lock_core::Error;
use lock_core::ErrorKind;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::error::{self, Failure, Scope};
use crate::transport::{Connection, Transport};
use crate::watch::{Command, Stage};

/// When a stream with watches on it was silent for so long, it is asked for a sign of life: a
/// member that stands still says nothing of it.
const QUIET: Duration = Duration::from_secs(1);
/// How long to wait for that sign.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a stream without watches stays open for the next one.
const IDLE: Duration = Duration::from_secs(10);

type Key = Arc<[u8]>;

pub(crate) struct Watcher {
    transport: Arc<Transport>,
    commands: mpsc::UnboundedReceiver<Command>,
    keys: HashMap<Key, Watched>,
    stream: Option<Stream>,
    creations: u64,
}

/// A key under watch.
struct Watched {
    /// Which creation is ours: the same key may have been watched and dropped before.
    creation: u64,
    /// The server's name for the watch, once it is confirmed.
    id: Option<i64>,
    watchers: Vec<(u64, watch::Sender<Stage>)>,
}

struct Stream {
    connection: Connection,
    requests: WatchRequestSender,
    responses: WatchResponseStream,
    /// Creations not yet confirmed: the server confirms them in the order of the requests.
    creating: VecDeque<(u64, Key)>,
    keys: HashMap<i64, Key>,
    heard: Instant,
    /// Since when an answer is due, and how long it is waited for.
    due: Option<(Instant, Duration)>,
}

/// What the watcher wakes up for.
enum Wake {
    Command(Option<Command>),
    Response(Result<Option<WatchResponse>, etcd_client::Error>),
    Timer,
}

impl Watcher {
    pub(crate) fn new(
        transport: Arc<Transport>,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        Watcher {
            transport,
            commands,
            keys: HashMap::new(),
            stream: None,
            creations: 0,
        }
    }

    /// Runs until the backend and all watches are gone.
    pub(crate) async fn run(mut self) {
        loop {
            let timer = self.timer();
            let response = async {
                match &mut self.stream {
                    Some(stream) => stream.responses.message().await,
                    None => pending().await,
                }
            };
            let wake = tokio::select! {
                command = self.commands.recv() => Wake::Command(command),
                response = response => Wake::Response(response),
                () = timer => Wake::Timer,
            };
            let outcome = match wake {
                Wake::Command(None) => return,
                Wake::Command(Some(Command::Add { serial, key, stage })) => {
                    self.add(serial, key, stage).await
                }
                Wake::Command(Some(Command::Remove { serial, key })) => {
                    self.remove(serial, &key).await
                }
                Wake::Response(response) => self.respond(response).await,
                Wake::Timer => self.tick().await,
            };
            if let Err(failure) = outcome {
                self.fail(failure);
            }
        }
    }

    fn timer(&self) -> impl Future<Output = ()> + use<> {
        let at = self.stream.as_ref().map(|stream| match stream.due {
            Some((since, patience)) => since + patience,
            None if self.keys.is_empty() => stream.heard + IDLE,
            None => stream.heard + QUIET,
        });
        async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => pending().await,
            }
        }
    }

    async fn add(
        &mut self,
        serial: u64,
        key: Key,
        stage: watch::Sender<Stage>,
    ) -> Result<(), Failure> {
        if let Some(watched) = self.keys.get_mut(&key) {
            if watched.id.is_some() {
                stage.send_replace(Stage::Watching);
            }
            watched.watchers.push((serial, stage));
            return Ok(());
        }
        self.creations += 1;
        let creation = self.creations;
        self.keys.insert(
            key.clone(),
            Watched {
                creation,
                id: None,
                watchers: vec![(serial, stage)],
            },
        );
        let limit = self.transport.request_timeout();
        match &mut self.stream {
            Some(stream) => {
                let Stream {
                    requests,
                    connection,
                    ..
                } = stream;
                sent(connection, limit, requests.watch(&*key, Some(options()))).await?;
                stream.due.get_or_insert((Instant::now(), limit));
                stream.creating.push_back((creation, key));
            }
            None => self.open(creation, key).await?,
        }
        Ok(())
    }

    /// Opens the stream with its first watch.
    async fn open(&mut self, creation: u64, key: Key) -> Result<(), Failure> {
        let limit = self.transport.request_timeout();
        let connection = self.transport.connection().await.map_err(|error| Failure {
            error,
            scope: Scope::Request,
        })?;
        let mut client = connection.client.watch_client();
        let opened = timeout(limit, client.watch(&*key, Some(options())))
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
        self.stream = Some(Stream {
            connection,
            requests,
            responses,
            creating: VecDeque::from([(creation, key)]),
            keys: HashMap::new(),
            heard: now,
            due: Some((now, limit)),
        });
        Ok(())
    }

    async fn remove(&mut self, serial: u64, key: &Key) -> Result<(), Failure> {
        let Some(watched) = self.keys.get_mut(key) else {
            return Ok(());
        };
        watched.watchers.retain(|(other, _)| *other != serial);
        if !watched.watchers.is_empty() {
            return Ok(());
        }
        let id = watched.id;
        self.keys.remove(key);
        // One that is not confirmed yet is cancelled when it is.
        match id {
            Some(id) => self.cancel(id).await,
            None => Ok(()),
        }
    }

    async fn cancel(&mut self, id: i64) -> Result<(), Failure> {
        let limit = self.transport.request_timeout();
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
        let limit = self.transport.request_timeout();
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
            true => stream.creating.pop_front(),
            false => None,
        };
        stream.due = match stream.creating.is_empty() {
            true => None,
            false => Some((stream.heard, limit)),
        };
        if let Some((creation, key)) = confirmed {
            let watched = self.keys.get_mut(&key).filter(|w| w.creation == creation);
            match watched {
                Some(_) if response.canceled() => self.finish(&key, cancelled(&response)),
                Some(watched) => {
                    watched.id = Some(id);
                    stream.keys.insert(id, key);
                    for (_, stage) in &watched.watchers {
                        stage.send_replace(Stage::Watching);
                    }
                }
                None if response.canceled() => {}
                None => self.cancel(id).await?,
            }
        } else if response.canceled() {
            if let Some(key) = stream.keys.remove(&id) {
                self.finish(&key, cancelled(&response));
            }
        } else if !response.events().is_empty()
            && let Some(key) = stream.keys.get(&id).cloned()
        {
            self.finish(&key, Stage::Gone);
            self.cancel(id).await?;
        }
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), Failure> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        if let Some((_, patience)) = stream.due {
            return Err(error::silence(&stream.connection.address, patience));
        }
        if self.keys.is_empty() {
            self.stream = None;
            return Ok(());
        }
        let limit = self.transport.request_timeout();
        stream.due = Some((Instant::now(), PATIENCE));
        sent(
            &stream.connection,
            limit,
            stream.requests.request_progress(),
        )
        .await
    }

    fn finish(&mut self, key: &Key, stage: Stage) {
        if let Some(watched) = self.keys.remove(key) {
            for (_, watcher) in watched.watchers {
                watcher.send_replace(stage.clone());
            }
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
        let stage = Stage::Broken(match scope {
            Scope::Token if self.transport.has_credentials() => error::token_lapsed(error),
            _ => error,
        });
        for (_, watched) in self.keys.drain() {
            for (_, watcher) in watched.watchers {
                watcher.send_replace(stage.clone());
            }
        }
    }
}

/// From now on, and only deletions. A watch that begins at a revision of the past waits for the
/// server's catch-up loop, which comes round ten times a second.
fn options() -> WatchOptions {
    WatchOptions::new().with_filters([WatchFilterType::NoPut])
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
fn cancelled(response: &WatchResponse) -> Stage {
    let reason = response.cancel_reason();
    Stage::Broken(if is_refusal(reason) {
        refusal(reason)
    } else {
        told(ErrorKind::Exhausted, reason)
    })
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

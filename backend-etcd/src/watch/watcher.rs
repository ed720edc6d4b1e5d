//! The task behind all watches of a backend. It keeps the stream, and lets all who watch the same
//! target share one watch of the server.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Event, EventType, KeyValue, WatchResponse};
use lock_core::{Error, ErrorKind};
use smallvec::{SmallVec, smallvec};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::creations::Creation;
use super::reopening::Reopening;
use super::stream::{self, Check, Message, Stream, Target};
use crate::error::{self, Failure, Scope};
use crate::transport::Transport;

/// How long a watch that nobody needs stays for the next one on its target.
const LINGER: Duration = Duration::from_secs(1);
/// The most watches that may stay so.
const MAX_LINGERING: usize = 1000;

/// A request to the watcher.
#[derive(Debug)]
pub(super) enum Command {
    Add {
        target: Target,
        waiting: Waiting,
        /// Receives the revision after which the watch sees every change, once the server has
        /// confirmed the watch. Dropped if the watch has ended before.
        confirmation: oneshot::Sender<i64>,
    },
    Remove {
        target: Target,
        serial: u64,
    },
}

/// A caller that waits for the change of a target.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) serial: u64,
    /// Only a change after this revision counts.
    pub(super) after: i64,
    pub(super) change: oneshot::Sender<Change>,
}

/// The revision at which a target was changed, or the error that ended its watch.
pub(super) type Change = Result<i64, Arc<Error>>;

pub(super) struct Watcher {
    transport: Arc<Transport>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// Boxed: a table is up to half empty, and there are two of them while it grows.
    targets: BTreeMap<Target, Box<Watched>>,
    stream: Option<Stream>,
    pub(super) reopening: Reopening,
    /// How many watches were asked for so far.
    created: u64,
    /// The targets whose last watcher left, and when it did, oldest first. Some may have a watcher
    /// again.
    lingering: VecDeque<(Instant, Target)>,
}

/// A target under watch. A process that holds very many locks has one of these for each.
struct Watched {
    progress: Progress,
    /// The revision of the last change that was seen.
    changed: i64,
    watchers: SmallVec<[Waiting; 1]>,
    /// How many times `lingering` has this target.
    lingers: u32,
}

/// Returns whether a key was made or deleted, and not only written again.
fn is_change(event: &Event) -> bool {
    let is_made = |kv: &KeyValue| kv.create_revision() == kv.mod_revision();
    event.event_type() == EventType::Delete || event.kv().is_some_and(is_made)
}

/// How far the server's watch has come.
enum Progress {
    /// The server has not confirmed it.
    Creating {
        /// The serial number of the creation. The same target may have been watched before.
        creation: u64,
        confirmations: Vec<oneshot::Sender<i64>>,
    },
    Confirmed {
        /// The server's id of the watch.
        id: i64,
        /// Changes after this revision are seen.
        since: i64,
    },
}

/// What the watcher wakes up for.
enum Wake {
    Command(Option<Command>),
    Message(Message),
    Timer,
}

impl Watched {
    fn is_created_by(&self, serial: u64) -> bool {
        matches!(self.progress, Progress::Creating { creation, .. } if creation == serial)
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
            targets: BTreeMap::new(),
            stream: None,
            reopening: Reopening::default(),
            created: 0,
            lingering: VecDeque::new(),
        }
    }

    /// Runs until the backend and all watches are gone.
    pub(super) async fn run(mut self) {
        loop {
            let timer = self.timer();
            let message = async {
                match &mut self.stream {
                    Some(stream) => Wake::Message(stream.message().await),
                    None => {
                        self.reopening.end_early(&self.transport).await;
                        Wake::Timer
                    }
                }
            };
            let wake = tokio::select! {
                command = self.commands.recv() => Wake::Command(command),
                wake = message => wake,
                () = timer => Wake::Timer,
            };
            let outcome = match wake {
                Wake::Command(None) => return,
                Wake::Command(Some(Command::Add {
                    target,
                    waiting,
                    confirmation,
                })) => self.add(target, waiting, confirmation).await,
                Wake::Command(Some(Command::Remove { target, serial })) => {
                    self.remove(serial, &target).await
                }
                Wake::Message(Message::Response(response)) => self.handle_response(response).await,
                Wake::Message(Message::Replaced) => self.end_stream(),
                Wake::Timer => self.handle_timer().await,
            };
            if let Err(failure) = outcome {
                self.interrupt(failure);
            }
        }
    }

    fn timer(&self) -> impl Future<Output = ()> + use<> {
        let has_watches = !self.targets.is_empty();
        let check = self.stream.as_ref().map(|s| s.next_check(has_watches));
        let linger = self.lingering.front().map(|(since, _)| *since + LINGER);
        let reopen = match (&self.stream, has_watches) {
            (None, true) => Some(self.reopening.end().unwrap_or_else(Instant::now)),
            _ => None,
        };
        let at = check.into_iter().chain(linger).chain(reopen).min();
        async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => pending().await,
            }
        }
    }

    pub(super) async fn add(
        &mut self,
        target: Target,
        waiting: Waiting,
        confirmation: oneshot::Sender<i64>,
    ) -> Result<(), Failure> {
        if let Some(watched) = self.targets.get_mut(&target) {
            if watched.changed > waiting.after {
                let _ = waiting.change.send(Ok(watched.changed));
                return Ok(());
            }
            match &mut watched.progress {
                Progress::Creating { confirmations, .. } => confirmations.push(confirmation),
                Progress::Confirmed { since, .. } => _ = confirmation.send(*since),
            }
            watched.watchers.push(waiting);
            return Ok(());
        }
        let creation = self.next_creation(target.clone());
        self.targets.insert(
            target,
            Box::new(Watched {
                progress: Progress::Creating {
                    creation: creation.serial,
                    confirmations: vec![confirmation],
                },
                changed: 0,
                watchers: smallvec![waiting],
                lingers: 0,
            }),
        );
        match &self.stream {
            Some(_) => self.create(creation).await,
            // Others may wait for a stream, too.
            None => self.reopen().await,
        }
    }

    fn next_creation(&mut self, target: Target) -> Creation {
        self.created += 1;
        let serial = self.created;
        Creation { serial, target }
    }

    /// Asks for a watch on the stream, or opens one with it.
    async fn create(&mut self, creation: Creation) -> Result<(), Failure> {
        match &mut self.stream {
            Some(stream) => {
                let limit = self.transport.request_limit();
                stream.create(creation, limit).await
            }
            None => {
                self.stream = Some(Stream::open(&self.transport, creation).await?);
                Ok(())
            }
        }
    }

    /// Opens a stream and asks for all watches that wait for one, unless there is a pause. If the
    /// coordinator cannot be reached, the watches wait for the next stream: their callers can do nothing
    /// better meanwhile. If it answers other requests, the watches fail, so that their callers look.
    async fn reopen(&mut self) -> Result<(), Failure> {
        if self.reopening.end().is_some() {
            return Ok(());
        }
        match self.ask_for_all().await {
            Err(Failure { error, scope })
                if self.stream.is_none()
                    && error.kind() == ErrorKind::Unreachable
                    && scope != Scope::Token
                    && !self.reopening.was_answered() =>
            {
                tracing::debug!(%error, watches = self.targets.len(), "no watch could be set");
                self.reopening.note_failure();
                Ok(())
            }
            outcome => outcome,
        }
    }

    async fn ask_for_all(&mut self) -> Result<(), Failure> {
        let targets: Vec<Target> = self.targets.keys().cloned().collect();
        for target in targets {
            let creation = self.next_creation(target.clone());
            let Some(watched) = self.targets.get_mut(&target) else {
                continue;
            };
            if let Progress::Creating {
                creation: serial, ..
            } = &mut watched.progress
            {
                *serial = creation.serial;
            }
            self.create(creation).await?;
        }
        Ok(())
    }

    async fn remove(&mut self, serial: u64, target: &Target) -> Result<(), Failure> {
        let Some(watched) = self.targets.get_mut(target) else {
            return Ok(());
        };
        watched.watchers.retain(|waiting| waiting.serial != serial);
        if watched.watchers.is_empty() {
            watched.lingers += 1;
            self.lingering.push_back((Instant::now(), target.clone()));
        }
        while self.lingering.len() > MAX_LINGERING {
            self.end_lingering().await?;
        }
        Ok(())
    }

    /// Takes the oldest target out of `lingering`, and cancels its watch if it has no watcher.
    async fn end_lingering(&mut self) -> Result<(), Failure> {
        let Some((_, target)) = self.lingering.pop_front() else {
            return Ok(());
        };
        let Some(watched) = self.targets.get_mut(&target) else {
            return Ok(());
        };
        watched.lingers = watched.lingers.saturating_sub(1);
        if watched.lingers > 0 || !watched.watchers.is_empty() {
            return Ok(());
        }
        match self.targets.remove(&target).map(|watched| watched.progress) {
            Some(Progress::Confirmed { id, .. }) => self.cancel(id).await,
            // It is cancelled when it is confirmed.
            Some(Progress::Creating { .. }) | None => Ok(()),
        }
    }

    async fn cancel(&mut self, id: i64) -> Result<(), Failure> {
        let limit = self.transport.request_limit();
        match &mut self.stream {
            Some(stream) => stream.cancel(id, limit).await,
            None => Ok(()),
        }
    }

    async fn handle_response(
        &mut self,
        response: Result<Option<WatchResponse>, etcd_client::Error>,
    ) -> Result<(), Failure> {
        let limit = self.transport.request_limit();
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let response = response
            .map_err(|e| stream.connection.failure(e))?
            .ok_or_else(|| error::end_of_stream(&stream.connection.address))?;
        // A stream keeps the token that it was opened with. Some servers use the same text for a
        // token that is out of date and for a missing permission.
        if self.transport.has_credentials() && stream::is_refusal(&response) {
            return Err(Failure {
                error: stream::to_error(&response),
                scope: Scope::Token,
            });
        }
        let id = response.watch_id();
        let confirmed = match response.created() {
            true => stream.creations.confirm(id),
            false => None,
        };
        stream.note_response(limit);
        self.reopening.note_answer();
        if let Some(Creation { serial, target }) = confirmed {
            let watched = self.targets.get_mut(&target);
            match watched.filter(|w| w.is_created_by(serial)) {
                Some(_) if response.canceled() => {
                    self.break_off(&target, stream::to_error(&response));
                }
                Some(watched) => {
                    let since = response.header().map_or(0, |header| header.revision());
                    let confirmed = Progress::Confirmed { id, since };
                    let before = std::mem::replace(&mut watched.progress, confirmed);
                    stream.targets.insert(id, target);
                    if let Progress::Creating { confirmations, .. } = before {
                        for confirmation in confirmations {
                            let _ = confirmation.send(since);
                        }
                    }
                }
                None if response.canceled() => {}
                None => self.cancel(id).await?,
            }
        } else if response.canceled() {
            if let Some(target) = stream.targets.remove(&id) {
                self.break_off(&target, stream::to_error(&response));
            }
        } else if let Some(revision) = response
            .events()
            .iter()
            .filter(|event| is_change(event))
            .filter_map(|e| e.kv())
            .map(|kv| kv.mod_revision())
            .max()
            && let Some(target) = stream.targets.get(&id).cloned()
        {
            self.handle_change(&target, revision);
        }
        Ok(())
    }

    fn handle_change(&mut self, target: &Target, revision: i64) {
        let Some(watched) = self.targets.get_mut(target) else {
            return;
        };
        watched.changed = watched.changed.max(revision);
        for waiting in std::mem::take(&mut watched.watchers) {
            match waiting.after < revision {
                true => _ = waiting.change.send(Ok(revision)),
                false => watched.watchers.push(waiting),
            }
        }
    }

    fn end_stream(&mut self) -> Result<(), Failure> {
        match &self.stream {
            Some(stream) => Err(error::end_of_stream(&stream.connection.address)),
            None => Ok(()),
        }
    }

    async fn handle_timer(&mut self) -> Result<(), Failure> {
        while self
            .lingering
            .front()
            .is_some_and(|(since, _)| since.elapsed() >= LINGER)
        {
            self.end_lingering().await?;
        }
        let Some(stream) = &mut self.stream else {
            return self.reopen().await;
        };
        match stream.check(!self.targets.is_empty())? {
            Check::Nothing => Ok(()),
            Check::Close => {
                self.stream = None;
                Ok(())
            }
            Check::Probe => self.probe().await,
        }
    }

    /// Asks for another watch on some target, which is cancelled when it is confirmed. A request of
    /// progress would not do: etcd's proxy does not answer it, and some versions of the proxy
    /// crash.
    async fn probe(&mut self) -> Result<(), Failure> {
        let limit = self.transport.request_limit();
        let target = self.targets.keys().next().cloned();
        let (Some(stream), Some(target)) = (&mut self.stream, target) else {
            return Ok(());
        };
        stream.expect_answer(limit);
        let creation = self.next_creation(target);
        self.create(creation).await
    }

    fn break_off(&mut self, target: &Target, reason: Error) {
        let reason = Arc::new(reason);
        let watchers = self
            .targets
            .remove(target)
            .into_iter()
            .flat_map(|w| w.watchers);
        for waiting in watchers {
            let _ = waiting.change.send(Err(reason.clone()));
        }
    }

    /// Gives the stream up, and all watches with it. The callers look for themselves, and watch
    /// again.
    fn interrupt(&mut self, failure: Failure) {
        let Failure { error, scope } = failure;
        tracing::debug!(%error, watches = self.targets.len(), "the watches are interrupted");
        if let Some(stream) = self.stream.take() {
            self.transport.note_failure(&stream.connection, scope);
        }
        self.reopening.note_failure();
        let reason = Arc::new(match scope {
            Scope::Token if self.transport.has_credentials() => error::stale_token(error),
            _ => error,
        });
        self.lingering.clear();
        for watched in std::mem::take(&mut self.targets).into_values() {
            for waiting in watched.watchers {
                let _ = waiting.change.send(Err(reason.clone()));
            }
        }
    }
}

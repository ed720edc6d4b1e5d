//! A session, renewed in the background, and the entries of it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join, try_join_all};
use lock_core::clock::{Clock, validity};
use lock_core::liveness::{self, Liveness};
use lock_core::rule::{Ahead, Ask, View};
use lock_core::session::{Admission, AsOf, Enqueued, Placed, Removed, Session, SessionId};
use lock_core::{Effect, EntryId, Error, ErrorKind, LossReason, State, Ticket, Token, background};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use zookeeper_client::{Error as ZkError, EventType, SessionState, Stat, StateWatcher};

use crate::client::{Client, Cluster};
use crate::error;
use crate::layout;
use crate::liveness::Renewer;
use crate::node;
use crate::runtime::persist;

/// How often an enqueue makes a directory that the servers have removed again by the time that it
/// is used.
const DIRECTORY_TRIES: u32 = 8;

pub(crate) struct ZkSession {
    id: SessionId,
    /// Makes the names of our nodes unique for ever.
    nonce: u64,
    cluster: Arc<Cluster>,
    /// None once it is closed: the last one to let go of the client closes the session.
    client: Mutex<Option<Client>>,
    state: StateWatcher,
    liveness: Arc<Liveness>,
    tasks: [AbortHandle; 2],
    /// The servers have acknowledged the end.
    ended: AtomicBool,
    /// Serials of tickets that have, or had, an enqueue under way whose outcome is not known.
    /// Bounded by the tickets in use.
    unsettled: Mutex<HashSet<u64>>,
    /// By the serials of their tickets, what waiters know to be the only entry ahead of them.
    only: Mutex<HashMap<u64, Ahead>>,
}

/// Opens a session: on the background thread, so that one whose caller has gone away is closed
/// again.
pub(crate) async fn open(cluster: Arc<Cluster>, ttl: Duration) -> Result<Arc<dyn Session>, Error> {
    cluster.config().check_session(ttl)?;
    let (opened, opening) = oneshot::channel();
    background::handle().spawn(async move {
        let session = connect(cluster, ttl).await;
        if let Err(Ok(unwanted)) = opened.send(session)
            && let Err(error) = unwanted.close().await
        {
            tracing::debug!(%error, "a session that nobody waits for ends by its time to live");
        }
    });
    let session = opening.await.unwrap_or_else(|_| {
        let text = "opening a session ended abnormally: please report this";
        Err(Error::new(ErrorKind::Internal, text))
    })?;
    Ok(session)
}

async fn connect(cluster: Arc<Cluster>, ttl: Duration) -> Result<Arc<ZkSession>, Error> {
    let clock = Clock::system();
    let (sent, client) = persist(|| async {
        let sent = clock.now();
        Ok((sent, cluster.connect(ttl).await?))
    })
    .await?;
    let answered = clock.now();
    let ttl = client.timeout();
    cluster.config().check_session(ttl)?;
    let (id, state) = (client.session(), client.state());
    let liveness = Liveness::new(clock.clone(), sent, validity(ttl));
    let renewer = Arc::new(Renewer::new(
        client.clone(),
        cluster.layout.session_node(id),
        cluster.config().tick_time(),
        clock,
        sent,
        answered,
    ));
    let renewal = background::handle().spawn({
        let liveness = liveness.clone();
        async move {
            let renew = || {
                let renewer = renewer.clone();
                async move { renewer.attempt().await }
            };
            liveness::keep_alive(&liveness, ttl, renew).await;
        }
    });
    let listener = background::handle().spawn(listen(state.clone(), liveness.clone()));
    let session = Arc::new(ZkSession {
        id,
        nonce: fastrand::u64(..),
        cluster,
        client: Mutex::new(Some(client)),
        state,
        liveness,
        tasks: [renewal.abort_handle(), listener.abort_handle()],
        ended: AtomicBool::new(false),
        unsettled: Mutex::default(),
        only: Mutex::default(),
    });
    background::handle().spawn(let_go(Arc::downgrade(&session)));
    Ok(session)
}

/// Closes a session that is lost. The client library would keep it alive by its pings, and with it
/// entries that nobody believes in any more, for as long as somebody keeps a guard.
async fn let_go(session: Weak<ZkSession>) {
    let Some(liveness) = session.upgrade().map(|session| session.liveness.clone()) else {
        return;
    };
    liveness.lost().await;
    if let Some(session) = session.upgrade() {
        drop(session.take_client());
    }
}

/// Passes on what the client library tells of the session. It tells of an expiry only when it has
/// reached a server again, so this is for speed; the deadline is what counts.
async fn listen(mut state: StateWatcher, liveness: Arc<Liveness>) {
    loop {
        match state.changed().await {
            SessionState::SyncConnected | SessionState::ConnectedReadOnly => {}
            SessionState::Disconnected => liveness.doubt(),
            SessionState::Closed => return liveness.lose(LossReason::Closed),
            SessionState::Expired | SessionState::AuthFailed => {
                return liveness.lose(LossReason::SessionGone);
            }
        }
    }
}

impl ZkSession {
    /// The client, for an operation that needs the session to live.
    fn alive(&self) -> Result<Client, Error> {
        match self.liveness.state() {
            State::Lost(reason) => Err(error::lost(reason)),
            State::Held | State::Jeopardy => self.client(),
        }
    }

    fn client(&self) -> Result<Client, Error> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client
            .clone()
            .ok_or_else(|| error::lost(LossReason::Closed))
    }

    fn take_client(&self) -> Option<Client> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.take()
    }

    /// Waits until the servers have ended the session, once nobody uses it any more.
    async fn wait_for_end(&self) -> Result<(), Error> {
        if !self.ended.load(Ordering::SeqCst) {
            self.cluster.wait_for_end(self.state.clone()).await?;
            self.ended.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Has everybody know at once if this error means that the session is gone.
    fn heard<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &answer
            && let ErrorKind::SessionLost(reason) = error.kind()
        {
            self.liveness.lose(reason);
        }
        answer
    }

    /// Makes a node for this ticket and lists its directory, in one round trip; `None` if there is
    /// no directory. From before it is sent until its outcome is known, the ticket counts as
    /// unsettled.
    async fn make(
        &self,
        client: &Client,
        directory: &str,
        ticket: &Ticket,
    ) -> Result<Option<(EntryId, Vec<String>)>, Error> {
        let first = self.unsettled().insert(ticket.serial);
        let prefix = node::prefix(self.nonce, ticket, self.cluster.layout.recipe);
        let (path, data) = (format!("{directory}/{prefix}"), ticket.metadata.to_bytes());
        let (listed, options) = (directory.to_owned(), client.entry_options());
        let answers = client
            .ask(move |zk| {
                Box::pin(async move {
                    let create = zk.create(&path, &data, &options);
                    let list = zk.list_children(&listed);
                    Ok(join(create, list).await)
                })
            })
            .await;
        let (created, children) = self.heard(answers)?;
        let (stat, sequence) = match created {
            Ok(created) => created,
            Err(error) => {
                let absent = error == ZkError::NoNode;
                // An earlier try made one of the same name: possible where numbers come again.
                let twin = error == ZkError::NodeExists;
                let mut error = self.cluster.error(error);
                if twin {
                    error = error::twin(error);
                }
                if first && error.effect() == Effect::None {
                    self.unsettled().remove(&ticket.serial);
                }
                return if absent {
                    Ok(None)
                } else {
                    self.heard(Err(error))
                };
            }
        };
        let name = format!("{prefix}{sequence}");
        let own = layout::entry(directory, &name, self.token(&stat)?);
        let children = children.map_err(|error| {
            // The entry is there, but where it stands is not known.
            self.cluster.error(error).with_effect(Effect::Unknown)
        });
        Ok(Some((own, self.heard(children)?)))
    }

    /// The token of a node that must be our session's.
    fn token(&self, stat: &Stat) -> Result<Token, Error> {
        // The client library may go on under another session than ours, which had ended.
        if stat.ephemeral_owner != self.id.0 {
            return self.heard(Err(error::session_gone()));
        }
        token(stat)
    }

    /// Of a listing that is not older than any node of this ticket: its one entry with what stands
    /// ahead of it, or `None` if there is none. An enqueue that was tried again may have made more
    /// than one: all but the first are removed. `made` is the one that was made just now.
    async fn settle(
        &self,
        client: &Client,
        directory: &str,
        ticket: &Ticket,
        ask: Ask,
        children: &[String],
        made: Option<EntryId>,
    ) -> Result<Option<Placed>, Error> {
        let mut own = Vec::new();
        for name in self.own(ticket, children) {
            let known = made.as_ref().filter(|made| is_at(made, directory, name));
            match known {
                Some(made) => own.push(made.clone()),
                None => own.extend(self.find(client, directory, name).await?),
            }
        }
        own.sort_unstable_by_key(|entry| entry.token);
        let mut own = own.into_iter();
        let Some(entry) = own.next() else {
            return Ok(None);
        };
        for surplus in own {
            self.delete(client, layout::path(&surplus)?).await?;
        }
        let view = self.view(client, ticket, &entry, children, ask).await?;
        Ok(Some(Placed { entry, view }))
    }

    /// The names of this ticket's nodes.
    fn own<'a>(&self, ticket: &Ticket, children: &'a [String]) -> impl Iterator<Item = &'a String> {
        let mark = node::mark(self.nonce, ticket);
        children.iter().filter(move |c| c.starts_with(&mark))
    }

    /// The entry at this node of ours, if it is still there.
    async fn find(
        &self,
        client: &Client,
        directory: &str,
        name: &str,
    ) -> Result<Option<EntryId>, Error> {
        let path = format!("{directory}/{name}");
        let stat = client.ask(|zk| Box::pin(async move { zk.check_stat(&path).await }));
        match self.heard(stat.await)? {
            Some(stat) => Ok(Some(layout::entry(directory, name, self.token(&stat)?))),
            None => Ok(None),
        }
    }

    /// What an entry sees in a listing. Where numbers do not tell the order, the czxids are read:
    /// after the listing, but those of its nodes never change.
    async fn view(
        &self,
        client: &Client,
        ticket: &Ticket,
        entry: &EntryId,
        children: &[String],
        ask: Ask,
    ) -> Result<View, Error> {
        let (directory, own) = layout::split(entry)?;
        let unplaced = layout::unplaced(own, children, ask);
        let mut created = HashMap::new();
        if !unplaced.is_empty() {
            let paths: Vec<String> = unplaced
                .iter()
                .map(|name| format!("{directory}/{name}"))
                .collect();
            let stats = client.ask(|zk| {
                Box::pin(async move { try_join_all(paths.iter().map(|p| zk.check_stat(p))).await })
            });
            for (name, stat) in unplaced.into_iter().zip(self.heard(stats.await)?) {
                if let Some(stat) = stat {
                    created.insert(name.to_owned(), token(&stat)?);
                }
            }
        }
        let seen = layout::view(entry, children, ask, &created)?;
        if let Some(only) = seen.only {
            self.only().insert(ticket.serial, only);
        }
        Ok(seen.view)
    }

    /// What an entry sees when nothing but this one can stand ahead of it: no listing, however long
    /// the queue behind is.
    async fn view_of_two(
        &self,
        client: &Client,
        entry: &EntryId,
        only: Ahead,
        as_of: AsOf,
    ) -> Result<View, Error> {
        let (own, other) = (layout::path(entry)?, layout::path(&only.id)?);
        let there = client.ask(move |zk| {
            Box::pin(async move {
                let synced = (as_of == AsOf::Now).then(|| zk.sync(&own));
                let (own, other) = (zk.check_stat(&own), zk.check_stat(&other));
                if let Some(synced) = synced {
                    synced.await?;
                }
                Ok((own.await?.is_some(), other.await?.is_some()))
            })
        });
        let (present, blocked) = self.heard(there.await)?;
        Ok(View {
            present,
            ahead: Vec::from_iter(blocked.then_some(only)),
        })
    }

    /// A listing, and whether there is a directory at all.
    async fn list(
        &self,
        client: &Client,
        directory: &str,
        as_of: AsOf,
    ) -> Result<Option<Vec<String>>, Error> {
        let directory = directory.to_owned();
        let listed = client.ask(move |zk| {
            Box::pin(async move {
                let synced = (as_of == AsOf::Now).then(|| zk.sync(&directory));
                let children = zk.list_children(&directory);
                if let Some(synced) = synced {
                    synced.await?;
                }
                match children.await {
                    Ok(children) => Ok(Some(children)),
                    Err(ZkError::NoNode) => Ok(None),
                    Err(error) => Err(error),
                }
            })
        });
        self.heard(listed.await)
    }

    /// Writes something, to be told if the session is over.
    async fn write(&self, client: &Client) -> Result<(), Error> {
        let node = self.cluster.layout.session_node(self.id);
        let written = client.ask(|zk| {
            Box::pin(async move {
                match zk.set_data(&node, &[], None).await {
                    Ok(_) | Err(ZkError::NoNode) => Ok(()),
                    Err(error) => Err(error),
                }
            })
        });
        self.heard(written.await)
    }

    /// Whether the node was there.
    async fn delete(&self, client: &Client, path: String) -> Result<bool, Error> {
        let deleted = client.ask(|zk| {
            Box::pin(async move {
                match zk.delete(&path, None).await {
                    Ok(()) => Ok(true),
                    Err(ZkError::NoNode) => Ok(false),
                    Err(error) => Err(error),
                }
            })
        });
        self.heard(deleted.await)
    }

    /// Removes whatever an enqueue of this ticket made; answers the paths.
    ///
    /// One whose reply was lost may still be under way through the server that we were connected to
    /// before. So we write something first, through the present one: what the leader had taken in
    /// before that is in the listing, and what comes to it later from the other server it turns
    /// away, because the session has moved (`PrepRequestProcessor` calls
    /// `SessionTracker.checkSession` with the connection that a request came by).
    async fn remove_for_good(
        &self,
        client: &Client,
        ticket: &Ticket,
    ) -> Result<Vec<String>, Error> {
        let directory = self.cluster.layout.directory(&ticket.name)?;
        let (node, listed) = (self.cluster.layout.session_node(self.id), directory.clone());
        let answers = client.ask(move |zk| {
            Box::pin(async move {
                let fence = zk.set_data(&node, &[], None);
                let children = zk.list_children(&listed);
                match fence.await {
                    // It went through the leader all the same.
                    Ok(_) | Err(ZkError::NoNode) => {}
                    Err(error) => return Err(error),
                }
                match children.await {
                    Err(ZkError::NoNode) => Ok(Vec::new()),
                    children => children,
                }
            })
        });
        let children = self.heard(answers.await)?;
        let mut removed = Vec::new();
        for name in self.own(ticket, &children) {
            let path = format!("{directory}/{name}");
            if self.delete(client, path.clone()).await? {
                removed.push(path);
            }
        }
        Ok(removed)
    }

    fn unsettled(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        self.unsettled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn only(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Ahead>> {
        self.only.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_at(entry: &EntryId, directory: &str, name: &str) -> bool {
    layout::split(entry).is_ok_and(|at| at == (directory, name))
}

/// A node's token: the transaction that created it.
pub(crate) fn token(stat: &Stat) -> Result<Token, Error> {
    match u64::try_from(stat.czxid) {
        Ok(czxid) if czxid > 0 => Ok(Token(czxid)),
        _ => Err(error::protocol("a czxid is not positive")),
    }
}

#[async_trait]
impl Session for ZkSession {
    fn id(&self) -> SessionId {
        self.id
    }

    fn liveness(&self) -> &Arc<Liveness> {
        &self.liveness
    }

    async fn enqueue(
        &self,
        ticket: &Ticket,
        ask: Ask,
        admission: Admission,
    ) -> Result<Enqueued, Error> {
        let client = self.alive()?;
        let layout = &self.cluster.layout;
        let directory = layout.directory_for(&ticket.name, ticket.mode)?;
        if self.unsettled().contains(&ticket.serial)
            && let Some(children) = self.list(&client, &directory, AsOf::Now).await?
        {
            let found = self.settle(&client, &directory, ticket, ask, &children, None);
            if let Some(placed) = found.await? {
                return Ok(Enqueued::Placed(placed));
            }
        }
        if admission == Admission::IfFree
            && let Some(children) = self.list(&client, &directory, AsOf::Now).await?
            && layout::is_busy(&children, ask)
        {
            return Ok(Enqueued::Busy);
        }
        for _ in 0..DIRECTORY_TRIES {
            let Some((own, children)) = self.make(&client, &directory, ticket).await? else {
                client.make_directory(&directory).await?;
                continue;
            };
            let made = Some(own.clone());
            let settled = self.settle(&client, &directory, ticket, ask, &children, made);
            let placed = settled.await?.unwrap_or(Placed {
                // Somebody removed it between the two requests.
                entry: own,
                view: layout::ABSENT,
            });
            self.unsettled().remove(&ticket.serial);
            return Ok(Enqueued::Placed(placed));
        }
        Err(Error::new(
            ErrorKind::Exhausted,
            format!("the directory {directory:?} is removed as often as it is made"),
        ))
    }

    async fn look(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        ask: Ask,
        as_of: AsOf,
    ) -> Result<View, Error> {
        let client = self.alive()?;
        let only = self.only().get(&ticket.serial).cloned();
        let view = match only {
            Some(only) => self.view_of_two(&client, entry, only, as_of).await?,
            None => {
                let (directory, _) = layout::split(entry)?;
                let children = self.list(&client, directory, as_of).await?;
                let children = children.unwrap_or_default();
                self.view(&client, ticket, entry, &children, ask).await?
            }
        };
        if !view.present {
            // Our node goes with our session, too. A write tells, wherever the session was closed.
            self.write(&client).await?;
        }
        // What was listed while the session ended is of the past.
        self.alive()?;
        Ok(view)
    }

    async fn changed(&self, entry: &EntryId) -> Result<(), Error> {
        let path = layout::path(entry)?;
        let client = self.alive()?;
        let watched = client
            .ask(|zk| Box::pin(async move { zk.check_and_watch_stat(&path).await }))
            .await;
        // While we wait: it would keep the session from being closed.
        drop(client);
        let (Some(_), watcher) = self.heard(watched)? else {
            return Ok(());
        };
        let event = watcher.changed().await;
        if event.event_type != EventType::Session {
            return Ok(());
        }
        self.heard(Err(match event.session_state {
            SessionState::Closed => error::lost(LossReason::Closed),
            _ => error::session_gone(),
        }))
    }

    async fn remove(&self, ticket: &Ticket, entry: Option<&EntryId>) -> Result<Removed, Error> {
        let settled = entry.filter(|_| !self.unsettled().contains(&ticket.serial));
        // Whether an earlier try of this removal may have done it.
        let doubtful = AtomicBool::new(false);
        let removed = persist(|| async {
            let outcome = self.try_remove(ticket, entry, settled).await;
            if let Err(error) = &outcome
                && error.effect() == Effect::Unknown
            {
                doubtful.store(true, Ordering::SeqCst);
            }
            outcome
        })
        .await?;
        self.unsettled().remove(&ticket.serial);
        self.only().remove(&ticket.serial);
        Ok(match removed {
            Removed::AlreadyGone if doubtful.into_inner() => Removed::Removed,
            removed => removed,
        })
    }

    async fn close(&self) -> Result<(), Error> {
        self.tasks.iter().for_each(AbortHandle::abort);
        // Before the first word of it to the server: nobody may believe longer than it lasts.
        self.liveness.lose(LossReason::Closed);
        drop(self.take_client());
        self.wait_for_end().await
    }
}

impl ZkSession {
    async fn try_remove(
        &self,
        ticket: &Ticket,
        entry: Option<&EntryId>,
        settled: Option<&EntryId>,
    ) -> Result<Removed, Error> {
        let Ok(client) = self.client() else {
            // With the session goes all that is of it.
            self.wait_for_end().await?;
            return Ok(Removed::AlreadyGone);
        };
        let removed = match settled {
            Some(entry) => self.delete(&client, layout::path(entry)?).await,
            None => self.remove_for_good(&client, ticket).await.map(|paths| {
                let asked = |path: &String| entry.is_none_or(|e| *e.key == *path.as_bytes());
                paths.iter().any(asked)
            }),
        };
        match removed {
            Ok(true) => Ok(Removed::Removed),
            Ok(false) => Ok(Removed::AlreadyGone),
            // The same, as the servers told us.
            Err(error) if error.kind() == ErrorKind::SessionLost(LossReason::SessionGone) => {
                Ok(Removed::AlreadyGone)
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for ZkSession {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl std::fmt::Debug for ZkSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZkSession")
            .field("id", &self.id)
            .field("state", &self.liveness.state())
            .finish_non_exhaustive()
    }
}

//! A session on ZooKeeper, which is renewed in the background, and the entries of the session.

mod data;
mod enqueue;
mod look;
mod remove;
mod sole_contender;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use backend_kit::opening::open_in_background;
use lock_core::SessionId;
use lock_core::clock::Clock;
use lock_core::liveness::Liveness;
use lock_core::renewal::keep_alive;
use lock_core::rule::{Ahead, Ask, View};
use lock_core::session::{Admission, AsOf, Behind, Enqueued, Removal, Session, Watcher};
use lock_core::{
    Access, Accessed, DataKey, EntryId, Error, Incarnation, LossReason, Metadata, State, Ticket,
    TokenOffset, background,
};
use tokio::task::AbortHandle;
use zookeeper_client::{EventType, SessionState, Stat, StateWatcher, WatchedEvent};

use self::sole_contender::SoleEntries;
use crate::client::{Client, Cluster};
use crate::error;
use crate::layout;
use crate::liveness::{Renewer, lag};
use crate::offset;

pub(crate) struct ZkSession {
    id: SessionId,
    /// Makes the names of the session's nodes unique for ever.
    nonce: u64,
    cluster: Arc<Cluster>,
    /// `None` once the session is closed. The servers end the session when the last reference to
    /// the client is dropped.
    client: Mutex<Option<Arc<Client>>>,
    state: StateWatcher,
    liveness: Arc<Liveness>,
    /// The offset of the session's tokens. It cannot be raised while the session lives.
    offset: TokenOffset,
    /// The era of the store that opened the session.
    era: u64,
    tasks: [AbortHandle; 2],
    /// Set when the servers have acknowledged the end.
    ended: AtomicBool,
    /// The outcomes of the enqueues that were sent, by the serials of their tickets, until the
    /// removal. The tickets in use bound their number.
    enqueues: Arc<Mutex<HashMap<u64, Outcome>>>,
    /// The entry that a waiter knows to be the only one ahead of it, by the serial of the waiter's
    /// ticket.
    only_ahead: Mutex<HashMap<u64, Ahead>>,
    /// The directories in which the session's last entry was the only one.
    sole_entries: Mutex<SoleEntries>,
}

/// The outcome of the enqueues of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The ticket has one node.
    Made,
    /// It may have nodes, and an enqueue may still be under way.
    Uncertain,
}

/// Opens a session.
pub(crate) async fn open(cluster: Arc<Cluster>, ttl: Duration) -> Result<Arc<dyn Session>, Error> {
    cluster.config().check_session(ttl)?;
    open_in_background(connect(cluster, ttl)).await
}

async fn connect(cluster: Arc<Cluster>, ttl: Duration) -> Result<Arc<ZkSession>, Error> {
    let clock = Clock::system();
    let sent = clock.now();
    let client = Arc::new(cluster.connect(ttl).await?);
    let answered = clock.now();
    let ttl = client.timeout();
    cluster.config().check_session(ttl)?;
    let (id, state) = (client.session(), client.state());
    let lag = lag(ttl, cluster.config().tick_time());
    let liveness = Liveness::from_grant(clock.clone(), sent, ttl, lag);
    let renewer = Arc::new(Renewer::new(
        client.clone(),
        cluster.layout.session_node(id),
        cluster.config().tick_time(),
        clock,
        sent,
        answered,
    ));
    let write = cluster.continuity.begin_write();
    // This order is needed: see the module `offset`.
    renewer.attempt().await?;
    let path = cluster.layout.token_offset_node();
    let offset = offset::read(&client, &path).await?;
    // A session that could not give tokens would keep the offset from being raised.
    cluster.continuity.note_offset(write, offset);
    cluster.continuity.check_tokens(Some(offset))?;
    let era = cluster.continuity.era();
    let renewal = background::handle()?.spawn({
        let (liveness, cluster) = (liveness.clone(), cluster.clone());
        async move {
            let renew = || {
                let (renewer, cluster) = (renewer.clone(), cluster.clone());
                async move {
                    let validity = renewer.attempt().await?;
                    cluster.continuity.check_era(era)?;
                    Ok(validity)
                }
            };
            keep_alive(&liveness, ttl, renew).await;
        }
    });
    let listener = background::handle()?.spawn(listen(state.clone(), liveness.clone()));
    let session = Arc::new(ZkSession {
        id,
        nonce: fastrand::u64(..),
        cluster,
        client: Mutex::new(Some(client)),
        state,
        liveness,
        offset,
        era,
        tasks: [renewal.abort_handle(), listener.abort_handle()],
        ended: AtomicBool::new(false),
        enqueues: Arc::default(),
        only_ahead: Mutex::default(),
        sole_entries: Mutex::default(),
    });
    background::handle()?.spawn(close_when_lost(Arc::downgrade(&session)));
    Ok(session)
}

/// Closes a session that is lost. The client library would keep it alive by its pings for as long
/// as somebody keeps a guard, and with it entries that nobody believes in any more.
async fn close_when_lost(session: Weak<ZkSession>) {
    let Some(liveness) = session.upgrade().map(|session| session.liveness.clone()) else {
        return;
    };
    liveness.lost().await;
    if let Some(session) = session.upgrade() {
        drop(session.take_client());
    }
}

/// Passes the client library's reports on to the session's liveness. The library reports an expiry
/// only when it has reached a server again, so this is for speed; the deadline is what counts.
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
    /// Returns the client, for an operation that needs a live session.
    fn live_client(&self) -> Result<Arc<Client>, Error> {
        match self.liveness.state() {
            State::Lost(reason) => Err(Error::session_lost(reason)),
            _ => {
                let checked = self.cluster.continuity.check_era(self.era);
                self.liveness.note_session_loss(checked)?;
                self.liveness.note_session_loss(self.client())
            }
        }
    }

    fn client(&self) -> Result<Arc<Client>, Error> {
        lock(&self.client)
            .clone()
            .ok_or_else(|| Error::session_lost(LossReason::Closed))
    }

    fn take_client(&self) -> Option<Arc<Client>> {
        let client = lock(&self.client).take()?;
        // What waits for its turn keeps the client, too.
        client.turns.close();
        Some(client)
    }

    /// Waits until the servers have ended the session, once nobody uses it any more.
    async fn wait_for_end(&self) -> Result<(), Error> {
        if !self.ended.load(Ordering::SeqCst) {
            self.cluster.wait_for_end(self.state.clone()).await?;
            self.ended.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Waits until the entry is gone.
    async fn wait_until_gone(&self, entry: &EntryId) -> Result<(), Error> {
        let path = layout::path(entry)?;
        // Nothing here keeps the client: that would keep the session from being closed.
        let watched = (self.live_client()?)
            .ask_in_turn(|zk| Box::pin(async move { zk.check_and_watch_stat(&path).await }));
        let (Some(_), watcher) = self.liveness.note_session_loss(watched.await)? else {
            return Ok(());
        };
        self.liveness
            .note_session_loss(to_change(watcher.changed().await))
    }

    /// Returns the incarnation of a node that must be on this session.
    fn incarnation(&self, stat: &Stat) -> Result<Incarnation, Error> {
        // The client library may go on under another session after this one has ended.
        if stat.ephemeral_owner != self.id.0 {
            return self.liveness.note_session_loss(Err(error::session_gone()));
        }
        incarnation(stat)
    }

    fn enqueues(&self) -> MutexGuard<'_, HashMap<u64, Outcome>> {
        lock(&self.enqueues)
    }

    fn only_ahead(&self) -> MutexGuard<'_, HashMap<u64, Ahead>> {
        lock(&self.only_ahead)
    }

    fn sole_entries(&self) -> MutexGuard<'_, SoleEntries> {
        lock(&self.sole_entries)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns what the event of a watch says: a change, or the end of the session.
fn to_change(event: WatchedEvent) -> Result<(), Error> {
    if event.event_type != EventType::Session {
        return Ok(());
    }
    Err(match event.session_state {
        SessionState::Closed => Error::session_lost(LossReason::Closed),
        _ => error::session_gone(),
    })
}

/// Returns a node's incarnation: the number of the transaction that created it.
pub(crate) fn incarnation(stat: &Stat) -> Result<Incarnation, Error> {
    let czxid = u64::try_from(stat.czxid).ok();
    let incarnation = czxid.and_then(Incarnation::new);
    incarnation.ok_or_else(|| error::protocol("a czxid is not positive"))
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
        self.take_place(ticket, ask, admission).await
    }

    async fn look(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        ask: Ask,
        as_of: AsOf,
    ) -> Result<View, Error> {
        self.look_ahead(ticket, entry, ask, as_of).await
    }

    async fn watch(&self, entry: &EntryId, _: Watcher) -> Result<(), Error> {
        self.wait_until_gone(entry).await
    }

    async fn watch_behind(&self, _: &Ticket, entry: &EntryId) -> Result<Behind, Error> {
        self.look_behind(entry).await
    }

    async fn remove(
        &self,
        ticket: &Ticket,
        entry: Option<&EntryId>,
        waiters: &[EntryId],
    ) -> Result<Removal, Error> {
        self.give_up(ticket, entry, waiters).await
    }

    async fn access(
        &self,
        _: &Ticket,
        entry: &EntryId,
        key: &DataKey,
        access: &Access,
    ) -> Result<Accessed, Error> {
        self.access_data(entry, key, access).await
    }

    async fn describe(
        &self,
        _: &Ticket,
        entry: &EntryId,
        metadata: &Metadata,
    ) -> Result<bool, Error> {
        self.describe_entry(entry, metadata).await
    }

    async fn metadata(&self, entry: &EntryId) -> Result<Option<Metadata>, Error> {
        self.read_metadata(entry).await
    }

    async fn close(&self) -> Result<(), Error> {
        self.tasks.iter().for_each(AbortHandle::abort);
        // Before the request is sent: nobody may believe in the session for longer than it lasts.
        self.liveness.lose(LossReason::Closed);
        drop(self.take_client());
        self.wait_for_end().await
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

//! A session on etcd: a lease, which is renewed in the background, and the entries on it.

mod data;
mod enqueue;
pub(crate) mod protocol;
mod remove;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backend_kit::opening::open_in_background;
use etcd_client::proto::PbKeyValue;
use etcd_client::{Txn, TxnResponse};
use lock_core::SessionId;
use lock_core::clock::Clock;
use lock_core::liveness::Liveness;
use lock_core::renewal::keep_alive;
use lock_core::rule::{Ask, View};
use lock_core::session::{Admission, AsOf, Behind, Enqueued, Removal, Session, Watcher};
use lock_core::{
    Access, Accessed, DataKey, Effect, EntryId, Error, ErrorKind, LossReason, Metadata, State,
    Ticket, background,
};
use tokio::task::AbortHandle;

use crate::client::Client;
use crate::error;
use crate::group::Change;
use crate::layout::{self, Consistency, Layout};
use crate::liveness::Renewer;
use protocol::Protocol;

/// The longest time to live that etcd grants, in seconds.
const MAX_TTL_SECS: i64 = 9_000_000_000;
/// How many times an enqueue, or an access to a value, that finds the epoch moved tries again by
/// itself. The epoch moves once for each ticket whose next request follows one with a lost reply.
const EPOCH_TRIES: u32 = 32;

pub(crate) struct EtcdSession {
    id: SessionId,
    client: Arc<Client>,
    protocol: Protocol,
    liveness: Arc<Liveness>,
    renewal: AbortHandle,
    /// The era of the store that granted the lease.
    era: u64,
    revoked: AtomicBool,
    /// The highest revision of a change that was reported to a waiter.
    reported_revision: AtomicI64,
}

/// Opens a session.
pub(crate) async fn open(client: Arc<Client>, ttl: Duration) -> Result<Arc<dyn Session>, Error> {
    open_in_background(grant(client, ttl)).await
}

async fn grant(client: Arc<Client>, ttl: Duration) -> Result<Arc<EtcdSession>, Error> {
    let ttl_secs =
        i64::try_from(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)).unwrap_or(i64::MAX);
    let clock = Clock::system();
    let transport = &client.transport;
    let write = transport.continuity.begin_write();
    let (sent, answer) = transport
        .call({
            let clock = clock.clone();
            move |client| {
                let clock = clock.clone();
                async move {
                    let sent = clock.now();
                    Ok((sent, client.lease_client().grant(ttl_secs, None).await?))
                }
            }
        })
        .await?;
    let era = transport.end_write(write, answer.header());
    let (id, granted) = (answer.id(), answer.ttl());
    if id == 0 || !(1..=MAX_TTL_SECS).contains(&granted) {
        return Err(error::protocol(
            "a lease is granted without an id or a time to live",
        ));
    }
    // The cast is safe: the check above found a positive number.
    let ttl = Duration::from_secs(granted.unsigned_abs());
    let liveness = Liveness::from_grant(clock, sent, ttl, Duration::ZERO);
    let layout = Layout::new(client.keyspace.clone(), SessionId(id));
    let renewal = background::handle()?.spawn({
        let liveness = liveness.clone();
        let transport = transport.clone();
        let renewer = Arc::new(Renewer::new(transport.clone(), id, ttl, layout.epoch()));
        async move {
            let renew = || {
                let (transport, renewer) = (transport.clone(), renewer.clone());
                async move {
                    transport.continuity.check_era(era)?;
                    renewer.attempt().await
                }
            };
            keep_alive(&liveness, ttl, renew).await;
        }
    });
    let id = SessionId(id);
    Ok(Arc::new(EtcdSession {
        id,
        protocol: Protocol::new(layout),
        client,
        liveness,
        renewal: renewal.abort_handle(),
        era,
        revoked: AtomicBool::new(false),
        reported_revision: AtomicI64::new(0),
    }))
}

impl EtcdSession {
    fn check_alive(&self) -> Result<(), Error> {
        match self.liveness.state() {
            State::Lost(reason) => Err(Error::session_lost(reason)),
            _ => self.liveness.note_session_loss(self.check_era()),
        }
    }

    fn check_era(&self) -> Result<(), Error> {
        self.client.transport.continuity.check_era(self.era)
    }

    /// Checks that the last answer came from the store that the session is on.
    fn check_answer(&self) -> Result<(), Error> {
        let checked = self.check_era();
        let checked = checked.map_err(|error| error.with_effect(Effect::Unknown));
        self.liveness.note_session_loss(checked)
    }

    /// Passes on an outcome, unless it came from another store than the session is on.
    fn accept(&self, outcome: Result<TxnResponse, Error>) -> Result<TxnResponse, Error> {
        let answer = self.liveness.note_session_loss(outcome)?;
        self.check_answer()?;
        Ok(answer)
    }

    /// Makes one attempt of a transaction that only reads.
    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        self.accept(self.client.transport.txn(move || txn.clone()).await)
    }

    /// Makes one attempt of a transaction that writes.
    async fn write(&self, txn: Txn) -> Result<TxnResponse, Error> {
        self.accept(self.client.transport.write(move || txn.clone()).await)
    }

    /// Makes one attempt of a transaction that makes or removes an entry, and does nothing else.
    async fn entry_txn(
        &self,
        ticket: &Ticket,
        change: Change<'_>,
        txn: Arc<Txn>,
    ) -> Result<TxnResponse, Error> {
        // The queue of a raw lock also holds the entries of all raw locks whose names lie below its
        // own.
        match ticket.name.is_raw() {
            true => self.write(Txn::clone(&txn)).await,
            false => self.accept(self.client.group.txn(change, txn).await),
        }
    }

    /// Runs a transaction that only reads. The reply of the member alone is enough if the member
    /// has reached this revision; otherwise the cluster is asked.
    async fn read(
        &self,
        at_least: i64,
        txn: impl Fn(Consistency) -> Txn,
    ) -> Result<TxnResponse, Error> {
        let answer = self.txn(txn(Consistency::Member)).await?;
        if layout::revision(&answer)? >= at_least {
            return Ok(answer);
        }
        self.txn(txn(Consistency::Cluster)).await
    }

    /// Reads the key of a change that an etcd over its quota has refused, since the etcd may have made
    /// the change. A full etcd still answers this read. Returns the error with the effect that the
    /// value at the key shows.
    async fn settle_refusal(
        &self,
        error: Error,
        key: &[u8],
        is_done: impl Fn(Option<&PbKeyValue>) -> bool,
    ) -> Error {
        if !error::is_over_quota(&error) {
            return error;
        }
        match self.read_beside(key).await {
            Ok(found) if !is_done(found.as_ref()) => error.with_effect(Effect::None),
            Ok(_) | Err(_) => error,
        }
    }

    /// Reads a key as the cluster has it, without a transaction. Before 3.4.20 and 3.5.7, an etcd refuses
    /// every transaction while its store is full.
    async fn read_beside(&self, key: &[u8]) -> Result<Option<PbKeyValue>, Error> {
        let key: Arc<[u8]> = key.into();
        let answer = self
            .client
            .transport
            .call(move |client| {
                let key = key.clone();
                async move { client.kv_client().get(&*key, None).await }
            })
            .await?;
        Ok(answer.0.kvs.into_iter().next())
    }

    /// Fails if the lease is gone too. Called when the session's entry was not found.
    async fn check_lease(&self) -> Result<(), Error> {
        let id = self.id.0;
        let answer = self
            .client
            .transport
            .call(move |client| async move { client.lease_client().time_to_live(id, None).await })
            .await;
        match answer {
            Ok(lease) if lease.ttl() < 0 => {
                self.liveness.lose(LossReason::SessionGone);
                Err(error::session_gone())
            }
            // The lease may be gone too, so do not report that only the entry is gone.
            Err(error) if error.is_retryable() => Err(error),
            // The renewals will find out.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

#[async_trait]
impl Session for EtcdSession {
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
        self.enqueue_entry(ticket, ask, admission).await
    }

    async fn look(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        ask: Ask,
        as_of: AsOf,
    ) -> Result<View, Error> {
        self.check_alive()?;
        let layout = self.protocol.layout();
        let txn = |consistency| layout.look(ticket, entry, ask, consistency);
        let answer = match as_of {
            // The revision must also be high enough to include the session's own entry.
            AsOf::Change => {
                let seen = self.reported_revision.load(Ordering::SeqCst);
                self.read(seen.max(layout::create_revision(entry)), txn)
                    .await?
            }
            AsOf::Now => self.txn(txn(Consistency::Cluster)).await?,
        };
        let view = layout.parse_look(ticket, entry, ask, &answer)?;
        if !view.present {
            self.check_lease().await?;
        }
        Ok(view)
    }

    async fn watch(&self, entry: &EntryId, watcher: Watcher) -> Result<(), Error> {
        self.check_alive()?;
        self.liveness
            .note_session_loss(self.wait_until_gone(entry, watcher).await)
    }

    async fn watch_behind(&self, ticket: &Ticket, entry: &EntryId) -> Result<Behind, Error> {
        self.check_alive()?;
        self.liveness
            .note_session_loss(self.look_behind(ticket, entry).await)
    }

    async fn remove(
        &self,
        ticket: &Ticket,
        entry: Option<&EntryId>,
        waiters: &[EntryId],
    ) -> Result<Removal, Error> {
        self.remove_entry(ticket, entry, waiters).await
    }

    async fn access(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        key: &DataKey,
        access: &Access,
    ) -> Result<Accessed, Error> {
        let key = self.client.keyspace.data_key(key);
        // A change in doubt may still be carried out. The caller must not read the value from before
        // it now, and its own value later.
        match access {
            Access::Get if !self.protocol.is_in_doubt(ticket) => self.read_data(entry, &key).await,
            _ => self.access_in_order(ticket, entry, &key, access).await,
        }
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
        self.renewal.abort();
        let gone = match self.liveness.state() {
            State::Lost(LossReason::SessionGone) => true,
            // A store that went back may have the lease, and entries that were removed long ago.
            State::Lost(LossReason::StoreGone) => self.check_era().is_ok(),
            _ => false,
        };
        // Before the request is sent: nobody may believe in the session for longer than it lasts.
        self.liveness.lose(LossReason::Closed);
        if gone || self.revoked.load(Ordering::SeqCst) {
            return Ok(());
        }
        let id = self.id.0;
        let revoked = self
            .client
            .transport
            .call(move |client| async move { client.lease_client().revoke(id).await })
            .await;
        match revoked {
            Err(error) if !matches!(error.kind(), ErrorKind::SessionLost(_)) => Err(error),
            _ => {
                self.revoked.store(true, Ordering::SeqCst);
                Ok(())
            }
        }
    }
}

impl Drop for EtcdSession {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl std::fmt::Debug for EtcdSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdSession")
            .field("id", &self.id)
            .field("state", &self.liveness.state())
            .finish_non_exhaustive()
    }
}

//! A session in process: a lease on the coordinator, and transactions on its keys.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use backend_kit::keyspace::Keyspace;
use bytes::Bytes;
use lock_core::clock::{self, Clock};
use lock_core::renewal::keep_alive;
use lock_core::rule::{Ask, View};
use lock_core::{
    Access, Accessed, Admission, AsOf, Behind, DataKey, Effect, Enqueued, EntryId, Error,
    ErrorKind, Incarnation, KnownTokenOffset, Liveness, LossReason, Metadata, Placed, Removal,
    Removed, Session, SessionId, Ticket, Watcher, background,
};
use tokio::task::AbortHandle;

use crate::coordinator::{Applied, Coordinator};
use crate::error::to_lock_error;
use crate::evidence::Process;
use crate::layout;
use crate::machine::op::{Delete, Event, KeyRange, Op, OpResult, Put, Range, Txn, TxnResult};

/// A session on a coordinator in this process; see [`Session`]. The coordinator applies requests in
/// the order in which they were made, so a dropped request cannot take effect after a later one.
#[derive(Debug)]
pub(crate) struct EmbeddedSession {
    coordinator: Coordinator,
    keyspace: Keyspace,
    id: SessionId,
    liveness: Arc<Liveness>,
    renewal: AbortHandle,
    offset: Mutex<KnownTokenOffset>,
}

impl EmbeddedSession {
    pub(crate) async fn open(
        coordinator: Coordinator,
        keyspace: Keyspace,
        ttl: Duration,
    ) -> Result<Arc<Self>, Error> {
        let clock = Clock::system();
        let sent = clock.now();
        let granting = coordinator.grant_to(Process::current(), 0, ttl);
        let granted = granting.await.map_err(to_lock_error)?;
        let liveness = Liveness::from_grant(clock, sent, granted.ttl, Duration::ZERO);
        let renewal = background::handle()?.spawn({
            let (coordinator, liveness) = (coordinator.clone(), liveness.clone());
            let shutdown_guard = coordinator.shutdown_guard();
            async move {
                let renewing = keep_alive(&liveness, granted.ttl, async || {
                    let ttl = coordinator
                        .keep_alive(granted.id)
                        .await
                        .map_err(to_session_error)?;
                    Ok(clock::validity(ttl))
                });
                tokio::select! {
                    () = renewing => {}
                    () = wait_for_lost_store(&coordinator) => liveness.lose(LossReason::StoreGone),
                }
                drop(shutdown_guard);
            }
        });
        Ok(Arc::new(EmbeddedSession {
            coordinator,
            keyspace,
            id: SessionId(granted.id),
            liveness,
            renewal: renewal.abort_handle(),
            offset: Mutex::default(),
        }))
    }

    async fn txn(&self, txn: Txn) -> Result<Applied<TxnResult>, Error> {
        let done = self.coordinator.txn(txn).await.map_err(to_session_error);
        self.liveness.note_session_loss(done)
    }

    /// Fails if the session has ended. Called when our entry is absent, to find the reason.
    async fn check_lease(&self) -> Result<(), Error> {
        let lease = self.coordinator.time_to_live(self.id.0, false).await;
        if let Err(error) = lease.map_err(to_session_error)
            && let ErrorKind::SessionLost(reason) = error.kind()
        {
            self.liveness.lose(reason);
            return Err(error);
        }
        Ok(())
    }

    /// Tries once to create the entry. Returns `None` if the offset was raised; the session knows
    /// the new offset then.
    async fn try_enqueue(
        &self,
        ticket: &Ticket,
        ask: Ask,
        admission: Admission,
    ) -> Result<Option<Enqueued>, Error> {
        let key = self
            .keyspace
            .entry_key(self.id, ticket, ticket.serial)
            .into_bytes();
        let own = KeyRange::One(key.clone().into());
        let mut compare = vec![layout::key_absent(&key)];
        let known = *self.offset();
        if !ticket.name.is_raw() {
            compare.push(layout::offset_unchanged(&self.keyspace, known));
        }
        if admission == Admission::IfFree {
            // The comparison holds only if none of these ranges has a key.
            let spans = self.keyspace.ahead(&ticket.name, ask).into_iter();
            compare.extend(spans.map(layout::span_unused));
        }
        let mut then = vec![Op::Put(Put {
            key: key.clone().into(),
            value: Some(ticket.metadata.to_bytes().into()),
            lease: Some(self.id.0),
            prev_kv: false,
        })];
        then.extend(layout::read_ahead(&self.keyspace, ticket, ask, None));
        let token_offset_key = self.keyspace.token_offset_key().into_bytes();
        let or_else = vec![
            Op::Range(Range {
                keys_only: true,
                ..Range::all(own)
            }),
            Op::Range(Range::all(KeyRange::One(token_offset_key.into()))),
        ];
        let done = self
            .txn(Txn {
                compare,
                then,
                or_else,
            })
            .await?;
        if done.result.succeeded {
            let view = layout::parse_view(&self.keyspace, ticket, ask, &key, &done.result.results);
            let entry = EntryId {
                key: key.into(),
                incarnation: Incarnation::new(done.revision),
            };
            let placed = Placed::on(known.offset, &ticket.name, entry, view)?;
            return Ok(Some(Enqueued::Placed(placed)));
        }
        let [OpResult::Range(found), OpResult::Range(offset)] = &done.result.results[..] else {
            return Err(Error::new(
                ErrorKind::Internal,
                "the coordinator omitted a result",
            ));
        };
        let now = layout::parse_offset(&self.keyspace, offset)?;
        match (found.kvs.first(), admission) {
            // An earlier attempt for this ticket succeeded.
            (Some(kv), _) => {
                let entry = EntryId {
                    key: key.into(),
                    incarnation: Incarnation::new(kv.create_revision),
                };
                let view = self.look(ticket, &entry, ask, AsOf::Now).await?;
                // The offset is never raised while there is an entry, so the entry was made on this
                // offset.
                let placed = Placed::on(known.offset, &ticket.name, entry, view)?;
                Ok(Some(Enqueued::Placed(placed)))
            }
            (None, _) if !ticket.name.is_raw() && now != known => {
                *self.offset() = now;
                Ok(None)
            }
            (None, Admission::IfFree) => Ok(Some(Enqueued::Busy)),
            (None, Admission::Always) => Err(Error::new(
                ErrorKind::Internal,
                "the coordinator refused an entry without a reason",
            )),
        }
    }

    fn offset(&self) -> MutexGuard<'_, KnownTokenOffset> {
        self.offset.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Converts an error of the coordinator into the error that a session reports.
fn to_session_error(error: crate::Error) -> Error {
    match error {
        crate::Error::Displaced { .. } => Error::session_lost(LossReason::StoreGone)
            .with_effect(Effect::Unknown)
            .with_source(error),
        error => to_lock_error(error),
    }
}

/// Waits until the coordinator has stopped because its folder was lost. After any other end of the
/// coordinator, a session lives until its deadline.
async fn wait_for_lost_store(coordinator: &Coordinator) {
    match coordinator.closed().await {
        crate::Error::Displaced { .. } => {}
        _ => std::future::pending().await,
    }
}

#[async_trait]
impl Session for EmbeddedSession {
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
        loop {
            if let Some(enqueued) = self.try_enqueue(ticket, ask, admission).await? {
                return Ok(enqueued);
            }
        }
    }

    async fn look(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        ask: Ask,
        _: AsOf,
    ) -> Result<View, Error> {
        let done = self
            .txn(Txn {
                compare: layout::own_entry_exists(entry, self.id),
                then: layout::read_ahead(&self.keyspace, ticket, ask, Some(entry)),
                or_else: vec![],
            })
            .await?;
        if done.result.succeeded {
            return Ok(layout::parse_view(
                &self.keyspace,
                ticket,
                ask,
                &entry.key,
                &done.result.results,
            ));
        }
        self.check_lease().await?;
        Ok(View {
            present: false,
            ahead: vec![],
        })
    }

    async fn watch(&self, entry: &EntryId, _: Watcher) -> Result<(), Error> {
        let key = KeyRange::One(entry.key.to_vec().into());
        // The watch is set before the read: an entry that was deleted before the watch is absent
        // now.
        let mut watcher = self
            .coordinator
            .watch(key.clone(), None)
            .map_err(to_session_error)?;
        let found = self
            .coordinator
            .range(Range {
                keys_only: true,
                ..Range::all(key)
            })
            .await;
        let found = found.map_err(to_session_error)?.result;
        if !found
            .kvs
            .iter()
            .any(|kv| kv.create_revision == layout::create_revision(entry))
        {
            return Ok(());
        }
        loop {
            match watcher.next().await {
                Ok(batch) if batch.events.iter().any(|event| event.deleted) => return Ok(()),
                Ok(_) => {}
                // An early wake-up is allowed: the caller reads the queue again.
                Err(crate::Error::SlowWatcher { .. }) => return Ok(()),
                Err(error) => return Err(to_session_error(error)),
            }
        }
    }

    async fn watch_behind(&self, ticket: &Ticket, entry: &EntryId) -> Result<Behind, Error> {
        let queue = layout::to_key_range(self.keyspace.lock(&ticket.name));
        // The watch is set before the read, so nothing comes between the two.
        let mut watcher = self
            .coordinator
            .watch(queue.clone(), None)
            .map_err(to_session_error)?;
        let done = self
            .txn(Txn {
                compare: layout::own_entry_exists(entry, self.id),
                then: vec![layout::read_behind(queue, entry)],
                or_else: vec![],
            })
            .await?;
        if !done.result.succeeded {
            self.check_lease().await?;
            return Ok(Behind::Gone);
        }
        if layout::has_found(&done.result) {
            return Ok(Behind::Somebody);
        }
        let own = entry.key.clone();
        Ok(Behind::Nobody(Box::pin(async move {
            let matters = |event: &Event| match event.deleted {
                true => *event.kv.key == *own,
                false => event.kv.create_revision == event.kv.mod_revision,
            };
            loop {
                match watcher.next().await {
                    Ok(batch) if batch.events.iter().any(|it| matters(it)) => return Ok(()),
                    Ok(_) => {}
                    // An early wake-up is allowed: the caller reads the queue again.
                    Err(crate::Error::SlowWatcher { .. }) => return Ok(()),
                    Err(error) => return Err(to_session_error(error)),
                }
            }
        })))
    }

    async fn remove(
        &self,
        ticket: &Ticket,
        entry: Option<&EntryId>,
        waiters: &[EntryId],
    ) -> Result<Removal, Error> {
        let mut removal = match entry {
            Some(entry) => layout::remove_if(&entry.key, layout::entry_exists(entry)),
            None => {
                let key = self
                    .keyspace
                    .entry_key(self.id, ticket, ticket.serial)
                    .into_bytes();
                layout::remove_if(&key, layout::key_exists(&key))
            }
        };
        removal.then.extend(layout::read_waiters(waiters));
        match self.txn(removal).await {
            Ok(done) => Ok(Removal {
                removed: layout::to_removed(&done.result),
                waiters: layout::present_waiters(&done.result, waiters),
            }),
            // All entries went with the session.
            Err(error) if matches!(error.kind(), ErrorKind::SessionLost(_)) => {
                Ok(Removed::AlreadyGone.into())
            }
            Err(error) => Err(error),
        }
    }

    async fn access(
        &self,
        _: &Ticket,
        entry: &EntryId,
        key: &DataKey,
        access: &Access,
    ) -> Result<Accessed, Error> {
        let key = Bytes::from(self.keyspace.data_key(key));
        let keys = KeyRange::One(key.clone());
        let op = match access {
            Access::Get => Op::Range(Range::all(keys)),
            Access::Put(value) => Op::Put(Put {
                key,
                value: Some(Bytes::copy_from_slice(value)),
                lease: Some(0),
                prev_kv: false,
            }),
            Access::Delete => Op::Delete(Delete {
                keys,
                prev_kv: false,
            }),
        };
        let done = self
            .txn(Txn {
                compare: layout::own_entry_exists(entry, self.id),
                then: vec![op],
                or_else: vec![],
            })
            .await?;
        if !done.result.succeeded {
            self.check_lease().await?;
            return Ok(Accessed::NotOurs);
        }
        let value = match done.result.results.first() {
            Some(OpResult::Range(found)) => found.kvs.first().map(|kv| kv.value.to_vec()),
            _ => None,
        };
        Ok(Accessed::Done(value))
    }

    async fn describe(
        &self,
        _: &Ticket,
        entry: &EntryId,
        metadata: &Metadata,
    ) -> Result<bool, Error> {
        let put = Op::Put(Put {
            key: Bytes::copy_from_slice(&entry.key),
            value: Some(metadata.to_bytes().into()),
            lease: Some(self.id.0),
            prev_kv: false,
        });
        let done = self
            .txn(Txn {
                compare: layout::own_entry_exists(entry, self.id),
                then: vec![put],
                or_else: vec![],
            })
            .await?;
        if !done.result.succeeded {
            self.check_lease().await?;
        }
        Ok(done.result.succeeded)
    }

    async fn metadata(&self, entry: &EntryId) -> Result<Option<Metadata>, Error> {
        let key = KeyRange::One(entry.key.to_vec().into());
        let found = self.coordinator.range(Range::all(key)).await;
        let found = found.map_err(to_session_error)?.result;
        Ok(found
            .kvs
            .first()
            .filter(|kv| kv.create_revision == layout::create_revision(entry))
            .and_then(|kv| Metadata::from_bytes(kv.value.as_ref())))
    }

    async fn close(&self) -> Result<(), Error> {
        self.renewal.abort();
        self.liveness.lose(LossReason::Closed);
        match self.coordinator.revoke(self.id.0).await {
            Ok(_) | Err(crate::Error::LeaseNotFound { .. } | crate::Error::Displaced { .. }) => {
                Ok(())
            }
            Err(error) => Err(to_lock_error(error)),
        }
    }
}

impl Drop for EmbeddedSession {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

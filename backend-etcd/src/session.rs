//! A session: a lease, renewed in the background, and the entries on it.

use std::collections::HashSet;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{Txn, TxnResponse};
use futures_util::future::select_all;
use lock_core::clock::{self, Clock};
use lock_core::liveness::{self, Liveness};
use lock_core::rule::{Ask, View};
use lock_core::session::{Admission, AsOf, Enqueued, Placed, Removed, Session, SessionId};
use lock_core::{Effect, EntryId, Error, ErrorKind, LossReason, State, Ticket, background};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::backend::Client;
use crate::error;
use crate::layout::{self, Found, Layout};
use crate::liveness::Renewer;

/// Longest time to live that etcd grants, in seconds.
const MAX_TTL_SECS: i64 = 9_000_000_000;
/// How often an enqueue that finds the gate moved tries again by itself: as often as entries are
/// removed meanwhile whose enqueue was cut short.
const GATE_TRIES: u32 = 32;

pub(crate) struct EtcdSession {
    id: SessionId,
    client: Arc<Client>,
    layout: Layout,
    liveness: Arc<Liveness>,
    renewal: AbortHandle,
    revoked: AtomicBool,
    /// The highest revision of the gate that is known; zero before it exists.
    gate: AtomicI64,
    /// Serials of tickets that have, or had, an enqueue under way whose outcome is not known.
    /// Bounded by the tickets in use.
    unsettled: Mutex<HashSet<u64>>,
}

/// Opens a session: on the background thread, so that one whose caller has gone away is closed
/// again.
pub(crate) async fn open(client: Arc<Client>, ttl: Duration) -> Result<Arc<dyn Session>, Error> {
    let (opened, opening) = oneshot::channel();
    background::handle().spawn(async move {
        let session = grant(client, ttl).await;
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

async fn grant(client: Arc<Client>, ttl: Duration) -> Result<Arc<EtcdSession>, Error> {
    let asked =
        i64::try_from(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)).unwrap_or(i64::MAX);
    let clock = Clock::system();
    let transport = &client.transport;
    let (sent, id, granted) = transport
        .persist(|| {
            let clock = clock.clone();
            transport.call(move |client| {
                let clock = clock.clone();
                async move {
                    let sent = clock.now();
                    let answer = client.lease_client().grant(asked, None).await?;
                    Ok((sent, answer.id(), answer.ttl()))
                }
            })
        })
        .await?;
    if id == 0 || !(1..=MAX_TTL_SECS).contains(&granted) {
        return Err(error::protocol(
            "a lease is granted without an id or a time to live",
        ));
    }
    // Positive, as was just seen.
    let ttl = Duration::from_secs(granted.unsigned_abs());
    let liveness = Liveness::new(clock, sent, clock::validity(ttl));
    let renewal = background::handle().spawn({
        let liveness = liveness.clone();
        let renewer = Arc::new(Renewer::new(transport.clone(), id, ttl));
        async move {
            let renew = || {
                let renewer = renewer.clone();
                async move { renewer.attempt().await }
            };
            liveness::keep_alive(&liveness, ttl, renew).await;
        }
    });
    let id = SessionId(id);
    Ok(Arc::new(EtcdSession {
        id,
        layout: Layout::new(client.keyspace.clone(), id),
        client,
        liveness,
        renewal: renewal.abort_handle(),
        revoked: AtomicBool::new(false),
        gate: AtomicI64::new(0),
        unsettled: Mutex::default(),
    }))
}

impl EtcdSession {
    fn check_alive(&self) -> Result<(), Error> {
        match self.liveness.state() {
            State::Lost(reason) => Err(error::lost(reason)),
            State::Held | State::Jeopardy => Ok(()),
        }
    }

    /// One attempt.
    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        let answer = self
            .client
            .transport
            .call(move |client| {
                let txn = txn.clone();
                async move { client.kv_client().txn(txn).await }
            })
            .await;
        if let Err(error) = &answer
            && let ErrorKind::SessionLost(reason) = error.kind()
        {
            self.liveness.lose(reason);
        }
        answer
    }

    /// One attempt of an enqueue. From before it is sent until its outcome is known, its ticket
    /// counts as unsettled.
    async fn try_enqueue(
        &self,
        ticket: &Ticket,
        ask: Ask,
        admission: Admission,
    ) -> Result<Found, Error> {
        let first = self.unsettled().insert(ticket.serial);
        let gate = self.gate.load(Ordering::SeqCst);
        let txn = self.layout.enqueue(ticket, ask, admission, gate);
        let answer = self.txn(txn).await;
        let known = answer.as_ref().map_or_else(Error::effect, |_| Effect::None) == Effect::None;
        if first && known {
            self.unsettled().remove(&ticket.serial);
        }
        self.layout.enqueued(ticket, ask, gate, &answer?)
    }

    /// Our entry was not there. Tells whether that is because the lease is not either.
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
            // Then the renewals will tell.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn unsettled(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        self.unsettled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
        for _ in 0..GATE_TRIES {
            self.check_alive()?;
            let entry = |token| EntryId {
                key: self.layout.key(ticket).into_bytes().into(),
                token,
            };
            match self.try_enqueue(ticket, ask, admission).await? {
                Found::Made(token, ahead) => {
                    let present = true;
                    return Ok(Enqueued::Placed(Placed {
                        entry: entry(token),
                        view: View { present, ahead },
                    }));
                }
                Found::Own(token) => {
                    let entry = entry(token);
                    let view = self.look(ticket, &entry, ask, AsOf::Now).await?;
                    return Ok(Enqueued::Placed(Placed { entry, view }));
                }
                Found::Busy if admission == Admission::IfFree => return Ok(Enqueued::Busy),
                // Nothing else can have made the transaction fail.
                Found::Busy => return Err(error::protocol("an enqueue failed for no reason")),
                Found::Foreign => {
                    return Err(Error::new(
                        ErrorKind::Internal,
                        format!(
                            "another client took the key {:?} that only this session makes",
                            self.layout.key(ticket)
                        ),
                    ));
                }
                Found::Shut(revision) => {
                    // Not a maximum: a gate that somebody deleted begins anew.
                    self.gate.store(revision, Ordering::SeqCst);
                }
            }
        }
        Err(Error::new(
            ErrorKind::Exhausted,
            "too many acquires of this session are being cancelled to take up a new one now",
        ))
    }

    async fn look(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        ask: Ask,
        _: AsOf,
    ) -> Result<View, Error> {
        self.check_alive()?;
        let answer = self.txn(self.layout.look(ticket, entry, ask)).await?;
        let view = self.layout.looked(ticket, entry, ask, &answer)?;
        if !view.present {
            self.check_lease().await?;
        }
        Ok(view)
    }

    async fn changed(&self, entries: &[EntryId]) -> Result<(), Error> {
        self.check_alive()?;
        if entries.is_empty() {
            return pending().await;
        }
        let mut watches: Vec<_> = entries
            .iter()
            .map(|entry| self.client.watches.add(entry.key.clone()))
            .collect();
        for watch in &mut watches {
            if watch.created().await? {
                return Ok(());
            }
        }
        // What went before the watches began.
        let answer = self.txn(layout::all_present(entries)).await?;
        if !answer.succeeded() {
            return Ok(());
        }
        let gone = watches.iter_mut().map(|watch| Box::pin(watch.gone()));
        select_all(gone).await.0
    }

    async fn remove(&self, ticket: &Ticket, entry: Option<&EntryId>) -> Result<Removed, Error> {
        let settled = entry.filter(|_| !self.unsettled().contains(&ticket.serial));
        let transport = &self.client.transport;
        // Whether an earlier try of this removal may have done it.
        let doubtful = AtomicBool::new(false);
        let removed = transport
            .persist(|| async {
                let txn = match settled {
                    Some(entry) => self.layout.remove(entry),
                    None => self.layout.remove_for_good(ticket),
                };
                match (self.txn(txn).await, settled) {
                    (Ok(answer), Some(_)) if answer.succeeded() => Ok(Removed::Removed),
                    (Ok(_), Some(_)) => Ok(Removed::AlreadyGone),
                    (Ok(answer), None) => {
                        let (removed, gate) = self.layout.removed_for_good(entry, &answer)?;
                        self.gate.fetch_max(gate, Ordering::SeqCst);
                        Ok(removed)
                    }
                    // With the lease went all that was on it, and what is under way cannot be put
                    // on it any more.
                    (Err(error), _) if matches!(error.kind(), ErrorKind::SessionLost(_)) => {
                        Ok(Removed::AlreadyGone)
                    }
                    (Err(error), _) => {
                        if error.effect() == Effect::Unknown {
                            doubtful.store(true, Ordering::SeqCst);
                        }
                        Err(error)
                    }
                }
            })
            .await?;
        self.unsettled().remove(&ticket.serial);
        Ok(match removed {
            Removed::AlreadyGone if doubtful.into_inner() => Removed::Removed,
            removed => removed,
        })
    }

    async fn close(&self) -> Result<(), Error> {
        self.renewal.abort();
        let gone = self.liveness.state() == State::Lost(LossReason::SessionGone);
        // Before the first word of it to the server: nobody may believe longer than it lasts.
        self.liveness.lose(LossReason::Closed);
        if gone || self.revoked.load(Ordering::SeqCst) {
            return Ok(());
        }
        let id = self.id.0;
        let transport = &self.client.transport;
        let revoked = transport
            .persist(|| {
                transport.call(move |client| async move { client.lease_client().revoke(id).await })
            })
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

//! Enqueues entries.

use std::sync::Arc;

use lock_core::rule::{Ask, View};
use lock_core::session::{Admission, AsOf, Enqueued, Placed, Session};
use lock_core::{Effect, EntryId, Error, ErrorKind, LockName, LossReason, Ticket};

use super::protocol::EnqueueAttempt;
use super::{EPOCH_TRIES, EtcdSession};
use crate::error;
use crate::group::Change;
use crate::layout::{self, Found};
use crate::offset;

impl EtcdSession {
    /// Enqueues an entry for the ticket, or finds the entry of an earlier attempt. Refuses if its
    /// token might be lower than one from before the store went back.
    pub(super) async fn enqueue_entry(
        &self,
        ticket: &Ticket,
        ask: Ask,
        admission: Admission,
    ) -> Result<Enqueued, Error> {
        self.check_alive()?;
        self.check_tokens(&ticket.name).await?;
        let enqueued = self.enqueue_on_this_store(ticket, ask, admission).await;
        if let Err(error) = &enqueued
            && error.kind() == ErrorKind::SessionLost(LossReason::StoreGone)
        {
            // The next session would most likely be refused as well, so the refusal says more. There
            // is no await between the loss and this, or else the caller would hear of the loss only.
            let checked = self.check_known_tokens(&ticket.name);
            checked.map_err(|error| error.with_effect(Effect::Unknown))?;
        }
        enqueued
    }

    /// Checks that the token of a new entry will be higher than those from before the store went
    /// back, if it did.
    async fn check_tokens(&self, name: &LockName) -> Result<(), Error> {
        let checked = self.check_known_tokens(name);
        if checked.is_ok() || name.is_raw() {
            return checked;
        }
        // The offset may have been raised by now.
        self.protocol
            .learn_offset(offset::read(&self.client).await?);
        self.check_known_tokens(name)
    }

    /// Does the same with the offset that is known.
    fn check_known_tokens(&self, name: &LockName) -> Result<(), Error> {
        let known = self.protocol.known_offset().offset;
        let offset = (!name.is_raw()).then_some(known);
        self.client.transport.continuity.check_tokens(offset)
    }

    async fn enqueue_on_this_store(
        &self,
        ticket: &Ticket,
        ask: Ask,
        admission: Admission,
    ) -> Result<Enqueued, Error> {
        for _ in 0..EPOCH_TRIES {
            self.check_alive()?;
            let sent = self.client.transport.continuity.begin_write();
            let attempt = self.protocol.begin_enqueue(ticket);
            let found = self.try_enqueue(ticket, &attempt, ask, admission).await?;
            let EnqueueAttempt { key, offset, .. } = &attempt;
            let found_offset = match &found {
                Found::Made(..) | Found::Own(_) | Found::Refused(_) => Some(offset.offset),
                Found::Raised(now) => Some(now.offset),
                Found::Foreign | Found::Shut(_) | Found::Busy => None,
            };
            if let Some(found) = found_offset.filter(|_| !ticket.name.is_raw()) {
                self.client.transport.continuity.note_offset(sent, found);
                self.check_answer()?;
            }
            let entry = |incarnation| EntryId {
                key: key.as_bytes().into(),
                incarnation: Some(incarnation),
            };
            match found {
                Found::Made(incarnation, ahead) => {
                    let view = View {
                        present: true,
                        ahead,
                    };
                    let entry = entry(incarnation);
                    let placed = Placed::on(offset.offset, &ticket.name, entry, view)?;
                    return Ok(Enqueued::Placed(placed));
                }
                Found::Own(_) if attempt.is_first => {
                    // The session had removed all that it ever put at this key.
                    self.client.transport.continuity.note_return(self.era);
                    self.check_alive()?;
                }
                Found::Own(incarnation) | Found::Refused(incarnation) => {
                    if attempt.is_first {
                        // The refusal has no revision. That of the entry shows whether the store went
                        // back to one that had an entry at this key.
                        let made_at = incarnation.get();
                        self.client.transport.continuity.end_write(sent, 0, made_at);
                        self.check_answer()?;
                    }
                    let entry = entry(incarnation);
                    let view = self.look(ticket, &entry, ask, AsOf::Now).await;
                    let view = view.map_err(|error| error.with_effect(Effect::Unknown))?;
                    // The offset is never raised while there is an entry, so the entry was made on
                    // this offset.
                    let placed = Placed::on(offset.offset, &ticket.name, entry, view)?;
                    return Ok(Enqueued::Placed(placed));
                }
                Found::Busy if admission == Admission::IfFree => return Ok(Enqueued::Busy),
                // No other condition can have made the transaction fail.
                Found::Busy => return Err(error::protocol("an enqueue failed for no reason")),
                Found::Foreign => {
                    return Err(Error::new(
                        ErrorKind::Internal,
                        format!("another client took the key {key:?} that only this session makes"),
                    ));
                }
                // The next attempt knows the new state.
                Found::Raised(_) | Found::Shut(_) => {}
            }
        }
        Err(Error::new(
            ErrorKind::Exhausted,
            "too many acquires of this session are being cancelled to take up a new one now",
        ))
    }

    /// Makes one attempt to enqueue. An etcd over its quota may have made the entry that it refuses, and
    /// still answers a read of the entry's key.
    async fn try_enqueue(
        &self,
        ticket: &Ticket,
        attempt: &EnqueueAttempt,
        ask: Ask,
        admission: Admission,
    ) -> Result<Found, Error> {
        let txn = self.protocol.enqueue_txn(ticket, attempt, ask, admission);
        let made = Change::Make(attempt.key.as_bytes());
        let outcome = self.entry_txn(ticket, made, Arc::new(txn)).await;
        let refusal = match outcome {
            Err(error) if error::is_over_quota(&error) => error,
            outcome => return self.protocol.end_enqueue(ticket, attempt, ask, outcome),
        };
        // Before the read, which may be given up: no copy of the request is under way.
        let refused = self
            .protocol
            .end_enqueue(ticket, attempt, ask, Err(refusal));
        let found = self.read_beside(attempt.key.as_bytes()).await;
        match found {
            Ok(Some(kv)) if kv.lease == self.id.0 => {
                layout::parse_incarnation(kv.create_revision).map(Found::Refused)
            }
            Ok(_) => {
                self.protocol.end_without_entry(ticket, attempt);
                refused.map_err(|error| error.with_effect(Effect::None))
            }
            Err(_) => refused,
        }
    }
}

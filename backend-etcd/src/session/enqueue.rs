//! Enqueues entries.

use std::sync::Arc;

use lock_core::rule::{Ask, View};
use lock_core::session::{Admission, AsOf, Enqueued, Placed, Session};
use lock_core::{EntryId, Error, ErrorKind, Ticket};

use super::protocol::EnqueueAttempt;
use super::{EPOCH_TRIES, EtcdSession};
use crate::error;
use crate::group::Change;
use crate::layout::Found;

impl EtcdSession {
    /// Enqueues an entry for the ticket, or finds the entry of an earlier attempt.
    pub(super) async fn enqueue_entry(
        &self,
        ticket: &Ticket,
        ask: Ask,
        admission: Admission,
    ) -> Result<Enqueued, Error> {
        for _ in 0..EPOCH_TRIES {
            self.check_alive()?;
            let attempt = self.protocol.begin_enqueue(ticket);
            let found = self.try_enqueue(ticket, &attempt, ask, admission).await?;
            let EnqueueAttempt { key, offset, .. } = &attempt;
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
                Found::Own(incarnation) => {
                    let entry = entry(incarnation);
                    let view = self.look(ticket, &entry, ask, AsOf::Now).await?;
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

    /// Makes one attempt to enqueue.
    async fn try_enqueue(
        &self,
        ticket: &Ticket,
        attempt: &EnqueueAttempt,
        ask: Ask,
        admission: Admission,
    ) -> Result<Found, Error> {
        let txn = self.protocol.enqueue_txn(ticket, attempt, ask, admission);
        let made = Change::Make(attempt.key.as_bytes());
        let answer = self.entry_txn(ticket, made, Arc::new(txn)).await;
        self.protocol.end_enqueue(ticket, attempt, ask, answer)
    }
}

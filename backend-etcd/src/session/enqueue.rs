//! Enqueues entries.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lock_core::rule::{Ask, View};
use lock_core::session::{Admission, AsOf, Enqueued, Placed, Session};
use lock_core::{Effect, EntryId, Error, ErrorKind, KnownTokenOffset, Ticket};

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
            let offset = *self.offset();
            let (slot, certain) = self.key_slots.begin(ticket.serial);
            let key = self.layout.key(ticket, slot);
            let found = self
                .try_enqueue(ticket, &key, certain, ask, admission, offset)
                .await?;
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
                Found::Raised(now) => *self.offset() = now,
                Found::Shut(revision) => {
                    // Not the maximum: if somebody deleted the epoch's key, the epoch begins anew.
                    self.epoch.store(revision, Ordering::SeqCst);
                }
            }
        }
        Err(Error::new(
            ErrorKind::Exhausted,
            "too many acquires of this session are being cancelled to take up a new one now",
        ))
    }

    /// Makes one attempt to enqueue the entry with this key. The slot counts as uncertain from the
    /// time before the request is sent until its outcome is known.
    async fn try_enqueue(
        &self,
        ticket: &Ticket,
        key: &str,
        certain: bool,
        ask: Ask,
        admission: Admission,
        offset: KnownTokenOffset,
    ) -> Result<Found, Error> {
        let epoch = self.epoch.load(Ordering::SeqCst);
        let txn = self
            .layout
            .enqueue(ticket, key, ask, admission, epoch, offset);
        let made = Change::Make(key.as_bytes());
        let answer = self.entry_txn(ticket, made, Arc::new(txn)).await;
        let outcome_known =
            answer.as_ref().map_or_else(Error::effect, |_| Effect::None) == Effect::None;
        if certain && outcome_known {
            self.key_slots.resolve(ticket.serial);
        }
        let found = answer.and_then(|answer| {
            self.layout
                .parse_enqueue(ticket, ask, epoch, offset, &answer)
        });
        let placed = matches!(found, Ok(Found::Made(..) | Found::Own(_)));
        if certain && outcome_known && !placed {
            self.key_slots.free(ticket.serial);
        }
        found
    }
}

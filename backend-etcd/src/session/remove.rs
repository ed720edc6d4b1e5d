//! Removes entries.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lock_core::session::{Removal, Removed};
use lock_core::{EntryId, Error, ErrorKind, LossReason, State, Ticket};

use super::EtcdSession;
use crate::group::Change;
use crate::layout;

impl EtcdSession {
    /// Removes the entry of a ticket, and reads which of the waiters' entries exist.
    pub(super) async fn remove_entry(
        &self,
        ticket: &Ticket,
        entry: Option<&EntryId>,
        waiters: &[EntryId],
    ) -> Result<Removal, Error> {
        // Remove by the incarnation if the ticket cannot have made another entry; otherwise remove
        // for good.
        let slot = self.key_slots.get(ticket.serial);
        let certain_entry = entry.filter(|_| slot.is_none_or(|slot| !slot.is_uncertain));
        let (for_good, txn) = match (certain_entry, slot) {
            (Some(entry), _) => (false, layout::remove(entry, waiters)),
            (None, None) => return Ok(Removed::AlreadyGone.into()),
            (None, Some(_)) => {
                let (slot, _) = self.key_slots.begin(ticket.serial);
                (true, self.layout.remove_for_good(ticket, slot))
            }
        };
        if self.liveness.state() == State::Lost(LossReason::StoreGone) {
            self.key_slots.free(ticket.serial);
            return Ok(Removed::AlreadyGone.into());
        }
        let answer = match certain_entry {
            Some(entry) => {
                let removed = Change::Remove(&entry.key);
                self.entry_txn(ticket, removed, Arc::new(txn)).await
            }
            None => self.txn(txn).await,
        };
        let removal = match answer {
            Ok(answer) if for_good => {
                let (removed, epoch) = self.layout.parse_remove_for_good(entry, &answer)?;
                self.epoch.fetch_max(epoch, Ordering::SeqCst);
                removed.into()
            }
            Ok(answer) if answer.succeeded() => Removal {
                removed: Removed::Removed,
                waiters: layout::present_waiters(&answer, waiters),
            },
            Ok(_) => Removed::AlreadyGone.into(),
            // All entries on the lease went with it, and a request under way can put nothing on it
            // any more.
            Err(error) if matches!(error.kind(), ErrorKind::SessionLost(_)) => {
                Removed::AlreadyGone.into()
            }
            Err(error) => return Err(error),
        };
        self.key_slots.free(ticket.serial);
        Ok(removal)
    }
}

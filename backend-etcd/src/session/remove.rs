//! Removes entries.

use lock_core::session::{Removal, Removed};
use lock_core::{EntryId, Error, LossReason, State, Ticket};

use super::EtcdSession;
use super::protocol::RemovalAttempt;
use crate::group::Change;

impl EtcdSession {
    /// Removes the entry of a ticket, and reads which of the waiters' entries exist.
    pub(super) async fn remove_entry(
        &self,
        ticket: &Ticket,
        entry: Option<&EntryId>,
        waiters: &[EntryId],
    ) -> Result<Removal, Error> {
        let Some((attempt, txn)) = self.protocol.begin_removal(ticket, entry, waiters) else {
            return Ok(Removed::AlreadyGone.into());
        };
        if self.liveness.state() == State::Lost(LossReason::StoreGone) {
            self.protocol.forget(ticket);
            return Ok(Removed::AlreadyGone.into());
        }
        let answer = match (txn, entry) {
            (Some(txn), _) if attempt == RemovalAttempt::ForGood => self.write(txn).await,
            (txn, Some(entry)) => {
                let removed = Change::Remove(&entry.key);
                self.change_queue(ticket, removed, txn).await
            }
            (_, None) => unreachable!("only a removal for good does without the entry"),
        };
        self.protocol
            .end_removal(ticket, entry, waiters, attempt, answer)
    }
}

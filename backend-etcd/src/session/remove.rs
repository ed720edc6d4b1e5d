//! Removes entries.

use std::sync::Arc;

use etcd_client::proto::PbKeyValue;
use lock_core::session::{Removal, Removed};
use lock_core::{EntryId, Error, LossReason, State, Ticket};

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
        let Some((txn, attempt)) = self.protocol.begin_removal(ticket, entry, waiters) else {
            return Ok(Removed::AlreadyGone.into());
        };
        if self.liveness.state() == State::Lost(LossReason::StoreGone) {
            self.protocol.forget(ticket);
            return Ok(Removed::AlreadyGone.into());
        }
        let answer = match entry.filter(|_| !attempt.is_for_good) {
            Some(entry) => {
                let removed = Change::Remove(&entry.key);
                self.entry_txn(ticket, removed, Arc::new(txn)).await
            }
            None => self.write(txn).await,
        };
        let answer = match (answer, entry) {
            (Err(error), Some(entry)) => {
                let created = layout::create_revision(entry);
                let is_gone =
                    |kv: Option<&PbKeyValue>| kv.is_none_or(|kv| kv.create_revision != created);
                Err(self.settle_refusal(error, &entry.key, is_gone).await)
            }
            (answer, _) => answer,
        };
        self.protocol
            .end_removal(ticket, entry, waiters, attempt, answer)
    }
}

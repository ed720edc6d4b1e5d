//! The values that holders keep. They are read and changed in transactions that succeed only while
//! the holder's entry exists.

use etcd_client::proto::PbKeyValue;
use etcd_client::{GetOptions, PutOptions, Txn, TxnOp};
use lock_core::{Access, Accessed, EntryId, Error, ErrorKind, Metadata, Ticket};

use super::protocol::AccessOutcome;
use super::{EPOCH_TRIES, EtcdSession};
use crate::layout::{self, Consistency};

impl EtcdSession {
    pub(super) async fn read_data(&self, entry: &EntryId, key: &str) -> Result<Accessed, Error> {
        self.check_alive()?;
        let read = Txn::new()
            .when(self.protocol.layout().own_entry_exists(entry))
            .and_then([TxnOp::get(key, None)])
            .or_else([layout::get_key_only(&*entry.key, Consistency::Cluster)]);
        let answer = self.txn(read).await?;
        if !answer.succeeded() {
            self.check_lease().await?;
            return Ok(Accessed::NotOurs);
        }
        Ok(Accessed::Done(layout::read_value(&answer)))
    }

    /// Makes an access after which no earlier change is carried out any more. See
    /// [`Protocol::begin_access`](super::Protocol::begin_access).
    pub(super) async fn access_in_order(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        key: &str,
        access: &Access,
    ) -> Result<Accessed, Error> {
        for _ in 0..EPOCH_TRIES {
            self.check_alive()?;
            let (txn, attempt) = self.protocol.begin_access(ticket, entry, key, access);
            let answer = match self.write(txn).await {
                Err(error) => {
                    let is_done = |kv: Option<&PbKeyValue>| match access {
                        Access::Get => false,
                        Access::Put(value) => kv.is_some_and(|kv| kv.value == **value),
                        Access::Delete => kv.is_none(),
                    };
                    Err(self.settle_refusal(error, key.as_bytes(), is_done).await)
                }
                answer => answer,
            };
            match self.protocol.end_access(ticket, entry, attempt, answer)? {
                AccessOutcome::Done(found) => return Ok(Accessed::Done(found)),
                AccessOutcome::NotOurs => {
                    self.check_lease().await?;
                    return Ok(Accessed::NotOurs);
                }
                // The next attempt knows the new epoch.
                AccessOutcome::EpochMoved => {}
            }
        }
        Err(Error::new(
            ErrorKind::Exhausted,
            "this session cannot access a value now: too many of its requests are in doubt",
        ))
    }

    /// Writes the entry's own key. A copy of the request that arrives late finds the same entry, or
    /// none.
    pub(super) async fn describe_entry(
        &self,
        entry: &EntryId,
        metadata: &Metadata,
    ) -> Result<bool, Error> {
        self.check_alive()?;
        // Without the session's lease, the key would outlive the session.
        let options = PutOptions::new().with_lease(self.id.0);
        let put = TxnOp::put(&*entry.key, metadata.to_bytes(), Some(options));
        let answer = self
            .write(
                Txn::new()
                    .when(self.protocol.layout().own_entry_exists(entry))
                    .and_then([put]),
            )
            .await?;
        if !answer.succeeded() {
            self.check_lease().await?;
        }
        Ok(answer.succeeded())
    }

    /// Reads what an entry says of its contender. One member's reply is enough: nothing is decided
    /// by it.
    pub(super) async fn read_metadata(&self, entry: &EntryId) -> Result<Option<Metadata>, Error> {
        self.check_alive()?;
        let options = GetOptions::new().with_serializable();
        let read = Txn::new().and_then([TxnOp::get(&*entry.key, Some(options))]);
        let answer = self.txn(read).await?;
        let found = layout::reads(&answer).find_map(|read| read.kvs.first());
        Ok(found
            .filter(|kv| kv.create_revision == layout::create_revision(entry))
            .and_then(|kv| Metadata::from_bytes(&kv.value)))
    }
}

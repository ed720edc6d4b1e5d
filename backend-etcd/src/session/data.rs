//! The values that holders keep. They are read and changed in transactions that succeed only while
//! the holder's entry exists.

use etcd_client::{GetOptions, PutOptions, Txn, TxnOp};
use lock_core::{Accessed, EntryId, Error, ErrorKind, Metadata, Ticket};

use super::protocol::Changed;
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
        let found = layout::reads(&answer).find_map(|read| read.kvs.first());
        Ok(Accessed::Done(found.map(|kv| kv.value.clone())))
    }

    /// Sets the value, or removes it. See [`Protocol::begin_change`](super::Protocol::begin_change).
    pub(super) async fn change_data(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<Accessed, Error> {
        for _ in 0..EPOCH_TRIES {
            self.check_alive()?;
            let (txn, attempt) = self.protocol.begin_change(ticket, entry, key, value);
            let answer = self.write(txn).await;
            match self.protocol.end_change(ticket, entry, attempt, answer)? {
                Changed::Done => return Ok(Accessed::Done(None)),
                Changed::NotOurs => {
                    self.check_lease().await?;
                    return Ok(Accessed::NotOurs);
                }
                // The next attempt knows the new epoch.
                Changed::EpochMoved => {}
            }
        }
        Err(Error::new(
            ErrorKind::Exhausted,
            "too many acquires of this session are being cancelled to write a value now",
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

//! The values that holders keep. They are read and changed in transactions that succeed only while
//! the holder's entry exists.

use std::sync::atomic::Ordering;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use lock_core::{Accessed, Effect, EntryId, Error, ErrorKind, Metadata, Ticket};

use super::{EPOCH_TRIES, EtcdSession};
use crate::error;
use crate::layout::{self, Consistency};

impl EtcdSession {
    pub(super) async fn read_data(&self, entry: &EntryId, key: &str) -> Result<Accessed, Error> {
        self.check_alive()?;
        let read = Txn::new()
            .when(self.own_entry_exists(entry))
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

    /// Sets the value, or removes it.
    ///
    /// If the reply to an attempt was lost, or its caller was dropped, a copy of the request may
    /// still lie in the socket of a member that stands still. The member must not carry the copy
    /// out after the holder's next write. So every attempt compares the session's epoch, as an
    /// enqueue does, and the attempt after such a copy moves the epoch.
    pub(super) async fn change_data(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<Accessed, Error> {
        for _ in 0..EPOCH_TRIES {
            self.check_alive()?;
            let epoch = self.epoch.load(Ordering::SeqCst);
            let (_, certain) = self.key_slots.begin(ticket.serial);
            let answer = self
                .txn(self.change(entry, key, value, epoch, !certain))
                .await;
            let known =
                answer.as_ref().map_or_else(Error::effect, |_| Effect::None) == Effect::None;
            if certain && known {
                self.key_slots.resolve(ticket.serial);
            }
            let answer = answer?;
            if answer.succeeded() {
                if !certain {
                    let moved = layout::revision(&answer)?;
                    self.epoch.fetch_max(moved, Ordering::SeqCst);
                    self.key_slots.resolve(ticket.serial);
                }
                return Ok(Accessed::Done(None));
            }
            let mut reads = layout::reads(&answer);
            let (Some(own), Some(now)) = (reads.next(), reads.next()) else {
                return Err(error::protocol("a change is not answered by two reads"));
            };
            let present = own.kvs.first().is_some_and(|kv| {
                kv.create_revision == layout::create_revision(entry) && kv.lease == self.id.0
            });
            if !present {
                self.check_lease().await?;
                return Ok(Accessed::NotOurs);
            }
            let now = now.kvs.first().map_or(0, |kv| kv.mod_revision);
            // Not the maximum: if somebody deleted the epoch's key, the epoch begins anew.
            self.epoch.store(now, Ordering::SeqCst);
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
            .txn(
                Txn::new()
                    .when(self.own_entry_exists(entry))
                    .and_then([put]),
            )
            .await?;
        if !answer.succeeded() {
            self.check_lease().await?;
        }
        Ok(answer.succeeded())
    }

    fn change(
        &self,
        entry: &EntryId,
        key: &str,
        value: Option<&[u8]>,
        epoch: i64,
        move_epoch: bool,
    ) -> Txn {
        let mut compares = self.own_entry_exists(entry).to_vec();
        compares.push(Compare::mod_revision(
            self.layout.epoch(),
            CompareOp::Equal,
            epoch,
        ));
        let mut operations = vec![match value {
            Some(value) => TxnOp::put(key, value, None),
            None => TxnOp::delete(key, None),
        }];
        if move_epoch {
            let options = PutOptions::new().with_lease(self.id.0);
            operations.push(TxnOp::put(self.layout.epoch(), [], Some(options)));
        }
        Txn::new().when(compares).and_then(operations).or_else([
            layout::get_key_only(&*entry.key, Consistency::Cluster),
            layout::get_key_only(self.layout.epoch(), Consistency::Cluster),
        ])
    }

    /// Returns the conditions that the entry exists and is on the session's lease. A key that
    /// somebody put again without the lease would outlive the session.
    fn own_entry_exists(&self, entry: &EntryId) -> [Compare; 2] {
        [
            layout::entry_exists(entry),
            Compare::lease(&*entry.key, CompareOp::Equal, self.id.0),
        ]
    }
}

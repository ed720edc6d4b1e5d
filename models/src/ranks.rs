//! Revisions by their ranks. The protocols compare revisions with each other and do nothing else with
//! them. So two states whose revisions stand in the same order are the same state.

use std::hash::{Hash, Hasher};

use backend_embedded::machine::op::KeyValue;
use etcd_client::TxnResponse;
use etcd_client::proto::{PbKeyValue, PbTxnOpResponse as Answer};
use lock_core::Error;

/// The reply to a transaction.
pub type Reply = Result<TxnResponse, Error>;

/// The revisions of one state. They are collected first, and then looked up.
#[derive(Debug, Default)]
pub struct Ranks(Vec<u64>);

impl Ranks {
    pub fn add(&mut self, revision: u64) {
        self.0.push(revision);
    }

    pub fn add_key(&mut self, kv: &KeyValue) {
        self.0.extend([kv.create_revision, kv.mod_revision]);
    }

    pub fn add_reply(&mut self, reply: &Reply) {
        if let Ok(reply) = reply {
            self.0.push(revision_of(reply));
            for kv in keys_of(reply) {
                let both = [kv.create_revision, kv.mod_revision];
                self.0.extend(both.map(i64::unsigned_abs));
            }
        }
    }

    /// Ends the collection. Zero, which means "none", is always the lowest.
    pub fn sort(&mut self) {
        self.0.push(0);
        self.0.sort_unstable();
        self.0.dedup();
    }

    /// Returns the rank of a revision that was collected.
    pub fn get(&self, revision: u64) -> usize {
        let found = self.0.binary_search(&revision);
        found.expect("every revision of the state was collected")
    }

    pub fn hash_key(&self, kv: &KeyValue, hasher: &mut impl Hasher) {
        (&kv.key, &kv.value, kv.lease).hash(hasher);
        (self.get(kv.create_revision), self.get(kv.mod_revision)).hash(hasher);
    }

    pub fn hash_reply(&self, reply: &Reply, hasher: &mut impl Hasher) {
        let reply = match reply {
            Ok(reply) => reply,
            // The only error in a reply is that the lease is gone.
            Err(_) => return u8::MAX.hash(hasher),
        };
        reply.0.succeeded.hash(hasher);
        self.get(revision_of(reply)).hash(hasher);
        for kv in keys_of(reply) {
            let revisions = [kv.create_revision, kv.mod_revision];
            let ranks = revisions.map(|revision| self.get(revision.unsigned_abs()));
            (&kv.key, kv.lease, ranks).hash(hasher);
        }
    }
}

fn revision_of(reply: &TxnResponse) -> u64 {
    let header = reply.0.header.as_ref();
    header.map_or(0, |header| header.revision.unsigned_abs())
}

/// Returns the keys in a reply, read or deleted. Which operation each belongs to follows from the key.
fn keys_of(reply: &TxnResponse) -> impl Iterator<Item = &PbKeyValue> {
    let operations = reply.0.responses.iter();
    operations.flat_map(|operation| match &operation.response {
        Some(Answer::ResponseRange(read)) => &read.kvs[..],
        Some(Answer::ResponseDeleteRange(delete)) => &delete.prev_kvs[..],
        _ => &[],
    })
}

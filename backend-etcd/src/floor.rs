//! The floor under the tokens, as it lies in etcd.

use etcd_client::proto::PbKeyValue;
use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use lock_core::keyspace::Keyspace;
use lock_core::{Error, Floor, KnownFloor, Raised};

use crate::backend::Client;
use crate::layout;

/// What a read of the floor's key says.
pub(crate) fn known(keyspace: &Keyspace, found: Option<&PbKeyValue>) -> Result<KnownFloor, Error> {
    let Some(kv) = found else {
        return Ok(KnownFloor::default());
    };
    Ok(KnownFloor {
        floor: Floor::from_bytes(&kv.value, &keyspace.floor_key())?,
        revision: kv.mod_revision.unsigned_abs(),
    })
}

/// The floor is still what is known of it.
pub(crate) fn still(keyspace: &Keyspace, known: KnownFloor) -> Compare {
    let revision = i64::try_from(known.revision).unwrap_or(i64::MAX);
    Compare::mod_revision(keyspace.floor_key(), CompareOp::Equal, revision)
}

/// The floor as it is now.
pub(crate) async fn read(client: &Client) -> Result<KnownFloor, Error> {
    let read = Txn::new().and_then([TxnOp::get(client.keyspace.floor_key(), None)]);
    let transport = &client.transport;
    let answer = transport
        .persist(|| {
            let read = read.clone();
            transport.txn(move || read.clone())
        })
        .await?;
    let found = layout::reads(&answer).find_map(|read| read.kvs.first());
    known(&client.keyspace, found)
}

/// Raises the floor, if no entry of a native lock is there. Entries are made only by those who know
/// the floor as it is, so no session has to be asked.
pub(crate) async fn raise(client: &Client, floor: Floor) -> Result<Raised, Error> {
    let keyspace = &client.keyspace;
    let transport = &client.transport;
    let key = keyspace.floor_key();
    transport
        .persist(|| async {
            let mut now = KnownFloor::default();
            loop {
                let locks = keyspace.locks("", None).into_iter();
                // The comparison of a range with zero holds for an empty one.
                let unused = locks.map(|span| {
                    Compare::create_revision(span.start, CompareOp::Equal, 0).with_range(span.end)
                });
                let compares: Vec<Compare> = unused.chain([still(keyspace, now)]).collect();
                let raise = Txn::new()
                    .when(compares)
                    .and_then([TxnOp::put(&*key, floor.to_bytes(), None)])
                    .or_else([TxnOp::get(&*key, None)]);
                let answer = transport.txn(move || raise.clone()).await?;
                if answer.succeeded() {
                    return Ok(Raised::To(floor));
                }
                let found = layout::reads(&answer).find_map(|read| read.kvs.first());
                let before = std::mem::replace(&mut now, known(keyspace, found)?);
                if now.floor >= floor {
                    return Ok(Raised::To(now.floor));
                }
                if now == before {
                    return Ok(Raised::InUse);
                }
            }
        })
        .await
}

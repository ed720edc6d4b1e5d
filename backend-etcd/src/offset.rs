//! The token offset in etcd: reading and raising it.

use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use lock_core::{Error, KnownTokenOffset, Raised, TokenOffset};

use crate::client::Client;
use crate::layout;

/// Reads the present offset.
pub(crate) async fn read(client: &Client) -> Result<KnownTokenOffset, Error> {
    let read = Txn::new().and_then([TxnOp::get(client.keyspace.token_offset_key(), None)]);
    let transport = &client.transport;
    let answer = transport.txn(move || read.clone()).await?;
    let found = layout::reads(&answer).find_map(|read| read.kvs.first());
    layout::parse_offset(&client.keyspace, found)
}

/// Raises the offset, if no native lock has an entry. An enqueue compares the offset that its
/// session knows, so no session has to be asked.
pub(crate) async fn raise(client: &Client, offset: TokenOffset) -> Result<Raised, Error> {
    let keyspace = &client.keyspace;
    let transport = &client.transport;
    let key = keyspace.token_offset_key();
    let mut now = KnownTokenOffset::default();
    loop {
        let locks = keyspace.locks("", None).into_iter();
        // A comparison of a range with zero holds if the range is empty.
        let unused = locks.map(|span| {
            Compare::create_revision(span.start, CompareOp::Equal, 0).with_range(span.end)
        });
        let compares: Vec<Compare> = unused
            .chain([layout::offset_unchanged(keyspace, now)])
            .collect();
        let raise = Txn::new()
            .when(compares)
            .and_then([TxnOp::put(&*key, offset.to_bytes(), None)])
            .or_else([TxnOp::get(&*key, None)]);
        let answer = transport.txn(move || raise.clone()).await?;
        if answer.succeeded() {
            return Ok(Raised::To(offset));
        }
        let found = layout::reads(&answer).find_map(|read| read.kvs.first());
        let before = std::mem::replace(&mut now, layout::parse_offset(keyspace, found)?);
        if now.offset >= offset {
            return Ok(Raised::To(now.offset));
        }
        if now == before {
            return Ok(Raised::InUse);
        }
    }
}

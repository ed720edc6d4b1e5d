//! The token offset in etcd: reading and raising it.

use backend_kit::keyspace::Keyspace;
use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnResponse};
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
    let mut known = KnownTokenOffset::default();
    loop {
        let raise = raise_txn(keyspace, known, offset);
        let answer = transport.write(move || raise.clone()).await?;
        match end_raise(keyspace, known, offset, &answer)? {
            RaiseAttempt::Done(raised) => return Ok(raised),
            RaiseAttempt::Changed(now) => known = now,
        }
    }
}

/// The outcome of an attempt to raise the offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RaiseAttempt {
    /// The result.
    Done(Raised),
    /// The offset is another one than was known. The next attempt knows this one.
    Changed(KnownTokenOffset),
}

/// Returns the transaction that raises the offset if it is still the known one, and no native lock has
/// an entry.
pub fn raise_txn(keyspace: &Keyspace, known: KnownTokenOffset, offset: TokenOffset) -> Txn {
    let key = keyspace.token_offset_key();
    let locks = keyspace.locks("", None).into_iter();
    // A comparison of a range with zero holds if the range is empty.
    let unused = locks
        .map(|span| Compare::create_revision(span.start, CompareOp::Equal, 0).with_range(span.end));
    let compares: Vec<Compare> = unused
        .chain([layout::offset_unchanged(keyspace, known)])
        .collect();
    Txn::new()
        .when(compares)
        .and_then([TxnOp::put(&*key, offset.to_bytes(), None)])
        .or_else([TxnOp::get(&*key, None)])
}

/// Returns the outcome of that transaction.
///
/// # Errors
/// That what is stored is not an offset.
pub fn end_raise(
    keyspace: &Keyspace,
    known: KnownTokenOffset,
    offset: TokenOffset,
    answer: &TxnResponse,
) -> Result<RaiseAttempt, Error> {
    if answer.succeeded() {
        return Ok(RaiseAttempt::Done(Raised::To(offset)));
    }
    let found = layout::reads(answer).find_map(|read| read.kvs.first());
    let now = layout::parse_offset(keyspace, found)?;
    Ok(if now.offset >= offset {
        RaiseAttempt::Done(Raised::To(now.offset))
    } else if now == known {
        RaiseAttempt::Done(Raised::InUse)
    } else {
        RaiseAttempt::Changed(now)
    })
}

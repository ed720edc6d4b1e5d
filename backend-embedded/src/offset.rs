//! The token offset: read it, and raise it.

use backend_kit::keyspace::Keyspace;
use lock_core::{Error, KnownTokenOffset, Raised, TokenOffset};

use crate::coordinator::Coordinator;
use crate::error::to_lock_error;
use crate::layout;
use crate::machine::op::{Compare, KeyRange, Op, Put, Range, Txn};

/// Reads the token offset.
pub(crate) async fn read(
    coordinator: &Coordinator,
    keyspace: &Keyspace,
) -> Result<KnownTokenOffset, Error> {
    let key = keyspace.token_offset_key().into_bytes();
    let range = Range::all(KeyRange::One(key.into()));
    let found = coordinator.range(range).await.map_err(to_lock_error)?;
    layout::parse_offset(keyspace, &found.result)
}

/// Raises the token offset if no native lock has an entry. A session makes an entry only on the
/// offset that it knows, so no session has to be asked.
pub(crate) async fn raise(
    coordinator: &Coordinator,
    keyspace: &Keyspace,
    offset: TokenOffset,
) -> Result<Raised, Error> {
    loop {
        let known = read(coordinator, keyspace).await?;
        if known.offset >= offset {
            return Ok(Raised::To(known.offset));
        }
        let locks = keyspace.locks("", None).into_iter();
        let mut compare: Vec<Compare> = locks.map(layout::span_unused).collect();
        compare.push(layout::offset_unchanged(keyspace, known));
        let put = Put {
            key: keyspace.token_offset_key().into(),
            value: Some(offset.to_bytes().into()),
            lease: Some(0),
            prev_kv: false,
        };
        let done = coordinator.txn(Txn {
            compare,
            then: vec![Op::Put(put)],
            or_else: vec![],
        });
        if done.await.map_err(to_lock_error)?.result.succeeded {
            return Ok(Raised::To(offset));
        }
        if read(coordinator, keyspace).await? == known {
            return Ok(Raised::InUse);
        }
    }
}

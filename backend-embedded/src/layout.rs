//! The keys of the locks in the coordinator, as conditions and operations of its transactions.

use backend_kit::keyspace::{Keyspace, Span};
use lock_core::{KnownTokenOffset, TokenOffset};

use crate::machine::op::{Compare, CompareOp, CompareTarget, KeyRange, RangeResult};

/// Converts a span of the keyspace into a range of the coordinator.
pub(crate) fn to_key_range(span: Span) -> KeyRange {
    KeyRange::Span {
        start: span.start.into(),
        end: Some(span.end.into()),
    }
}

/// Returns the condition that the token offset has not changed since it was read.
pub(crate) fn offset_unchanged(keyspace: &Keyspace, known: KnownTokenOffset) -> Compare {
    Compare {
        keys: KeyRange::One(keyspace.token_offset_key().into()),
        op: CompareOp::Equal,
        target: CompareTarget::Mod(known.revision),
    }
}

/// Returns the condition that no key of this span exists.
pub(crate) fn span_unused(span: Span) -> Compare {
    Compare {
        keys: to_key_range(span),
        op: CompareOp::Equal,
        target: CompareTarget::Create(0),
    }
}

/// Parses the token offset from a read of its key. An absent key is an offset of zero.
pub(crate) fn parse_offset(
    keyspace: &Keyspace,
    found: &RangeResult,
) -> Result<KnownTokenOffset, lock_core::Error> {
    let Some(kv) = found.kvs.first() else {
        return Ok(KnownTokenOffset::default());
    };
    Ok(KnownTokenOffset {
        offset: TokenOffset::from_bytes(&kv.value, &keyspace.token_offset_key())?,
        revision: kv.mod_revision,
    })
}

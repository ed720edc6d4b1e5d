//! The encoding of a key's value and history, and of what a commit changes.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, TryGetError};

use super::Batch;
use crate::machine::op::KeyValue;

/// Create revision, mod revision, version and lease, each 8 bytes little-endian; then the value.
const HEADER: usize = 32;

pub(crate) fn encode(kv: &KeyValue) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + kv.value.len());
    bytes.extend_from_slice(&kv.create_revision.to_le_bytes());
    bytes.extend_from_slice(&kv.mod_revision.to_le_bytes());
    bytes.extend_from_slice(&kv.version.to_le_bytes());
    bytes.extend_from_slice(&kv.lease.to_le_bytes());
    bytes.extend_from_slice(&kv.value);
    bytes
}

/// Parses a key; `None` if the bytes are too short.
pub(crate) fn decode(key: &[u8], bytes: &[u8]) -> Option<KeyValue> {
    let (create_revision, rest) = bytes.split_first_chunk()?;
    let (mod_revision, rest) = rest.split_first_chunk()?;
    let (version, rest) = rest.split_first_chunk()?;
    let (lease, value) = rest.split_first_chunk()?;
    Some(KeyValue {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
        create_revision: u64::from_le_bytes(*create_revision),
        mod_revision: u64::from_le_bytes(*mod_revision),
        version: u64::from_le_bytes(*version),
        lease: i64::from_le_bytes(*lease),
    })
}

/// Appends a batch. Numbers are 8 bytes little-endian. A text follows its length. A value that may
/// be absent follows one byte that says whether it is present.
pub(super) fn encode_batch(batch: &Batch, bytes: &mut Vec<u8>) {
    for revision in [batch.revision, batch.compacted] {
        put_option(bytes, revision.is_some());
        revision.inspect(|revision| bytes.put_u64_le(*revision));
    }
    bytes.put_u64_le(batch.leases.len() as u64);
    for (id, ttl) in &batch.leases {
        bytes.put_i64_le(*id);
        put_option(bytes, ttl.is_some());
        ttl.inspect(|ttl| bytes.put_u64_le(ttl.as_secs()));
    }
    bytes.put_u64_le(batch.keys.len() as u64);
    for (key, kv) in &batch.keys {
        put_text(bytes, key);
        put_option(bytes, kv.is_some());
        kv.iter().for_each(|kv| put_text(bytes, &encode(kv)));
    }
}

/// Parses a batch; `None` if these are not the bytes of one.
pub(super) fn decode_batch(bytes: &[u8]) -> Option<Batch> {
    let bytes = &mut Bytes::copy_from_slice(bytes);
    let batch = try_decode_batch(bytes).ok().flatten()?;
    bytes.is_empty().then_some(batch)
}

fn try_decode_batch(bytes: &mut Bytes) -> Result<Option<Batch>, TryGetError> {
    let mut batch = Batch::default();
    for revision in [&mut batch.revision, &mut batch.compacted] {
        if get_option(bytes)? {
            *revision = Some(bytes.try_get_u64_le()?);
        }
    }
    for _ in 0..bytes.try_get_u64_le()? {
        let id = bytes.try_get_i64_le()?;
        let ttl = match get_option(bytes)? {
            true => Some(Duration::from_secs(bytes.try_get_u64_le()?)),
            false => None,
        };
        batch.leases.insert(id, ttl);
    }
    for _ in 0..bytes.try_get_u64_le()? {
        let key = get_text(bytes)?;
        let kv = match get_option(bytes)? {
            true => match decode(&key, &get_text(bytes)?) {
                Some(kv) => Some(Arc::new(kv)),
                None => return Ok(None),
            },
            false => None,
        };
        batch.keys.insert(key, kv);
    }
    Ok(Some(batch))
}

fn put_option(bytes: &mut Vec<u8>, is_there: bool) {
    bytes.put_u8(u8::from(is_there));
}

fn get_option(bytes: &mut Bytes) -> Result<bool, TryGetError> {
    Ok(bytes.try_get_u8()? != 0)
}

pub(super) fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.put_u64_le(text.len() as u64);
    bytes.put_slice(text);
}

pub(super) fn get_text(bytes: &mut Bytes) -> Result<Bytes, TryGetError> {
    let length = usize::try_from(bytes.try_get_u64_le()?).unwrap_or(usize::MAX);
    match bytes.len() >= length {
        true => Ok(bytes.split_to(length)),
        false => Err(TryGetError {
            requested: length,
            available: bytes.len(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_read_back_and_one_cut_short_is_not() {
        let kv = KeyValue {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"v"),
            create_revision: 3,
            mod_revision: 4,
            version: 2,
            lease: -1,
        };
        let batch = Batch {
            keys: [
                (kv.key.clone(), Some(Arc::new(kv))),
                (Bytes::from_static(b"gone"), None),
            ]
            .into(),
            leases: [(7, Some(Duration::from_secs(9))), (-8, None)].into(),
            revision: Some(4),
            compacted: None,
        };
        for batch in [batch, Batch::default()] {
            let mut bytes = Vec::new();
            encode_batch(&batch, &mut bytes);
            let read = decode_batch(&bytes).expect("whole");
            assert_eq!(format!("{read:?}"), format!("{batch:?}"));
            for cut in 0..bytes.len() {
                assert!(decode_batch(&bytes[..cut]).is_none(), "cut to {cut}");
            }
            bytes.push(0);
            assert!(decode_batch(&bytes).is_none(), "with something behind it");
        }
    }

    #[test]
    fn a_key_is_read_back() {
        let kv = KeyValue {
            key: Bytes::from_static(b"k/\0\xff"),
            value: Bytes::from_static(b"v"),
            create_revision: 1 << 60,
            mod_revision: u64::MAX,
            version: 3,
            lease: i64::MIN,
        };
        let bytes = encode(&kv);
        assert_eq!(decode(&kv.key, &bytes), Some(kv.clone()));
        assert_eq!(decode(&kv.key, &bytes[..HEADER - 1]), None);
        let empty = decode(&kv.key, &bytes[..HEADER]).map(|kv| kv.value);
        assert_eq!(empty, Some(Bytes::new()));
    }
}

//! How a key's value and history are written.

use bytes::Bytes;

use crate::machine::op::KeyValue;

/// Create revision, mod revision, version and lease, each 8 bytes little-endian; then the value.
const HEADER: usize = 32;

pub(super) fn encode(kv: &KeyValue) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + kv.value.len());
    bytes.extend_from_slice(&kv.create_revision.to_le_bytes());
    bytes.extend_from_slice(&kv.mod_revision.to_le_bytes());
    bytes.extend_from_slice(&kv.version.to_le_bytes());
    bytes.extend_from_slice(&kv.lease.to_le_bytes());
    bytes.extend_from_slice(&kv.value);
    bytes
}

/// `None` if the bytes are too short.
pub(super) fn decode(key: &[u8], bytes: &[u8]) -> Option<KeyValue> {
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

#[cfg(test)]
mod tests {
    use super::*;

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

//! Reads a snapshot, and checks all of it. Whatever the bytes are, no more memory is taken than they
//! have.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Buf, Bytes};

use super::restore::RestoreError;
use super::{BLOCK, FORMAT_VERSION, Header, MAGIC, SUM};
use crate::machine::Snapshot;
use crate::machine::op::{KeyValue, LeaseId};
use crate::store::{check_state, codec};

/// What etcd's own snapshots have at offset 16, those of bbolt.
const BOLT_MAGIC: [u8; 4] = 0xED0C_DAED_u32.to_le_bytes();

/// The length of a key or of its rest above which it is impossible: no request can write that much.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// Reads a snapshot to its end.
pub(super) fn read(input: impl Read) -> Result<(Header, Snapshot), RestoreError> {
    let mut input = Input {
        bytes: BufReader::with_capacity(256 * 1024, input),
        sum: Context::new(&SHA256),
        read: 0,
    };
    let header = read_header(&mut input)?;
    let mut leases = Vec::new();
    for _ in 0..header.leases {
        leases.push(read_lease(&mut input)?);
    }
    let mut keys = Vec::new();
    for _ in 0..header.keys {
        keys.push(Arc::new(read_key(&mut input)?));
    }
    let padding = input.read.next_multiple_of(BLOCK) - input.read;
    let padding = input.take(padding)?;
    let sum = input.sum.clone().finish();
    if input.take(SUM as u64)? != sum.as_ref() || padding.iter().any(|byte| *byte != 0) {
        return Err(damaged("its checksum is wrong"));
    }
    if !input.is_at_end()? {
        return Err(damaged("something follows its end"));
    }
    let state = Snapshot {
        revision: header.revision,
        compact_revision: header.compact_revision,
        keys,
        leases,
    };
    let in_order = state.keys.windows(2).all(|pair| pair[0].key < pair[1].key)
        && state.leases.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if !in_order {
        return Err(damaged("its keys or leases are not in order"));
    }
    check_state(&state).map_err(|detail| RestoreError::Damaged { detail })?;
    Ok((header, state))
}

fn read_header(input: &mut Input<impl Read>) -> Result<Header, RestoreError> {
    let beginning = input.take(24)?;
    if beginning[..8] != MAGIC {
        let is_etcds = beginning[16..20] == BOLT_MAGIC;
        return Err(RestoreError::NotASnapshot { is_etcds });
    }
    let mut beginning = &beginning[8..];
    let found = beginning.get_u64_le();
    if found != FORMAT_VERSION {
        let supported = FORMAT_VERSION;
        return Err(RestoreError::FormatVersion { found, supported });
    }
    let mut rest = Bytes::from(input.take(40)?);
    Ok(Header {
        cluster_id: beginning.get_u64_le(),
        revision: rest.get_u64_le(),
        compact_revision: rest.get_u64_le(),
        taken_at: rest.get_u64_le(),
        leases: rest.get_u64_le(),
        keys: rest.get_u64_le(),
    })
}

fn read_lease(input: &mut Input<impl Read>) -> Result<(LeaseId, Duration), RestoreError> {
    let mut lease = Bytes::from(input.take(16)?);
    Ok((lease.get_i64_le(), Duration::from_secs(lease.get_u64_le())))
}

fn read_key(input: &mut Input<impl Read>) -> Result<KeyValue, RestoreError> {
    let key = input.take_text()?;
    let rest = input.take_text()?;
    codec::decode(&key, &rest).ok_or_else(|| damaged("one of its keys is cut short"))
}

fn damaged(detail: &str) -> RestoreError {
    RestoreError::Damaged {
        detail: detail.to_owned(),
    }
}

/// The bytes of a snapshot, with the sum of those that have been read.
struct Input<R> {
    bytes: BufReader<R>,
    sum: Context,
    read: u64,
}

impl<R: Read> Input<R> {
    fn take(&mut self, length: u64) -> Result<Vec<u8>, RestoreError> {
        let mut taken = Vec::new();
        let mut bytes = self.bytes.by_ref().take(length);
        bytes.read_to_end(&mut taken).map_err(RestoreError::Read)?;
        if (taken.len() as u64) < length {
            return Err(RestoreError::CutOff);
        }
        self.sum.update(&taken);
        self.read += length;
        Ok(taken)
    }

    fn take_text(&mut self) -> Result<Vec<u8>, RestoreError> {
        let length = self.take(8)?.as_slice().get_u64_le();
        match length <= MAX_TEXT_BYTES {
            true => self.take(length),
            false => Err(damaged("the length of one of its keys is impossible")),
        }
    }

    fn is_at_end(&mut self) -> Result<bool, RestoreError> {
        let mut byte = [0];
        loop {
            match self.bytes.read(&mut byte) {
                Ok(count) => return Ok(count == 0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(RestoreError::Read(error)),
            }
        }
    }
}

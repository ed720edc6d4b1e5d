//! The encoding of a snapshot, a piece at a time.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{BufMut, Bytes, BytesMut};

use super::{BLOCK, FORMAT_VERSION, Header, MAGIC, SUM};
use crate::machine::Snapshot;
use crate::machine::op::{KeyValue, LeaseId};
use crate::store::codec;

/// The bytes of a piece at which it is given out. It is longer by one key and its value at most.
const PIECE_BYTES: usize = 256 * 1024;

/// The bytes of the header, of a lease, and of a key apart from its text and its value.
const HEADER_BYTES: u64 = 64;
const LEASE_BYTES: u64 = 16;
const KEY_BYTES: u64 = 16 + 32;

/// Encodes a state. What is encoded is let go of.
pub(crate) struct Encoder {
    header: Option<Header>,
    leases: std::vec::IntoIter<(LeaseId, Duration)>,
    keys: std::vec::IntoIter<Arc<KeyValue>>,
    sum: Context,
    /// How much of the content has been encoded, and how much there is, without the sum.
    encoded: u64,
    length: u64,
    /// Whether the sum has been given out.
    is_done: bool,
}

impl Encoder {
    /// Returns the encoder of a state of the store with this id.
    pub(crate) fn new(state: Snapshot, cluster_id: u64, taken_at: u64) -> Self {
        let header = Header {
            cluster_id,
            revision: state.revision,
            compact_revision: state.compact_revision,
            taken_at,
            leases: state.leases.len() as u64,
            keys: state.keys.len() as u64,
        };
        let texts: u64 = state.keys.iter().map(|kv| kv.size() as u64).sum();
        let length = HEADER_BYTES + header.leases * LEASE_BYTES + header.keys * KEY_BYTES + texts;
        Encoder {
            header: Some(header),
            leases: state.leases.into_iter(),
            keys: state.keys.into_iter(),
            sum: Context::new(&SHA256),
            encoded: 0,
            length: length.next_multiple_of(BLOCK),
            is_done: false,
        }
    }

    /// Returns how many bytes are still to come.
    pub(crate) fn remaining(&self) -> u64 {
        match self.is_done {
            true => 0,
            false => self.length - self.encoded + SUM as u64,
        }
    }

    /// Returns the next bytes; none at the end.
    pub(crate) fn next_piece(&mut self) -> Bytes {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
        if self.is_done {
            return piece.freeze();
        }
        if let Some(header) = self.header.take() {
            put_header(&mut piece, &header);
        }
        while piece.len() < PIECE_BYTES
            && let Some((id, ttl)) = self.leases.next()
        {
            piece.put_i64_le(id);
            piece.put_u64_le(ttl.as_secs());
        }
        while piece.len() < PIECE_BYTES
            && let Some(kv) = self.keys.next()
        {
            put_text(&mut piece, &kv.key);
            put_text(&mut piece, &codec::encode(&kv));
        }
        let is_last = self.leases.len() == 0 && self.keys.len() == 0;
        if is_last {
            let padding = self.length - self.encoded - piece.len() as u64;
            piece.put_bytes(0, usize::try_from(padding).unwrap_or(0));
        }
        self.sum.update(&piece);
        self.encoded += piece.len() as u64;
        if is_last {
            piece.put_slice(self.sum.clone().finish().as_ref());
            self.is_done = true;
        }
        piece.freeze()
    }
}

fn put_header(piece: &mut BytesMut, header: &Header) {
    let Header {
        cluster_id,
        revision,
        compact_revision,
        taken_at,
        leases,
        keys,
    } = *header;
    piece.put_slice(&MAGIC);
    for number in [
        FORMAT_VERSION,
        cluster_id,
        revision,
        compact_revision,
        taken_at,
        leases,
        keys,
    ] {
        piece.put_u64_le(number);
    }
}

fn put_text(piece: &mut BytesMut, text: &[u8]) {
    piece.put_u64_le(text.len() as u64);
    piece.put_slice(text);
}

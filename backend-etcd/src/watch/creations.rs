//! The watches that were asked for on a stream and are not confirmed.

use std::collections::VecDeque;
use std::sync::Arc;

/// In the order of the requests. etcd confirms in that order, its `grpc-proxy` as it pleases; either
/// names the watches of a stream from zero on, in the order of the requests.
#[derive(Debug, Default)]
pub(super) struct Creations {
    pending: VecDeque<(i64, Creation)>,
    /// The name of the next watch.
    next: i64,
}

/// A watch that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Creation {
    /// Which one it is: the same key may have been watched before.
    pub(super) serial: u64,
    pub(super) key: Arc<[u8]>,
}

impl Creations {
    /// The name that the next watch will have. Servers that take names from us are to be asked for
    /// it.
    pub(super) fn next_id(&self) -> i64 {
        self.next
    }

    /// Takes note of one that was asked for.
    pub(super) fn push(&mut self, creation: Creation) {
        self.pending.push_back((self.next, creation));
        self.next += 1;
    }

    /// Which one was confirmed under this name. A refusal names none, and is taken for that of the
    /// first.
    pub(super) fn confirmed(&mut self, id: i64) -> Option<Creation> {
        let named = self.pending.iter().position(|(name, _)| *name == id);
        let (_, creation) = self.pending.remove(named.unwrap_or_default())?;
        Some(creation)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirmation_is_of_the_watch_that_it_names() {
        let creation = |serial: u64| Creation {
            serial,
            key: serial.to_be_bytes().as_slice().into(),
        };
        let mut creations = Creations::default();
        for serial in 10..14 {
            assert_eq!(
                creations.next_id(),
                i64::try_from(serial).expect("small") - 10
            );
            creations.push(creation(serial));
        }
        assert_eq!(creations.confirmed(2), Some(creation(12)));
        assert_eq!(creations.confirmed(0), Some(creation(10)));
        assert_eq!(creations.confirmed(-1), Some(creation(11)), "refused");
        assert_eq!(creations.confirmed(3), Some(creation(13)));
        assert!(creations.is_empty());
        assert_eq!(creations.confirmed(4), None);
    }
}

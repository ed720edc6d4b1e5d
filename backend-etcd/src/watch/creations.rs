//! The watches of a stream that the server has not confirmed.

use std::collections::VecDeque;

use super::stream::Target;

/// The creations under way, in the order of the requests. etcd confirms them in that order, its
/// `grpc-proxy` in any order. Both number the watches of a stream from zero on, in the order of the
/// requests.
#[derive(Debug, Default)]
pub(super) struct Creations {
    pending: VecDeque<(i64, Creation)>,
    /// The id of the next watch.
    next: i64,
}

/// A watch that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Creation {
    /// Its serial number. The same target may have been watched before.
    pub(super) serial: u64,
    pub(super) target: Target,
}

impl Creations {
    /// Returns the id that the next watch will have. Servers that accept ids from clients must be
    /// asked for it.
    pub(super) fn next_id(&self) -> i64 {
        self.next
    }

    /// Adds a watch that was asked for.
    pub(super) fn push(&mut self, creation: Creation) {
        self.pending.push_back((self.next, creation));
        self.next += 1;
    }

    /// Removes and returns the creation that was confirmed under this id. A refusal has no id, and
    /// counts as that of the first creation.
    pub(super) fn confirm(&mut self, id: i64) -> Option<Creation> {
        let index = self.pending.iter().position(|(pending, _)| *pending == id);
        let (_, creation) = self.pending.remove(index.unwrap_or_default())?;
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
    fn a_confirmation_belongs_to_the_watch_with_its_id() {
        let creation = |serial: u64| Creation {
            serial,
            target: Target::Key(serial.to_be_bytes().as_slice().into()),
        };
        let mut creations = Creations::default();
        for serial in 10..14 {
            assert_eq!(
                creations.next_id(),
                i64::try_from(serial).expect("small") - 10
            );
            creations.push(creation(serial));
        }
        assert_eq!(creations.confirm(2), Some(creation(12)));
        assert_eq!(creations.confirm(0), Some(creation(10)));
        assert_eq!(creations.confirm(-1), Some(creation(11)), "refused");
        assert_eq!(creations.confirm(3), Some(creation(13)));
        assert!(creations.is_empty());
        assert_eq!(creations.confirm(4), None);
    }
}

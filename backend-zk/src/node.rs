//! The names of nodes in a lock's directory: whose they are, in which mode, and in what order.

use lock_core::{Incarnation, Mode, Ticket};
use uuid::Uuid;

/// What stands before the sequence number of a contender: Curator's and go-zookeeper's mutex,
/// Curator's read/write lock, kazoo's lock and read lock.
const MARKERS: [(&str, Mode); 5] = [
    ("__READ__", Mode::Shared),
    (WRITE, Mode::Exclusive),
    ("__rlock__", Mode::Shared),
    ("__lock__", Mode::Exclusive),
    ("lock-", Mode::Exclusive),
];
const WRITE: &str = "__WRIT__";

/// ZooKeeper writes a sequence number as `%010d`: ten characters at least, the sign among them. A
/// hyphen in front of ten digits is the prefix's if it can be, since most prefixes end in one.
const NUMBER_LENGTHS: [usize; 2] = [10, 11];

/// Which of Curator's recipes the nodes of exclusive entries are named for. Users of the one do not
/// see those of the other, so all users of a queue must agree; Turnlock itself reads both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recipe {
    /// `InterProcessMutex`: `-lock-`. Also go-zookeeper's lock, and kazoo's with
    /// `extra_lock_patterns=["lock-"]`.
    #[default]
    Mutex,
    /// `InterProcessReadWriteLock`: `__WRIT__`.
    ReadWrite,
}

/// A node that stands in a lock's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contender<'a> {
    pub(crate) name: &'a str,
    pub(crate) mode: Mode,
    number: i32,
    /// Its place may pass to another node when it goes. Curator turns a write lock into a read lock
    /// by a new node of the same number; of clients that we do not know, we expect the same.
    pub(crate) heritable: bool,
}

/// A place in a queue, in the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// The sequence number tells.
    Number(i32),
    /// The counter of the directory was used up by then, so it is when the node was created.
    Created(Incarnation),
}

impl<'a> Contender<'a> {
    /// What a child of a lock's directory is. A name of an unknown kind that ends in a sequence
    /// number counts as exclusive, to be on the safe side; one without a number has no place in the
    /// order and is no contender.
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        let ends = NUMBER_LENGTHS.map(|length| numbered(name, length));
        let mut ends = ends.iter().flatten();
        let known = MARKERS.iter().find_map(|(marker, mode)| {
            let (_, number) = ends.clone().find(|(before, _)| before.ends_with(marker))?;
            Some((*mode, *number, *marker == WRITE))
        });
        let unknown = || Some((Mode::Exclusive, ends.next()?.1, true));
        let (mode, number, heritable) = known.or_else(unknown)?;
        Some(Contender {
            name,
            mode,
            number,
            heritable,
        })
    }

    /// The place that its number gives it; `None` if it needs the node's czxid.
    ///
    /// The counter of a directory is a signed number of 32 bits, of children ever created. After
    /// 2147483647 it does not go on: the server gives a node that is made alone that number again
    /// and again, and nodes that are made together with one before them negative ones, from
    /// -2147483648 up (`PrepRequestProcessor` counts on, but `DataTree.createNode` keeps only a
    /// greater number). All of those came after every other number.
    pub(crate) fn place(&self) -> Option<Place> {
        (0..i32::MAX)
            .contains(&self.number)
            .then_some(Place::Number(self.number))
    }
}

/// What stands before the sequence number at the end of a name, and the number, as ZooKeeper writes
/// it in so many characters.
fn numbered(name: &str, length: usize) -> Option<(&str, i32)> {
    let (before, digits) = name.split_at_checked(name.len().checked_sub(length)?)?;
    let number: i32 = digits.parse().ok()?;
    (format!("{number:010}") == digits).then_some((before, number))
}

/// The unique beginning of the names of a ticket's nodes, by which an enqueue whose reply was lost
/// finds its own. `nonce` is the session's: a random number, because ZooKeeper may give out a
/// session's number again after its servers were restarted.
pub(crate) fn mark(nonce: u64, ticket: &Ticket) -> String {
    format!("_c_{}-", Uuid::from_u64_pair(nonce, ticket.serial))
}

/// The whole name of a ticket's node, up to the sequence number.
pub(crate) fn prefix(nonce: u64, ticket: &Ticket, recipe: Recipe) -> String {
    let marker = match (ticket.mode, recipe) {
        (Mode::Shared, _) => "__READ__",
        (Mode::Exclusive, Recipe::ReadWrite) => WRITE,
        (Mode::Exclusive, Recipe::Mutex) => "lock-",
    };
    mark(nonce, ticket) + marker
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lock_core::LockName;
    use proptest::prelude::*;

    use super::*;

    fn parsed(name: &str) -> Option<(Mode, i32)> {
        Contender::parse(name).map(|c| (c.mode, c.number))
    }

    #[test]
    fn nodes_of_other_clients_are_understood() {
        use Mode::{Exclusive, Shared};
        let uuid = "6d1cca4a-0fbe-4bd5-9bd6-0f4b3b0e7f3a";
        let hex = "6d1cca4a0fbe4bd59bd60f4b3b0e7f3a";
        let cases = [
            (format!("_c_{uuid}-lock-0000000007"), Exclusive, 7),
            (format!("_c_{uuid}-lock--000000007"), Exclusive, -7),
            (format!("_c_{uuid}-lock--2147483648"), Exclusive, i32::MIN),
            (format!("_c_{uuid}-__READ__2147483647"), Shared, i32::MAX),
            (format!("_c_{uuid}-__WRIT__-000000001"), Exclusive, -1),
            (format!("{hex}__lock__0000000000"), Exclusive, 0),
            (format!("{hex}__rlock__0000000012"), Shared, 12),
            (
                format!("_c_{hex}-lock-1234567890"),
                Exclusive,
                1_234_567_890,
            ),
            ("latch-0000000003".to_owned(), Exclusive, 3),
            ("latch-1000000003".to_owned(), Exclusive, 1_000_000_003),
            ("n-000000003".to_owned(), Exclusive, -3),
        ];
        for (name, mode, number) in cases {
            assert_eq!(parsed(&name), Some((mode, number)), "{name}");
        }
    }

    #[test]
    fn what_has_no_place_in_the_order_is_no_contender() {
        for name in [
            "",
            "locks",
            "leases",
            "lock-",
            "lock-7",
            "lock-00000000007x",
            "x-9999999999",
            "ü000000000",
        ] {
            assert_eq!(parsed(name), None, "{name}");
        }
    }

    #[test]
    fn numbers_tell_the_order_until_the_counter_is_used_up() {
        let place = |name: &str| Contender::parse(name).expect("a contender").place();
        let (first, last) = (place("lock-0000000000"), place("lock-2147483646"));
        let created = Incarnation::new(1).map(Place::Created);
        assert!(first < last && last < created);
        for name in ["lock-2147483647", "lock--2147483648", "lock--000000001"] {
            assert_eq!(place(name), None, "{name}");
        }
    }

    #[test]
    fn names_are_curators() {
        let ticket = |mode, serial| Ticket {
            name: LockName::new("a").expect("valid"),
            mode,
            serial,
            metadata: Arc::default(),
        };
        assert_eq!(
            prefix(
                0x1234_5678_9abc_def0,
                &ticket(Mode::Exclusive, 1),
                Recipe::Mutex
            ),
            "_c_12345678-9abc-def0-0000-000000000001-lock-"
        );
        let shared = prefix(1, &ticket(Mode::Shared, 2), Recipe::Mutex);
        assert!(shared.ends_with("-__READ__"), "{shared}");
        let write = prefix(1, &ticket(Mode::Exclusive, 2), Recipe::ReadWrite);
        assert!(write.ends_with("-__WRIT__"), "{write}");
    }

    proptest! {
        #[test]
        fn every_number_that_zookeeper_writes_is_read(number in any::<i32>(), marker in 0..MARKERS.len()) {
            let name = format!("_c_x-{}{number:010}", MARKERS[marker].0);
            prop_assert_eq!(parsed(&name), Some((MARKERS[marker].1, number)));
        }

        #[test]
        fn no_name_makes_it_panic(name in "\\PC{0,30}") {
            let _ = Contender::parse(&name);
        }
    }
}

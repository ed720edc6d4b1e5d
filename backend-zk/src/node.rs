//! The names of the nodes in a lock's directory: their owner, mode and order.

use lock_core::{Incarnation, Mode, Ticket};
use uuid::Uuid;

/// The texts before the sequence number in the names of contenders: those of Curator's read/write
/// lock, kazoo's read lock and lock, and Curator's and go-zookeeper's mutex.
const MARKERS: [(&str, Mode); 5] = [
    ("__READ__", Mode::Shared),
    (WRITE, Mode::Exclusive),
    ("__rlock__", Mode::Shared),
    ("__lock__", Mode::Exclusive),
    ("lock-", Mode::Exclusive),
];
const WRITE: &str = "__WRIT__";

/// The lengths of a sequence number. ZooKeeper writes it as `%010d`, in ten characters at least,
/// with the sign. A hyphen before ten digits counts as a part of the prefix where possible, since
/// most prefixes end in one.
const NUMBER_LENGTHS: [usize; 2] = [10, 11];

/// The recipe of Curator that the nodes of exclusive entries are named for. Users of one recipe do
/// not see the nodes of the other, so all users of a queue must agree. Turnlock itself reads both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recipe {
    /// `InterProcessMutex`, with `-lock-` in the names. go-zookeeper's lock uses the same names,
    /// and kazoo's lock reads them with `extra_lock_patterns=["lock-"]`.
    #[default]
    Mutex,
    /// `InterProcessReadWriteLock`, with `__WRIT__` in the names.
    ReadWrite,
}

/// A node in a lock's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contender<'a> {
    pub(crate) name: &'a str,
    pub(crate) mode: Mode,
    number: i32,
    /// Whether its place may pass to another node when it goes. Curator turns a write lock into a
    /// read lock by a new node of the same number. Unknown clients are expected to do the same.
    pub(crate) heritable: bool,
}

/// A place in a queue, in the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// By the sequence number.
    Number(i32),
    /// By the transaction that created the node, since the counter of the directory was used up.
    Created(Incarnation),
}

impl<'a> Contender<'a> {
    /// Parses the name of a child of a lock's directory. A name of an unknown kind that ends in a
    /// sequence number counts as exclusive, which is the safe choice. A name without a number has
    /// no place in the order and is not a contender.
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        let ends = NUMBER_LENGTHS.map(|length| split_number(name, length));
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

    /// Returns the place by its number, or `None` if the place depends on the node's czxid.
    ///
    /// The counter of a directory is a signed number of 32 bits: the number of children ever
    /// created. It does not go beyond 2147483647. From then on the server gives that number to
    /// every node that is created by itself. Nodes that are created together with one before them
    /// get negative numbers, from -2147483648 up (`PrepRequestProcessor` counts on, but
    /// `DataTree.createNode` keeps only a greater number). All of these nodes came after all
    /// others.
    pub(crate) fn place(&self) -> Option<Place> {
        (0..i32::MAX)
            .contains(&self.number)
            .then_some(Place::Number(self.number))
    }
}

/// Splits a name into the part before the sequence number, and the number, if ZooKeeper writes that
/// in so many characters.
fn split_number(name: &str, length: usize) -> Option<(&str, i32)> {
    let (before, digits) = name.split_at_checked(name.len().checked_sub(length)?)?;
    let number: i32 = digits.parse().ok()?;
    (format!("{number:010}") == digits).then_some((before, number))
}

/// Returns the unique beginning of the names of a ticket's nodes. An enqueue whose reply was lost
/// finds its node by it. `nonce` is a random number of the session: ZooKeeper may use the number of
/// a session again after a restart of its servers.
pub(crate) fn mark(nonce: u64, ticket: &Ticket) -> String {
    format!("_c_{}-", Uuid::from_u64_pair(nonce, ticket.serial))
}

/// Returns the whole name of a ticket's node, without the sequence number.
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
    fn a_node_without_a_place_in_the_order_is_no_contender() {
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
    fn numbers_give_the_order_until_the_counter_is_used_up() {
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
        fn every_number_that_zookeeper_writes_is_read(
            number in any::<i32>(), marker in 0..MARKERS.len(),
        ) {
            let name = format!("_c_x-{}{number:010}", MARKERS[marker].0);
            prop_assert_eq!(parsed(&name), Some((MARKERS[marker].1, number)));
        }

        #[test]
        fn no_name_makes_it_panic(name in "\\PC{0,30}") {
            let _ = Contender::parse(&name);
        }
    }
}

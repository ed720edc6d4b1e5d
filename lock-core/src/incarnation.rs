//! The number that a store gives to an entry.

use std::fmt;
use std::num::NonZeroU64;

/// The store's own number for one life of an entry: its create revision on etcd and on the embedded
/// coordinator, its czxid on ZooKeeper.
///
/// An entry that was removed and made anew under the same key has another incarnation. Of two
/// entries in one queue, the one with the lower incarnation was made first.
///
/// It is not the fencing token, and the two cannot be compared: the token is this number plus the
/// [offset](crate::token_offset) of the namespace. Only [`TokenOffset::token`] makes one of the
/// other.
///
/// ```
/// use lock_core::{Incarnation, LockName, Token, TokenOffset};
///
/// let incarnation = Incarnation::new(7).expect("not zero");
/// let offset = TokenOffset::new(1000)?;
/// assert_eq!(offset.token(&LockName::new("jobs")?, incarnation)?, Token(1007));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```compile_fail
/// # use lock_core::{Incarnation, Token};
/// # let incarnation = Incarnation::new(7).expect("not zero");
/// assert!(Token(1007) > incarnation);
/// ```
///
/// [`TokenOffset::token`]: crate::TokenOffset::token
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(NonZeroU64);

impl Incarnation {
    /// Wraps a store's number. Returns `None` for zero, which no store gives to an entry.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Incarnation(number)),
            None => None,
        }
    }

    /// Returns the store's number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

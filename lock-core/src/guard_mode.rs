//! How a guard holds its lock, as a type: what only an exclusive holder may do does not compile for
//! a reader.

use crate::entry::Mode;

/// The mode of a [`Guard`](crate::Guard) that holds its lock alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Exclusive;

/// The mode of a [`ReadGuard`](crate::ReadGuard), which holds its lock together with other readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Shared;

/// The mode of an [`AnyGuard`](crate::AnyGuard): [`Guard::mode`](crate::Guard::mode) returns which
/// it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct AnyMode(pub(crate) Mode);

/// The modes that a [`Guard`](crate::Guard) can have: [`Exclusive`], [`Shared`] and [`AnyMode`]. No
/// other crate can add one.
pub trait GuardMode: sealed::Sealed {}

impl GuardMode for Exclusive {}
impl GuardMode for Shared {}
impl GuardMode for AnyMode {}

mod sealed {
    use super::{AnyMode, Exclusive, Shared};
    use crate::entry::Mode;

    /// The mode to ask the coordinator for.
    pub trait Sealed {
        fn to_mode(&self) -> Mode;
    }

    impl Sealed for Exclusive {
        fn to_mode(&self) -> Mode {
            Mode::Exclusive
        }
    }

    impl Sealed for Shared {
        fn to_mode(&self) -> Mode {
            Mode::Shared
        }
    }

    impl Sealed for AnyMode {
        fn to_mode(&self) -> Mode {
            self.0
        }
    }
}

//! Keeps the entry of a lock after its release while nobody else wants it, so that the tasks of this
//! process take the lock again, in turn, without a request.
//!
//! ```text
//!  task ──▶ Slot ──▶ Turn ──▶ guard ──▶ Slot      one slot for each lock of a client
//!            │ ▲
//!     Kept ◀─┘ └── keeper: watches what stands behind the entry, and ends an idle one
//! ```
//!
//! The tasks of a process stand in the local queue of the slot. The first of them has the *turn*. It
//! alone stands in the lock's queue, with an entry that is *kept* from turn to turn. Whether another
//! turn may begin with this entry is decided in one place, [`Kept::judge`]. Nothing is decided by
//! what is merely hoped: an entry of which it is not known that nobody waits behind it gives as many
//! turns as [`Sticky::turns`] allows, and no more.

mod acquire;
mod cool_down;
mod keeper;
mod kept;
mod options;
mod registry;
mod slot;
mod turn;

pub use self::options::{Sticky, StickyStats};

pub(crate) use self::acquire::StickyLock;
pub(crate) use self::registry::Slots;
pub(crate) use self::slot::Slot;
pub(crate) use self::turn::StickyHold;

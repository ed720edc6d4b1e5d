//! The semantics of Turnlock's locks, written once over a small trait.
//!
//! Programs depend on the crate `turnlock`. This crate is for authors of backends. A backend
//! implements [`Backend`] and [`Session`], and passes the suite of the crate `conformance`. The
//! page `docs/adding-a-backend.md` of the repository is the way there.
//!
//! A lock is a queue of ephemeral entries. A backend puts an entry at the end, shows what stands
//! ahead of it, reports that an entry is gone, and removes entries. The core does everything else:
//! the [`rule`] decides who holds, one loop waits, [`Liveness`] knows until when the session is
//! proven to live, and a background thread removes the entries of dropped guards and acquires.
//!
//! ```
//! use lock_core::Mode;
//! use lock_core::rule::{self, Verdict, View};
//!
//! // An entry with nothing ahead of it holds the lock; an entry that is gone does not.
//! let first = View { present: true, ahead: vec![] };
//! assert_eq!(rule::judge(Mode::Exclusive, &first), Verdict::Granted);
//! let gone = View { present: false, ahead: vec![] };
//! assert_eq!(rule::judge(Mode::Exclusive, &gone), Verdict::Evicted);
//! ```
//!
//! # Where to start
//!
//! | You want to know | Read |
//! |---|---|
//! | what a backend must do | [`Session`], [`Backend`], [`session`] |
//! | who holds, and who waits for whom | [`rule`] |
//! | until when a hold can be trusted | [`Liveness`], [`clock`] |
//! | what a token is made of | [`Token`], [`token_offset`] |
//! | what programs call | [`Locks`], [`Mutex`], [`RwLock`], [`Guard`] |
//! | where all of it runs | [`background`] |

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

#[cfg(all(simulation, not(tokio_unstable)))]
compile_error!("a simulation needs --cfg tokio_unstable, too: run tools/simulate");
#[cfg(not(unix))]
compile_error!("Turnlock runs on Unix only: it needs its clocks, file modes and process ids");

pub mod background;
pub mod clock;
pub mod data;
pub mod entry;
pub mod guard_mode;
pub mod liveness;
pub mod name;
pub mod nesting;
pub mod observe;
pub mod process;
pub mod queue;
pub mod renewal;
pub mod retry;
pub mod rule;
pub mod session;
pub mod surroundings;
pub mod token;
pub mod token_offset;

mod acquire;
mod acquire_options;
mod backoff;
mod bulkhead;
mod client;
mod error;
mod gate;
mod guard;
mod handoff;
mod held_lock;
mod hold;
mod incarnation;
mod janitor;
mod lock;
mod mutex;
mod named;
mod operation;
mod options;
mod rwlock;
mod self_wait;
mod session_slot;
mod sticky;
mod sync;
mod wait;
mod wait_limit;

pub use acquire_options::AcquireOptions;
pub use data::{Access, Accessed, DataKey};
pub use entry::{Entry, EntryId, Metadata, Mode, SessionId, Ticket};
pub use error::{Effect, Error, ErrorKind, LossReason};
pub use guard::{AnyGuard, Guard, ReadGuard};
pub use held_lock::Release;
pub use incarnation::Incarnation;
pub use liveness::{Liveness, State};
pub use lock::Locks;
pub use mutex::Mutex;
pub use name::{LockName, NameError, NameRule};
pub use operation::Operation;
pub use options::{DEFAULT_TTL, MAX_TTL, MIN_TTL, OnRequeue, OnSessionLoss, Options};
pub use queue::Queue;
pub use rwlock::RwLock;
pub use session::{
    Admission, AsOf, Backend, Behind, Enqueued, Placed, Removal, Removed, Session, Watcher,
};
pub use sticky::{Sticky, StickyStats};
pub use token::Token;
pub use token_offset::{KnownTokenOffset, Raised, TokenOffset};

// A feature, because the explorer is another crate: a build without it has no such names at all.
#[cfg(feature = "models")]
#[doc(hidden)]
pub mod models {
    pub use crate::handoff::Order;
}

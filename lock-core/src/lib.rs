//! The semantics of Turnlock's locks, written once over a small trait.
//!
//! Programs depend on the crate `turnlock`; this one is for those who write a backend: implement
//! [`Backend`] and [`Session`], and everything else here comes with it.
//!
//! A lock is a queue of ephemeral entries. A backend puts an entry at the end, tells what stands
//! ahead of it, tells when something changed, and removes it. The [`rule`] decides from that who
//! holds; one loop waits; [`Liveness`] knows until when the session is proven to live; a background
//! thread cleans up whatever was dropped.

pub mod background;
pub mod clock;
pub mod data;
pub mod entry;
pub mod handoff;
pub mod liveness;
pub mod name;
pub mod process;
pub mod queue;
pub mod renewal;
pub mod rule;
pub mod session;
pub mod token;
pub mod token_offset;

mod acquire;
mod backoff;
mod error;
mod guard;
mod hold;
mod incarnation;
mod janitor;
mod lock;
mod named;
mod retry;
mod session_slot;
mod wait;
mod wait_limit;

pub use data::{Access, Accessed, DataKey};
pub use entry::{Entry, EntryId, Metadata, Mode, SessionId, Ticket};
pub use error::{Effect, Error, ErrorKind, LossReason};
pub use guard::{Guard, Release};
pub use incarnation::Incarnation;
pub use liveness::{Liveness, State};
pub use lock::{
    DEFAULT_TTL, Locks, MAX_TTL, MIN_TTL, Mutex, OnRequeue, OnSessionLoss, Options, RwLock,
};
pub use name::{LockName, NameError, NameRule};
pub use queue::Queue;
pub use session::{Admission, AsOf, Backend, Enqueued, Placed, Removed, Session};
pub use token::Token;
pub use token_offset::{KnownTokenOffset, Raised, TokenOffset};

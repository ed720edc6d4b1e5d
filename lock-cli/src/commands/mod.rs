//! Contains the subcommands, one in each file.

mod acquiring;
#[cfg(feature = "bench")]
pub mod bench;
mod blocking;
pub mod change;
pub mod completions;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod edit;
pub mod evict;
pub mod fence;
pub mod hold;
mod hold_key;
mod identity;
pub mod last_will;
pub mod ls;
pub mod man;
#[cfg(feature = "embedded")]
pub mod metrics;
mod names;
mod once;
mod outer_hold;
pub mod queue;
mod release;
#[cfg(feature = "embedded")]
pub mod restore;
#[cfg(feature = "embedded")]
pub mod rules;
pub mod run;
#[cfg(feature = "embedded")]
pub mod serve;
#[cfg(feature = "embedded")]
pub mod snapshot;
pub mod status;
#[cfg(feature = "embedded")]
pub mod stop;
mod supervise;
#[cfg(feature = "embedded")]
pub mod system;
pub mod token_offset;
#[cfg(feature = "top")]
pub mod top;
pub mod watch;
pub mod why;
mod write_right;

pub use self::hold_key::HoldKey;

//! Turnlock's embedded coordinator: a durable single-node store of revision-ordered keys, leases
//! and watches, and the locks on it.
//!
//! - [`EmbeddedBackend`]: locks on a coordinator in this process.
//! - [`Coordinator`]: the store, durable in a folder ([`Config`]) or in memory. It commits many
//!   requests at once, expires leases and serves watches.
//! - `server` (feature `server`): the coordinator behind etcd's v3 gRPC API.
//!
//! The state machine under the coordinator follows etcd's rules. Its types are public for tests and
//! measurements only. They are hidden from this page and may change in any release.
//!
//! ```
//! use backend_embedded::{Config, Coordinator, EmbeddedBackend};
//! use lock_core::{Locks, Options};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let folder = dir.path().join("locks");
//! let coordinator = Coordinator::open(Config::new(&folder))?;
//! let locks = Locks::new(EmbeddedBackend::new(coordinator.clone()), Options::default())?;
//! let guard = locks.mutex("jobs/nightly")?.acquire().await?;
//! println!("held with token {}", guard.token());
//! drop(guard);
//! coordinator.close()?;
//! # Ok(())
//! # }
//! ```

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod backend;
pub mod config;
mod coordinator;
mod error;
mod evidence;
mod layout;
mod listing;
#[doc(hidden)]
pub mod machine;
mod offset;
mod on_use;
mod session;
#[cfg(feature = "server")]
pub mod snapshot;
mod store;

#[cfg(feature = "server")]
pub mod server;
#[cfg(simulation)]
pub mod simulated;

pub use backend::EmbeddedBackend;
pub use config::{Config, Limits};
#[doc(hidden)]
pub use coordinator::{Applied, Granted, LeaseInfo, WatchBatch, Watcher};
pub use coordinator::{Coordinator, Status};
pub use error::Error;
pub use on_use::from_url;

//! Turnlock's embedded coordinator: a durable single-node store of revision-ordered keys, leases
//! and watches.
//!
//! - [`machine`]: etcd's rules as a pure state machine, without I/O and without a clock.
//! - [`coordinator`]: the machine made durable, with group commit, expiry of leases, and watches.
//! - `server` (feature `server`): the coordinator behind etcd's v3 gRPC API.
//!
//! ```
//! use backend_embedded::machine::op::{KeyRange, Put};
//! use backend_embedded::{Coordinator, Limits};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), backend_embedded::Error> {
//! let coordinator = Coordinator::in_memory(Limits::default())?;
//! let mut watcher = coordinator.watch(KeyRange::prefix("jobs/"), None)?;
//! let written = coordinator
//!     .put(Put {
//!         key: "jobs/1".into(),
//!         value: Some("ready".into()),
//!         lease: Some(0),
//!         prev_kv: false,
//!     })
//!     .await?;
//! assert_eq!(watcher.next().await?.revision, written.revision);
//! # Ok(())
//! # }
//! ```

mod backend;
pub mod config;
pub mod coordinator;
pub mod error;
mod evidence;
pub mod machine;
mod on_use;
mod session;
mod store;

#[cfg(feature = "server")]
pub mod server;

pub use backend::EmbeddedBackend;
pub use config::{Config, Limits};
pub use coordinator::{Applied, Coordinator, Granted, LeaseInfo, Status, WatchBatch, Watcher};
pub use error::Error;
pub use on_use::from_url;

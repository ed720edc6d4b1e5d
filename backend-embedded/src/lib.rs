//! Turnlock's embedded coordinator: a durable single-node store of revision-ordered keys, leases
//! and watches.

mod backend;
pub mod config;
pub mod coordinator;
pub mod error;
pub mod machine;
mod session;
mod store;

#[cfg(feature = "server")]
pub mod server;

pub use backend::EmbeddedBackend;
pub use config::{Config, Limits};
pub use coordinator::{Applied, Coordinator, Granted, LeaseInfo, Status, WatchBatch, Watcher};
pub use error::Error;

//! Turnlock's embedded coordinator: a durable single-node store of revision-ordered keys, leases
//! and watches.

pub mod config;
pub mod coordinator;
pub mod error;
pub mod machine;

#[cfg(feature = "server")]
pub mod server;

pub use config::{Config, Limits};
pub use coordinator::{Applied, Coordinator, Granted, LeaseInfo, Status, WatchBatch, Watcher};
pub use error::Error;

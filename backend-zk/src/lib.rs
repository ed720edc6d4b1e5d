//! Turnlock's locks on ZooKeeper, in one queue with Curator's recipes.
//!
//! A session is a ZooKeeper session; an entry is an ephemeral sequential node of it. Its place in
//! the queue is its sequence number and its token is its czxid. Nodes are named as Curator names
//! them, so users of Curator, and of what follows its layout, stand in the same queue.
//!
//! All I/O runs on [`lock_core::background`]; the futures of this crate can be polled on any
//! executor.

mod backend;
mod client;
mod config;
mod error;
mod evict;
mod layout;
mod listing;
mod liveness;
mod node;
mod offset;
mod runtime;
mod security;
mod session;
mod tidy;

pub use backend::ZkBackend;
pub use config::Config;
pub use node::Recipe;

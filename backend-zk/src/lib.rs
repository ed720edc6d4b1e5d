//! Turnlock's locks on ZooKeeper, in one queue with Curator's recipes.
//!
//! A session is a ZooKeeper session, and an entry is one of its ephemeral sequential nodes. The
//! sequence number is the entry's place in the queue, and the czxid is its token. Nodes have the
//! names that Curator gives them. So users of Curator, and of the clients that follow its layout,
//! share the queue.
//!
//! All I/O runs on [`lock_core::background`]. The futures of this crate can be polled on any
//! executor.
//!
//! The modules are those of every backend. Different are `node` (the names of nodes), `runtime`
//! (time limits, since the client library has its own connections and no `transport`) and `tidy`.
//!
//! # Features
//! `raw-client`, off by default: [`ZkBackend`]`::client`, which returns a type of the crate
//! `zookeeper-client`. A new version of that crate may change it without a new major version of
//! this one.

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
mod tls_fault;

pub use backend::ZkBackend;
pub use config::Config;
pub use node::Recipe;

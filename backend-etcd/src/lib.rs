//! Turnlock's locks on etcd v3, and on everything that speaks its API, such as the server of the
//! embedded coordinator.
//!
//! A build needs Google's `protoc`: `apt-get install protobuf-compiler`, or
//! `cargo install protox --features bin` and `PROTOC="$HOME/.cargo/bin/protox"` in the environment.
//!
//! A session is a lease, and an entry is a key on it. The key's create revision is the entry's
//! place in the queue. Keys and values are those of Go's `concurrency.Mutex`, `etcdctl lock`, jetcd
//! and the v3 Lock service, so all of them share one queue.
//!
//! All I/O runs on [`lock_core::background`]. The futures of this crate can be polled on any
//! executor.
//!
//! The modules are those of every backend. Different are `transport` (connections to the members),
//! `watch` (many watches on one stream), `group` (several transactions in one request), `key_slots`
//! (keys that are used again) and `relay` (renewals through etcd's proxy).
//!
//! # Features
//! All are off by default. `models` is for the explorer in this repository alone: it shows what a
//! session knows of its requests, and is no interface. `raw-client`: [`EtcdBackend`]`::client`, which returns a type of the crate
//! `etcd-client`. A new version of that crate may change it without a new major version of this
//! one.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod backend;
mod client;
mod config;
mod error;
mod group;
mod key_slots;
mod layout;
mod listing;
mod liveness;
mod offset;
mod relay;
mod security;
mod session;
mod transport;
mod watch;

pub use backend::EtcdBackend;
pub use backend_kit::connection::Connection;
pub use backend_kit::keyspace::Keyspace;
pub use config::{Config, Connecting, Connector, Dialer};

// A feature, because the explorer is another crate: a build without it has no such names at all.
#[cfg(feature = "models")]
#[doc(hidden)]
pub mod models {
    pub use crate::group::{Request, combine, split_answer};
    pub use crate::key_slots::{KeySlot, KeySlots};
    pub use crate::layout::{Found, Layout};
    pub use crate::offset::{RaiseAttempt, end_raise, raise_txn};
    pub use crate::session::protocol::{
        AccessAttempt, AccessOutcome, EnqueueAttempt, Protocol, RemovalAttempt,
    };
}

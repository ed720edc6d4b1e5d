//! Turnlock's locks on etcd v3, and on everything that speaks its API: the embedded coordinator's
//! server does.
//!
//! A build needs Google's `protoc`: `apt-get install protobuf-compiler`, or
//! `cargo install protox --features bin` and `PROTOC="$HOME/.cargo/bin/protox"` in the environment.
//!
//! A session is a lease; an entry is a key on it, and its place in the queue is its create
//! revision. Keys and values are those that Go's `concurrency.Mutex`, `etcdctl lock`, jetcd and the
//! v3 Lock service queue with, so all of them share one queue.
//!
//! All I/O runs on [`lock_core::background`]; the futures of this crate can be polled on any
//! executor.

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
pub use backend_kit::keyspace::Keyspace;
pub use config::{Config, Dialer};

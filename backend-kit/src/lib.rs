//! Code that Turnlock's backends share and users never see: the layout of keys, secrets, parts of
//! URLs, connections, faults of TLS, batched writes, turns of requests, a store that went back.
//!
//! Nothing here is part of the public API of the crate `turnlock`. There is no promise of
//! stability: it changes whenever a backend needs it.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod batched;
pub mod causes;
pub mod connection;
pub mod continuity;
pub mod keyspace;
pub mod opening;
pub mod secret;
#[cfg(feature = "tls")]
pub mod tls;
pub mod turns;
pub mod url;

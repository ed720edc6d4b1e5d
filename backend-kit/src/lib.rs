//! What Turnlock's backends share and users never see.
//!
//! Nothing here is part of the public API of the crate `turnlock`. It has no stability promise of
//! its own: it changes whenever a backend needs it.

pub mod batched;
pub mod keyspace;
pub mod opening;
pub mod secret;
pub mod url;

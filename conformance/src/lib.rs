//! The suite that every backend of Turnlock's locks passes.
//!
//! # For authors of a backend
//!
//! This part needs the feature `harness`, which is on by default.
//!
//! Write a [`Fixture`], which starts a server for one case and makes clients of it, and a test
//! file:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use conformance::{Fixture, Suite, skips};
//!
//! // The `main` of the test file returns this for the fixture of its backend.
//! fn run_suite(fixture: impl Fixture + 'static) -> ExitCode {
//!     conformance::main([Suite::new(fixture).skips(skips::IN_PROCESS)])
//! }
//! ```
//!
//! with this in `Cargo.toml`, since the suite brings its own `main`:
//!
//! ```toml
//! [[test]]
//! name = "conformance"
//! harness = false
//! ```
//!
//! Each case is a test of its own, named `fixture::group::case`, so that `cargo test -- FILTER` and
//! cargo-nextest choose among them. Cases do harm through the hooks of a [`Deployment`]: an
//! administrator, a network that fails, processes to stop and kill. A case is skipped if the
//! deployment returns a [`Skip`] for a hook that it needs. A test that silently does nothing proves
//! nothing. So the test file lists the cases that its fixture skips, and any difference from that
//! list is a failure. A fixture whose server is not installed fails its cases, and says how to
//! install it.
//!
//! # In other programs
//!
//! [`cases`] and [`Case::run`] run the cases one by one. `turnlock conformance` does so with a
//! [`Live`] fixture, on a coordinator that others use.

mod cases;
#[cfg(feature = "harness")]
mod decisions;
mod fixture;
mod link;
mod live;
mod proxy;
mod run;
#[cfg(feature = "harness")]
pub mod skips;
#[cfg(feature = "harness")]
mod suite;
mod test_bed;

pub use cases::{Case, all as cases};
pub use fixture::{Administrator, Deployment, Fixture, Members, Skip};
pub use link::Link;
pub use live::Live;
pub use proxy::Proxy;
pub use run::{Outcome, TIME_LIMIT};
#[cfg(feature = "harness")]
pub use suite::{Suite, main};

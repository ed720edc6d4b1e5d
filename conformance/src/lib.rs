//! The suite that every backend passes.
//!
//! # For authors of a backend
//!
//! This part needs the feature `harness`, which is on by default.
//!
//! Write a [`Fixture`], which starts a server for one case and makes clients of it, and a test file:
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use conformance::{Administrator, Deployment, Fixture};
//! # struct Mine;
//! # impl Fixture for Mine {
//! #     fn name(&self) -> &'static str { "mine" }
//! #     fn start(&self) -> Box<dyn Deployment> { unimplemented!() }
//! # }
//! use std::process::ExitCode;
//!
//! use conformance::{Suite, skips};
//!
//! fn main() -> ExitCode {
//!     conformance::main([Suite::new(Mine).skips(skips::IN_PROCESS)])
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
//! cargo-nextest choose among them. The harm that cases do goes through the hooks of a
//! [`Deployment`]: an administrator, a network that fails, processes to stop and kill. What a
//! deployment answers with a [`Skip`] is not run and says why; and since a test that silently does
//! nothing proves nothing, every case that is skipped must be on the list of the test file, and
//! every one on the list must be skipped: a difference fails. A fixture that cannot start, for want
//! of a server, fails its cases and says how to get it.
//!
//! # In other programs
//!
//! [`cases`] and [`Case::run`] run the suite one by one: `turnlock conformance` does so on a
//! coordinator that others use, as a [`Live`] fixture.

mod cases;
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

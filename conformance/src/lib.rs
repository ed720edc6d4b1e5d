//! The suite that every backend passes.
//!
//! # For authors of a backend
//!
//! Write a [`Fixture`], which starts a server for one case and makes clients of it, and a test file:
//!
//! ```no_run
//! # use conformance::fixtures::{Memory, Served};
//! use std::process::ExitCode;
//!
//! use conformance::Suite;
//!
//! /// What cannot be shown without a network.
//! const IN_PROCESS: &[&str] = &["round_trips::a_try_of_a_held_lock_takes_one"];
//!
//! fn main() -> ExitCode {
//!     conformance::main([Suite::new(Served), Suite::new(Memory).skips(IN_PROCESS)])
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

pub mod chaos;
pub mod checker;
pub mod fixtures;
pub mod history;
pub mod proxy;

mod bench;
mod cases;
mod fixture;
mod link;
mod live;
mod run;
mod suite;

pub use cases::{Case, all as cases};
pub use fixture::{Administrator, Deployment, Fixture, Members, Skip};
pub use link::Link;
pub use live::Live;
pub use run::{Outcome, PATIENCE};
pub use suite::{Suite, main};

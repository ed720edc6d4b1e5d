//! Starts servers for measurements of Turnlock's locks, each for one run.
//!
//! The program of this crate measures all of them with the workloads of [`load`]. Its Criterion
//! benches measure single steps.

pub mod servers;

//! Provides what Turnlock's own tests need: real servers, histories, the checker, chaos and the
//! museum. It is not published.

pub mod chaos;
pub mod checker;
pub mod crowd;
#[cfg(any(feature = "embedded", feature = "etcd"))]
pub mod etcd_protos;
pub mod fixtures;
pub mod history;
pub mod interruption;
pub mod scrape;
pub mod waiting;

#[cfg(feature = "embedded")]
use std::process::ExitCode;

#[cfg(feature = "embedded")]
use conformance::Suite;

/// Runs these suites as [`conformance::main`] does, or runs the coordinator for which a suite has
/// started this program again: the fixture [`Served`](fixtures::Served) runs it as a process of its
/// own.
#[cfg(feature = "embedded")]
pub fn main(suites: impl IntoIterator<Item = Suite>) -> ExitCode {
    match fixtures::serve_if_asked() {
        Some(exit) => exit,
        None => conformance::main(suites),
    }
}

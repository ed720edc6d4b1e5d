//! The suite that every backend passes.
//!
//! A backend's test file is a [`Fixture`] and one line:
//!
//! ```no_run
//! # use conformance::fixtures::Memory;
//! fn main() -> std::process::ExitCode {
//!     conformance::main(vec![Box::new(Memory)])
//! }
//! ```
//!
//! Each case is a test of its own, named `fixture::group::case`, so that `cargo test -- FILTER` and
//! cargo-nextest choose among them. A fixture that cannot start, for want of a server, fails its
//! cases and says how to get it.

pub mod chaos;
pub mod checker;
pub mod fixtures;
pub mod history;
pub mod proxy;

mod bench;
mod cases;
mod fixture;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

pub use bench::Bench;
pub use fixture::{Deployment, Fixture};

/// Runs all cases on these fixtures, as the arguments of the test program choose.
pub fn main(fixtures: Vec<Box<dyn Fixture>>) -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = vec![];
    for fixture in fixtures {
        let fixture: Arc<dyn Fixture> = fixture.into();
        for case in cases::ALL {
            let fixture = fixture.clone();
            let name = format!("{}::{}", fixture.name(), case.name());
            trials.push(Trial::test(name, move || {
                bench::run(&*fixture, case);
                Ok(())
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

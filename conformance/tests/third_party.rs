//! The suite on a backend that is not one of Turnlock's own.

mod small;

use std::process::ExitCode;

use conformance::{Suite, skips};

fn main() -> ExitCode {
    conformance::main([Suite::new(small::Small).skips(skips::IN_PROCESS)])
}

//! The suite on a backend that is not one of Turnlock's own.

mod fixture;
mod small;

use std::process::ExitCode;

use conformance::{Suite, skips};
use small::{client, store};

fn main() -> ExitCode {
    conformance::main([Suite::new(fixture::Small).skips(skips::IN_PROCESS)])
}

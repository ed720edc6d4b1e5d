//! The conformance suite on the embedded coordinator.

use std::process::ExitCode;

use conformance::{Suite, skips};
use testkit::fixtures::{Durable, Memory, Served};

fn main() -> ExitCode {
    testkit::main([
        Suite::new(Memory).skips(skips::IN_PROCESS),
        Suite::new(Durable).skips(skips::IN_PROCESS),
        Suite::new(Served).skips(skips::ONE_MEMBER),
    ])
}

//! The suite on the embedded coordinator.

mod skips;

use std::process::ExitCode;

use conformance::Suite;
use conformance::fixtures::{Durable, Memory, Served};

/// What takes more than one server.
const ONE_MEMBER: &[&str] = &[
    "liveness::a_wait_goes_on_while_a_member_stands_still",
    "liveness::holders_survive_a_rolling_restart",
];

fn main() -> ExitCode {
    conformance::main([
        Suite::new(Memory).skips(skips::IN_PROCESS),
        Suite::new(Durable).skips(skips::IN_PROCESS),
        Suite::new(Served).skips(ONE_MEMBER),
    ])
}

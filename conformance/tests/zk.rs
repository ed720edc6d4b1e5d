//! The suite on real ZooKeeper.

use std::process::ExitCode;

use conformance::Suite;
use conformance::fixtures::Zk;

/// What takes more than one server.
const ONE_MEMBER: &[&str] = &[
    "liveness::a_wait_goes_on_while_a_member_stands_still",
    "liveness::holders_survive_a_rolling_restart",
];

fn main() -> ExitCode {
    conformance::main([
        Suite::new(Zk::single()).skips(ONE_MEMBER),
        Suite::new(Zk::ensemble()),
    ])
}

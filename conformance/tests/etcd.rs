//! The suite on real etcd.

use std::process::ExitCode;

use conformance::Suite;
use conformance::fixtures::Etcd;

/// What takes more than one server.
const ONE_MEMBER: &[&str] = &[
    "liveness::a_wait_goes_on_while_a_member_stands_still",
    "liveness::holders_survive_a_rolling_restart",
];

fn main() -> ExitCode {
    conformance::main([
        Suite::new(Etcd::single()).skips(ONE_MEMBER),
        Suite::new(Etcd::cluster()),
    ])
}

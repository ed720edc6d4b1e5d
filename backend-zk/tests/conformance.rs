//! The suite on real ZooKeeper.

use std::process::ExitCode;

use conformance::{Suite, skips};
use testkit::fixtures::Zk;

fn main() -> ExitCode {
    conformance::main([
        Suite::new(Zk::single()).skips(skips::ONE_MEMBER),
        Suite::new(Zk::ensemble()),
    ])
}

//! The suite on real etcd.

use std::process::ExitCode;

use conformance::{Suite, skips};
use testkit::fixtures::Etcd;

fn main() -> ExitCode {
    conformance::main([
        Suite::new(Etcd::single()).skips(skips::ONE_MEMBER),
        Suite::new(Etcd::cluster()),
    ])
}

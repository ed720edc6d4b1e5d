//! The suite on real ZooKeeper.

use std::process::ExitCode;

use conformance::fixtures::Zk;

fn main() -> ExitCode {
    conformance::main(vec![Box::new(Zk::single()), Box::new(Zk::ensemble())])
}

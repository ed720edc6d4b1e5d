//! The suite on real etcd.

use std::process::ExitCode;

use conformance::fixtures::Etcd;

fn main() -> ExitCode {
    conformance::main(vec![Box::new(Etcd::single()), Box::new(Etcd::cluster())])
}

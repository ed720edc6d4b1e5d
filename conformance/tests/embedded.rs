//! The suite on the embedded coordinator.

use std::process::ExitCode;

use conformance::fixtures::{Durable, Memory, Served};

fn main() -> ExitCode {
    conformance::main(vec![Box::new(Memory), Box::new(Durable), Box::new(Served)])
}

//! The program behind `tools/simulate`.
//!
//! It runs the whole stack in one process, on one thread and one paused runtime: contenders on the
//! real core, the real client, the real gRPC server, the real coordinator and its store, on a
//! simulated disk and a simulated network. A seed decides everything. So a run that breaks a rule can
//! be shown again, and the time of a run is not the time that passes.

#[cfg(simulation)]
mod arguments;
#[cfg(simulation)]
mod batch;
#[cfg(simulation)]
mod corpus;
#[cfg(simulation)]
mod faults;
#[cfg(simulation)]
mod fleet;
#[cfg(simulation)]
mod network;
#[cfg(simulation)]
mod process;
#[cfg(simulation)]
mod run;
#[cfg(simulation)]
mod server;
#[cfg(simulation)]
mod service;
#[cfg(simulation)]
mod setup;
#[cfg(simulation)]
mod store;
#[cfg(simulation)]
mod summary;
#[cfg(simulation)]
mod world;

use std::process::ExitCode;

#[cfg(not(simulation))]
fn main() -> ExitCode {
    eprintln!("simulation: this program was built without its flags: run tools/simulate");
    ExitCode::from(2)
}

#[cfg(simulation)]
fn main() -> ExitCode {
    batch::main()
}

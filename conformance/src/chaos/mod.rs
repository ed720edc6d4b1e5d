//! Chaos: contenders in processes of their own fight for locks on real servers, while faults that a
//! seed draws hit both and the network between them; then the [checker](crate::checker) judges the
//! history.
//!
//! The contenders, and the embedded coordinator, are this very program, started again: its `main`
//! asks [`helper_main`] first of all.

mod contender;
mod fleet;
mod network;
mod plan;
mod recorder;
mod report;
mod resource;
mod run;
mod servers;

use std::process::ExitCode;
use std::time::Duration;

pub use report::Report;
pub use run::run;

/// The first argument that makes this program a contender.
const CONTENDER: &str = "__chaos-contender";
/// The first argument that makes this program the embedded coordinator.
#[cfg(feature = "embedded")]
const COORDINATOR: &str = "__chaos-coordinator";

/// On which servers a run is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The embedded coordinator, behind its gRPC face.
    #[cfg(feature = "embedded")]
    Embedded,
    /// Debian's etcd.
    #[cfg(feature = "etcd")]
    Etcd,
    /// Debian's ZooKeeper.
    #[cfg(feature = "zk")]
    Zk,
}

impl Backend {
    /// All that were compiled in.
    pub const ALL: &[Backend] = &[
        #[cfg(feature = "embedded")]
        Backend::Embedded,
        #[cfg(feature = "etcd")]
        Backend::Etcd,
        #[cfg(feature = "zk")]
        Backend::Zk,
    ];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "embedded")]
            Backend::Embedded => "embedded",
            #[cfg(feature = "etcd")]
            Backend::Etcd => "etcd",
            #[cfg(feature = "zk")]
            Backend::Zk => "zk",
        }
    }

    /// Of how many servers it can be made.
    pub fn nodes(self) -> &'static [usize] {
        match self {
            #[cfg(feature = "embedded")]
            Backend::Embedded => &[1],
            #[cfg(feature = "etcd")]
            Backend::Etcd => &[1, 3],
            #[cfg(feature = "zk")]
            Backend::Zk => &[1, 3],
        }
    }
}

/// A run.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The servers.
    pub backend: Backend,
    /// How many of them: 1 or 3; the embedded coordinator is one.
    pub nodes: usize,
    /// How long faults are made.
    pub length: Duration,
    /// What is drawn depends on nothing else.
    pub seed: u64,
}

/// Does the work of a contender or a coordinator if that is what this process was started as, and
/// answers its exit status.
pub fn helper_main() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next()?;
    match role.as_str() {
        CONTENDER => {
            die_with_the_run();
            Some(contending(&arguments.next()?))
        }
        #[cfg(feature = "embedded")]
        COORDINATOR => {
            die_with_the_run();
            let folder = arguments.next()?.into();
            Some(servers::embedded::main(folder, &arguments.next()?))
        }
        _ => None,
    }
}

/// So that nothing is left of a run that is killed.
fn die_with_the_run() {
    // Where the system cannot do that, it is left to the person who killed it.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
}
fn contending(orders: &str) -> ExitCode {
    let contended = serde_json::from_str(orders)
        .map_err(Into::into)
        .and_then(contender::main);
    match contended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("a contender: {error}");
            ExitCode::FAILURE
        }
    }
}

//! Runs chaos tests: contenders in processes of their own fight for locks on real servers, while
//! faults that a seed draws hit both and the network between them. Then the
//! [checker](crate::checker) judges the history.
//!
//! The contenders and the embedded coordinator are this same program, started again: its `main`
//! calls [`helper_main`] first of all.

pub mod contender;
pub mod plan;
pub mod report;
pub mod resource;
pub mod servers;

mod data;
mod fleet;
mod network;
mod recorder;
mod run;

use std::io::{self, Write};
#[cfg(feature = "zk")]
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

pub use network::Trouble;
pub use report::Report;
pub use run::run;

/// The first argument that makes this program a contender.
const CONTENDER: &str = "__chaos-contender";
/// The servers on which a run is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The embedded coordinator, behind its gRPC interface.
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
    /// The backends that were compiled in.
    pub const ALL: &[Backend] = &[
        #[cfg(feature = "embedded")]
        Backend::Embedded,
        #[cfg(feature = "etcd")]
        Backend::Etcd,
        #[cfg(feature = "zk")]
        Backend::Zk,
    ];

    /// Returns the name of the backend.
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

    /// Returns the command that installs the server, if it is not installed.
    pub fn missing(self) -> Option<&'static str> {
        match self {
            #[cfg(feature = "embedded")]
            Backend::Embedded => None,
            #[cfg(feature = "etcd")]
            Backend::Etcd if !in_path("etcd") => Some("apt-get install etcd-server"),
            #[cfg(feature = "etcd")]
            Backend::Etcd => None,
            #[cfg(feature = "zk")]
            Backend::Zk if !in_path("java") || !Path::new(ZOOKEEPER).exists() => {
                Some("apt-get install zookeeper")
            }
            #[cfg(feature = "zk")]
            Backend::Zk => None,
        }
    }

    /// Returns the possible numbers of servers.
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

/// The file of Debian's ZooKeeper.
#[cfg(feature = "zk")]
const ZOOKEEPER: &str = "/usr/share/java/zookeeper.jar";

#[cfg(any(feature = "etcd", feature = "zk"))]
fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The settings of a run.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The servers.
    pub backend: Backend,
    /// The number of servers: 1 or 3. The embedded coordinator has one.
    pub nodes: usize,
    /// The time during which faults occur.
    pub length: Duration,
    /// The seed of all random choices. They depend on nothing else.
    pub seed: u64,
}

/// Does the work of a contender or a coordinator if this process was started as one, and returns
/// its exit status.
pub fn helper_main() -> Option<ExitCode> {
    #[cfg(feature = "embedded")]
    if let Some(ended) = crate::fixtures::serve_if_asked() {
        return Some(ended);
    }
    // The arguments of a command line need not be UTF-8.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != CONTENDER {
        return None;
    }
    die_with_the_run();
    Some(contending(arguments.next()?.to_str()?))
}

/// Reports the progress of the run on stderr. If stderr cannot be written to, the run goes on.
fn tell(message: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// Makes this process die with the run, so that a killed run leaves nothing behind.
fn die_with_the_run() {
    // On a system without this signal, the person who killed the run has to end the rest.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
}
fn contending(orders: &str) -> ExitCode {
    let contended = serde_json::from_str(orders)
        .map_err(Into::into)
        .and_then(contender::main);
    match contended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(format_args!("a contender: {error}"));
            ExitCode::FAILURE
        }
    }
}

//! Servers that are started for one run, and end with it.

mod etcd;
mod in_process;
mod served;
#[cfg(feature = "zk")]
mod zookeeper;

use std::time::Duration;

use load::{Measurement, Target};

pub use served::serve_if_asked;

/// A server, or a coordinator in this process, and the target on it.
pub struct Server {
    target: Target,
    running: Box<dyn Running>,
}

/// What ends when it is dropped.
trait Running {
    fn others(&self, _length: Duration) -> Vec<Measurement> {
        vec![]
    }
}

/// The targets that were compiled in. A program that starts `served` calls [`serve_if_asked`] first of
/// all, since it is started again as that server.
pub fn names() -> Vec<&'static str> {
    vec![
        "memory",
        "durable",
        "served",
        "etcd",
        #[cfg(feature = "zk")]
        "zookeeper",
    ]
}

impl Server {
    /// Starts one of [`names`].
    ///
    /// # Panics
    /// If the server is not installed, with the command that installs it.
    pub fn start(name: &str) -> Self {
        match name {
            "memory" => in_process::memory(),
            "durable" => in_process::durable(),
            "served" => served::start(),
            "etcd" => etcd::start(),
            #[cfg(feature = "zk")]
            "zookeeper" => zookeeper::start(),
            _ => unreachable!("{name} is not among the names"),
        }
    }

    fn new(url: &str, running: impl Running + 'static) -> Self {
        let connecting = blocking().block_on(Target::connect(url));
        Server {
            target: connecting.expect("a coordinator of our own"),
            running: Box::new(running),
        }
    }

    /// The target on it.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What others' clients do on the same server, for comparison; each measurement takes so long.
    pub fn others(&self, length: Duration) -> Vec<Measurement> {
        self.running.others(length)
    }
}

/// An executor for the start of a server.
fn blocking() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the operating system gives an event queue")
}

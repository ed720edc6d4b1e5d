//! Starts servers for one run, which end with it.

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

/// A server that ends when this is dropped.
trait Running {
    fn measure_peers(&self, _length: Duration) -> Vec<Measurement> {
        vec![]
    }
}

/// Returns the targets that were compiled in. A program that starts `served` calls
/// [`serve_if_asked`] first of all, because it is started again as that server.
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
    /// Starts one of the servers in [`names`].
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

    /// Returns the target on this server.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Measures the locks of other clients on the same server, for comparison. Each measurement
    /// takes this long.
    pub fn measure_peers(&self, length: Duration) -> Vec<Measurement> {
        self.running.measure_peers(length)
    }
}

/// Makes a runtime for the start of a server.
fn blocking() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the operating system gives an event queue")
}

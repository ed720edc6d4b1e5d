//! The embedded coordinator, served by a process of its own: this program again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use backend_embedded::server::{Listen, Server};
use backend_embedded::{Config, Coordinator, Error};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::watch::Observer;
use super::{Account, Cluster};
use crate::chaos::COORDINATOR;
use crate::fixtures::free_port;
use crate::history::Store;

/// A predecessor that was killed lets go of its folder when the system has cleaned up after it.
const PREDECESSOR: Duration = Duration::from_secs(5);

/// One coordinator.
pub struct Embedded {
    folder: TempDir,
    address: String,
    process: Option<Child>,
    observer: Observer,
}

impl Embedded {
    pub async fn start() -> Self {
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        let folder = tempfile::Builder::new()
            .prefix("tl")
            .permissions(private)
            .tempdir()
            .expect("a temporary folder");
        let address = format!("127.0.0.1:{}", free_port());
        let mut embedded = Embedded {
            folder,
            observer: Observer::start([address.clone()]),
            address,
            process: None,
        };
        Cluster::start(&mut embedded, 0);
        embedded.observer.ready().await;
        embedded
    }
}

#[async_trait]
impl Cluster for Embedded {
    fn size(&self) -> usize {
        1
    }

    fn address(&self, _member: usize) -> String {
        self.address.clone()
    }

    fn url(&self, addresses: &[String]) -> String {
        format!("etcd://{}", addresses.join(","))
    }

    fn store(&self, ttl: Duration) -> Store {
        Store {
            ours: true,
            recovery: Duration::from_secs(2),
            ttl,
        }
    }

    fn pause(&mut self, _member: usize) {
        self.signal(Signal::STOP);
    }

    fn resume(&mut self, _member: usize) {
        self.signal(Signal::CONT);
    }

    fn kill(&mut self, _member: usize) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn start(&mut self, _member: usize) {
        let process = Command::new("/proc/self/exe")
            .arg(COORDINATOR)
            .arg(self.folder.path())
            .arg(&self.address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        self.process = Some(process.expect("this program starts"));
    }

    async fn account(&mut self) -> Account {
        self.observer.account().await
    }
}

impl Embedded {
    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it was started");
        kill_process(Pid::from_child(process), signal).expect("a child of ours");
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.kill(0);
    }
}

/// The process: serves the coordinator in this folder at this address, until it is killed.
pub fn main(folder: PathBuf, address: &str) -> ExitCode {
    match serve(&folder, address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the coordinator in {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn serve(folder: &Path, address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let listen: Listen = address.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let coordinator = open(folder)?;
    runtime.block_on(async {
        let server = Server::bind(coordinator, vec![listen])?;
        server.serve(std::future::pending()).await;
        Ok(())
    })
}

fn open(folder: &Path) -> Result<Coordinator, Error> {
    let started = Instant::now();
    loop {
        match Coordinator::open(Config::new(folder)) {
            Err(Error::AlreadyOpen { .. }) if started.elapsed() < PREDECESSOR => {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

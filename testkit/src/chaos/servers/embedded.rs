//! Runs the embedded coordinator in a process of its own, which is this program again.

use std::process::Child;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::watch::Observer;
use super::{Account, Cluster};
use crate::fixtures::{free_port, private_folder, served};
use crate::history::Store;

/// One coordinator.
pub struct Embedded {
    folder: TempDir,
    port: u16,
    process: Option<Child>,
    observer: Observer,
}

impl Embedded {
    pub async fn start() -> Self {
        let port = free_port();
        let mut embedded = Embedded {
            folder: private_folder(),
            port,
            process: None,
            observer: Observer::start([format!("127.0.0.1:{port}")], true),
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
        format!("127.0.0.1:{}", self.port)
    }

    fn url(&self, addresses: &[String]) -> String {
        format!("etcd://{}", addresses.join(","))
    }

    fn store(&self, ttl: Duration) -> Store {
        Store {
            ours: true,
            recovery: Duration::from_secs(2),
            ttl,
            handoff: None,
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
        self.process = Some(served::spawn(self.folder.path(), self.port));
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

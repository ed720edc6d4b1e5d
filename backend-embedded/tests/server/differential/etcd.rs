//! A real etcd for one test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use etcd_client::Client;

use crate::support::{PATIENCE, required};

/// An etcd with an empty store; killed when dropped.
pub struct Etcd {
    pub endpoint: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Etcd {
    /// Starts an etcd, and waits until it responds.
    pub async fn start() -> Self {
        // Another process may take a port between its choice and its use. Then other ports are
        // chosen.
        for _ in 0..5 {
            let mut etcd = Self::spawn();
            if etcd.answers().await {
                return etcd;
            }
        }
        panic!("etcd does not start");
    }

    fn spawn() -> Self {
        let program = required("etcd", "etcd-server");
        let folder = tempfile::tempdir().expect("a folder");
        let [endpoint, peer] = free_urls();
        let child = Command::new(program)
            .env_clear()
            .arg("--data-dir")
            .arg(folder.path())
            .args(["--name", "it", "--log-level", "error"])
            .args([
                "--listen-client-urls",
                &endpoint,
                "--advertise-client-urls",
                &endpoint,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("it={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts");
        Self {
            endpoint,
            child,
            _folder: folder,
        }
    }

    /// Waits until the server responds; returns `false` if it has ended.
    async fn answers(&mut self) -> bool {
        let asked = tokio::time::Instant::now();
        while asked.elapsed() < PATIENCE {
            if self.child.try_wait().expect("waited").is_some() {
                return false;
            }
            if let Ok(mut client) = Client::connect([&self.endpoint], None).await
                && client.get("k", None).await.is_ok()
            {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_urls() -> [String; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|listener| format!("http://{}", listener.local_addr().expect("an address")))
}

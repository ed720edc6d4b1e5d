//! A real etcd for a test, and what the tests do to it by other means than the backend.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod certs;

use std::fs::File;
use std::future::Future;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backend_etcd::{Config, EtcdBackend};
use lock_core::{Locks, Options};

/// Generous: the machine may be busy with other things.
pub const SOON: Duration = Duration::from_secs(30);

/// One node of the system's etcd, killed when dropped.
pub struct Etcd {
    folder: tempfile::TempDir,
    client_port: u16,
    peer_port: u16,
    /// All nodes of its cluster.
    cluster: String,
    /// Milliseconds without a word from the leader before a node stands for election.
    election_ms: u32,
    /// More arguments, and the port for TLS if they are about that: the plain one stays open for
    /// the test itself.
    arguments: Vec<String>,
    tls_port: Option<u16>,
    child: Option<Child>,
}

impl Etcd {
    pub async fn start() -> Self {
        Etcd::start_with(Vec::new(), false).await
    }

    /// With more arguments, and with a port for TLS if they make it possible.
    pub async fn start_with(arguments: Vec<String>, tls: bool) -> Self {
        // Another process may take a port between the moment we find it free and the moment etcd
        // listens on it.
        for _ in 0..5 {
            let mut etcd = Etcd::new();
            etcd.cluster = etcd.member();
            // A lone node elects itself at once.
            etcd.election_ms = 200;
            etcd.arguments = arguments.clone();
            etcd.tls_port = tls.then(free_port);
            if etcd.resume().await {
                return etcd;
            }
        }
        panic!("etcd did not start in five tries");
    }

    /// Three nodes with etcd's own timings.
    pub async fn start_three() -> [Self; 3] {
        'tries: for _ in 0..5 {
            let mut nodes = [Etcd::new(), Etcd::new(), Etcd::new()];
            let cluster = nodes.each_ref().map(Etcd::member).join(",");
            for node in &mut nodes {
                node.cluster = cluster.clone();
                node.spawn();
            }
            for node in &mut nodes {
                if !node.serves().await {
                    continue 'tries;
                }
            }
            return nodes;
        }
        panic!("a cluster did not start in five tries");
    }

    fn new() -> Self {
        Etcd {
            folder: tempfile::tempdir().expect("a folder for the data"),
            client_port: free_port(),
            peer_port: free_port(),
            cluster: String::new(),
            election_ms: 1000,
            arguments: Vec::new(),
            tls_port: None,
            child: None,
        }
    }

    fn name(&self) -> String {
        format!("n{}", self.peer_port)
    }

    fn member(&self) -> String {
        format!("{}=http://127.0.0.1:{}", self.name(), self.peer_port)
    }

    /// Starts the node, again on its old data; false if it ends instead of serving.
    pub async fn resume(&mut self) -> bool {
        self.spawn();
        self.serves().await
    }

    async fn serves(&mut self) -> bool {
        let started = Instant::now();
        while started.elapsed() < SOON {
            let child = self.child.as_mut().expect("just started");
            if child.try_wait().expect("our own child").is_some() {
                return false;
            }
            let probe = async { self.client().await.get("probe", None).await.is_ok() };
            let probed = tokio::time::timeout(Duration::from_secs(1), probe).await;
            if probed.is_ok_and(|up| up) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Starts the node without waiting for it.
    pub fn spawn(&mut self) {
        let mut client = format!("http://{}", self.address());
        if self.tls_port.is_some() {
            client.push_str(&format!(",https://{}", self.tls_address()));
        }
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let log = File::create(self.folder.path().join("log")).expect("a log file");
        let child = Command::new("etcd")
            .args(["--name", &self.name(), "--data-dir"])
            .arg(self.folder.path().join("data"))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &self.cluster])
            .args(["--heartbeat-interval", &(self.election_ms / 10).to_string()])
            .args(["--election-timeout", &self.election_ms.to_string()])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("these tests need a real etcd: apt-get install etcd-server etcd-client");
        self.child = Some(child);
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP or SIGCONT.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("running").id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        assert!(status.expect("kill runs").success());
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    pub fn tls_address(&self) -> String {
        let port = self.tls_port.expect("started with TLS");
        format!("127.0.0.1:{port}")
    }

    /// Whether it leads its cluster, by its own word.
    pub async fn leads(&self) -> bool {
        let status = self.client().await.status().await.expect("etcd serves");
        let header = status.header().expect("a header");
        status.leader() == header.member_id()
    }

    pub fn backend(&self) -> Arc<EtcdBackend> {
        backend(&format!("etcd://{}", self.address()))
    }

    /// A process's locks: each call makes a client of its own.
    pub fn locks(&self, ttl: Duration) -> Locks {
        locks(self.backend(), ttl)
    }

    /// A plain client, to look at the store and to do harm.
    pub async fn client(&self) -> etcd_client::Client {
        etcd_client::Client::connect([self.address()], None)
            .await
            .expect("no connection is made yet")
    }

    /// All keys under a prefix, by create revision.
    pub async fn keys(&self, prefix: &str) -> Vec<String> {
        let options = etcd_client::GetOptions::new().with_prefix().with_sort(
            etcd_client::SortTarget::Create,
            etcd_client::SortOrder::Ascend,
        );
        let answer = self.client().await.get(prefix, Some(options)).await;
        let answer = answer.expect("etcd serves");
        let text = |kv: &etcd_client::KeyValue| String::from_utf8_lossy(kv.key()).into_owned();
        answer.kvs().iter().map(text).collect()
    }

    /// The store's revision: it rises with every write.
    pub async fn revision(&self) -> i64 {
        let answer = self.client().await.get("probe", None).await;
        let answer = answer.expect("etcd serves");
        answer.header().expect("a header").revision()
    }

    /// Waits until so many keys stand under a prefix.
    pub async fn wait_keys(&self, prefix: &str, count: usize) -> Vec<String> {
        let mut keys = Vec::new();
        for _ in 0..3000 {
            keys = self.keys(prefix).await;
            if keys.len() == count {
                return keys;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{count} keys are awaited under {prefix}; there are {keys:?}");
    }

    pub fn ctl(&self) -> Command {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.address()]);
        command
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn backend(url: &str) -> Arc<EtcdBackend> {
    EtcdBackend::new(Config::from_url(url).expect("a valid URL")).expect("a usable URL")
}

pub fn locks(backend: Arc<EtcdBackend>, ttl: Duration) -> Locks {
    let options = Options {
        ttl,
        ..Options::default()
    };
    Locks::new(backend, options).expect("valid options")
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Fails the test instead of hanging.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {SOON:?}: {what}"),
    }
}

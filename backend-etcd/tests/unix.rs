//! A coordinator behind a Unix socket, started when it is needed.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backend_etcd::{Config, EtcdBackend};
use lock_core::{ErrorKind, Release};
use support::{Node, locks};
use testkit::waiting::soon;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

const TTL: Duration = Duration::from_secs(10);

/// Forwards a Unix socket to etcd, in place of a coordinator.
struct Coordinator {
    path: PathBuf,
    server: String,
    starts: AtomicU64,
    running: Mutex<Option<JoinHandle<()>>>,
}

impl Coordinator {
    async fn dial(&self) -> std::io::Result<UnixStream> {
        let mut running = self.running.lock().await;
        if running.is_none() {
            self.starts.fetch_add(1, Ordering::SeqCst);
            let _ = std::fs::remove_file(&self.path);
            let listener = UnixListener::bind(&self.path)?;
            *running = Some(tokio::spawn(serve(listener, self.server.clone())));
        }
        UnixStream::connect(&self.path).await
    }

    async fn kill(&self) {
        if let Some(task) = self.running.lock().await.take() {
            task.abort();
            let _ = task.await;
        }
    }
}

async fn serve(listener: UnixListener, server: String) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let server = server.clone();
        connections.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(server).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

fn config(path: &Path) -> Config {
    Config::from_url(&format!("etcd+unix://{}", path.display())).expect("valid")
}

#[tokio::test]
async fn a_dead_socket_is_brought_to_life_by_the_dialer() {
    let etcd = Node::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");

    let plain = EtcdBackend::new(config(&path)).expect("usable");
    let mutex = locks(plain, TTL).mutex("x").expect("valid");
    let error = mutex.try_acquire().await.expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains("socket"), "{error}");

    let coordinator = Arc::new(Coordinator {
        path: path.clone(),
        server: etcd.address(),
        starts: AtomicU64::new(0),
        running: Mutex::default(),
    });
    let dialer = {
        let coordinator = coordinator.clone();
        Arc::new(move || {
            let coordinator = coordinator.clone();
            let dialed: futures_util::future::BoxFuture<'static, _> =
                Box::pin(async move { coordinator.dial().await });
            dialed
        })
    };
    let backend = EtcdBackend::new(config(&path).with_dialer(dialer)).expect("usable");
    let locks = locks(backend, TTL);
    let mutex = locks.mutex("x").expect("valid");
    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
    assert_eq!(coordinator.starts.load(Ordering::SeqCst), 1);

    coordinator.kill().await;
    assert_eq!(
        soon("release", guard.release()).await.expect("an answer"),
        Release::Released
    );
    assert_eq!(coordinator.starts.load(Ordering::SeqCst), 2);
    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    assert_eq!(coordinator.starts.load(Ordering::SeqCst), 2);
}

//! What clients receive when the folder or the socket of their server is gone, and what is left
//! alone.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use backend_embedded::server::{Listen, ListenError, Server};
use backend_embedded::{Config, Coordinator, Error};
use etcd_client::LockOptions;
use tokio::task::JoinHandle;
use tonic::Code;

use crate::support::{client_over, private_folder, refusal, soon};

/// The text by which our own client recognises it.
const GONE: &str = "turnlock: the store is gone from its place";

struct InFolder {
    root: tempfile::TempDir,
    coordinator: Coordinator,
    serving: JoinHandle<Result<(), ListenError>>,
}

impl InFolder {
    fn start() -> Self {
        let root = private_folder();
        Self::start_in(root)
    }

    fn start_in(root: tempfile::TempDir) -> Self {
        let folder = root.path().join("data");
        let coordinator = Coordinator::open(Config::new(&folder)).expect("it opens");
        let listen = vec![Listen::Unix(folder.join("sock"))];
        let server = Server::bind(coordinator.clone(), listen).expect("bound");
        let serving = tokio::spawn(server.serve(std::future::pending()));
        InFolder {
            root,
            coordinator,
            serving,
        }
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("data")
    }

    fn socket(&self) -> PathBuf {
        self.folder().join("sock")
    }

    async fn ended(&mut self) -> Result<(), ListenError> {
        let ended = soon("the server's end", &mut self.serving).await;
        ended.expect("serving did not panic")
    }
}

fn is_gone(received: (Code, String)) -> bool {
    received == (Code::Unavailable, GONE.to_owned())
}

#[tokio::test]
async fn every_client_of_a_lost_store_learns_of_the_loss() {
    let mut served = InFolder::start();
    let mut client = client_over(&served.socket()).await;
    let lease = client.lease_grant(60, None).await.expect("a lease").id();
    let (mut keeper, mut renewals) = client.lease_keep_alive(lease).await.expect("a stream");
    let mut watch = client.watch("k", None).await.expect("a watch");
    soon("its creation", watch.message())
        .await
        .expect("a response");
    let on_lease = LockOptions::new().with_lease(lease);
    client.lock("l", Some(on_lease)).await.expect("locked");
    let mut waiter = client_over(&served.socket()).await;
    let waiting = tokio::spawn(async move { waiter.lock("l", None).await });
    // Two keys: the waiter is in the queue.
    let options = etcd_client::GetOptions::new()
        .with_prefix()
        .with_count_only();
    soon("the waiter to stand", async {
        while client
            .get("l", Some(options.clone()))
            .await
            .expect("read")
            .count()
            < 2
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;

    fs::rename(served.folder(), served.root.path().join("away")).expect("renamed");
    // A client that asks before the server has noticed.
    assert!(is_gone(refusal(client.put("k", "v", None).await)));
    let received = soon("the watch's end", watch.message()).await;
    assert!(is_gone(refusal(received)));
    let waited = soon("the wait's end", waiting).await.expect("no panic");
    assert!(is_gone(refusal(waited)));
    let received = match keeper.keep_alive().await {
        Ok(()) => soon("the stream's end", renewals.message())
            .await
            .map(|_| ()),
        Err(error) => Err(error),
    };
    // The stream may have ended before the client sent anything on it.
    if let Err(etcd_client::Error::GRpcStatus(status)) = received {
        assert!(
            is_gone((status.code(), status.message().to_owned())),
            "{status}"
        );
    }
    served
        .ended()
        .await
        .expect("its coordinator ended, not the server");
    let end = soon("the coordinator's end", served.coordinator.closed()).await;
    assert!(matches!(end, Error::Displaced { .. }), "{end}");
}

/// Something that happens to a socket.
type Harm = fn(&Path);

#[tokio::test]
async fn a_socket_that_is_gone_ends_the_server_and_nothing_else() {
    let harms: [(&str, Harm); 3] = [
        ("removed", |socket| {
            fs::remove_file(socket).expect("removed")
        }),
        ("renamed", |socket| {
            fs::rename(socket, socket.with_file_name("away")).expect("renamed");
        }),
        ("replaced", |socket| {
            fs::remove_file(socket).expect("removed");
            UnixListener::bind(socket).expect("bound");
        }),
    ];
    let mut root = private_folder();
    for (harm, do_harm) in harms {
        let mut served = InFolder::start_in(root);
        let socket = served.socket();
        let mut client = client_over(&socket).await;
        client.put(harm, "v", None).await.expect("put");
        do_harm(&socket);
        let error = served.ended().await.expect_err(harm);
        assert!(
            matches!(&error, ListenError::SocketGone { path } if *path == socket),
            "{harm}: {error}"
        );
        // A file that another process made there must not be removed.
        assert_eq!(socket.exists(), harm == "replaced");
        let _ = fs::remove_file(&socket);
        served.coordinator.close().expect("its folder is there");
        root = served.root;
    }
    let served = InFolder::start_in(root);
    let mut client = client_over(&served.socket()).await;
    for (harm, _) in harms {
        let found = client.get(harm, None).await.expect("read");
        assert_eq!(found.kvs().len(), 1, "{harm}");
    }
    served.serving.abort();
}

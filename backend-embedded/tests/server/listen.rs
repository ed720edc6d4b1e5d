//! The addresses of the server, the clients it accepts, and its end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backend_embedded::server::{Listen, ListenError, Server, remove_stale_socket};
use backend_embedded::{Coordinator, Limits};
use etcd_client::{Client, LeaseGrantOptions, LockOptions, WatchOptions};
use tokio::io::AsyncReadExt;
use tonic::Code;

use crate::support::{Served, channel, private_folder, refusal, soon, unix_channel, until};

fn coordinator() -> Coordinator {
    Coordinator::in_memory(Limits::default()).expect("a coordinator")
}

fn bind(listen: Listen) -> Result<Vec<Listen>, ListenError> {
    Server::bind(coordinator(), vec![listen]).map(|server| server.addresses().to_vec())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").permissions().mode() & 0o7777
}

#[tokio::test]
async fn other_machines_are_kept_out() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let address = address.parse().expect("an address");
        let err = bind(Listen::Tcp(address)).expect_err("not a loopback address");
        assert!(matches!(err, ListenError::NotLoopback { .. }), "{err}");
        assert!(err.to_string().contains("there is no TLS"), "{err}");
    }
}

#[tokio::test]
async fn port_0_is_answered_with_the_real_one() {
    let bound = bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
    let [Listen::Tcp(address)] = bound.as_slice() else {
        panic!("{bound:?}")
    };
    assert_ne!(address.port(), 0);
}

#[tokio::test]
async fn a_taken_address_is_named_and_nothing_stays_bound() {
    let folder = private_folder();
    let socket = folder.path().join("sock");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let taken = taken.local_addr().expect("an address");
    let holder = std::net::TcpListener::bind(taken);
    let listen = vec![Listen::Unix(socket.clone()), Listen::Tcp(taken)];
    if holder.is_ok() {
        let err = Server::bind(coordinator(), listen).expect_err("taken");
        assert!(err.to_string().contains(&taken.to_string()), "{err}");
        assert!(!socket.exists(), "the socket file stays");
    }
}

#[tokio::test]
async fn a_socket_is_for_its_owner_only() {
    let served = Served::start();
    assert_eq!(mode(&served.socket), 0o600);
    let channel = etcd_client::Channel::Tonic(unix_channel(&served.socket).await);
    let mut client = Client::from_channel(channel, None).await.expect("a client");
    client.put("k", "v", None).await.expect("put");
    assert_eq!(client.get("k", None).await.expect("get").count(), 1);
    let socket = served.socket.clone();
    served.stop().await;
    assert!(!socket.exists(), "the socket file stays");
}

#[tokio::test]
async fn a_socket_in_an_open_folder_is_refused() {
    let folder = private_folder();
    let socket = folder.path().join("sock");
    for open in [0o755, 0o710, 0o701] {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(open)).expect("chmod");
        let err = bind(Listen::Unix(socket.clone())).expect_err("an open folder");
        assert!(matches!(err, ListenError::UnsafeFolder { .. }), "{err}");
        let remedy = format!("chmod 700 {}", folder.path().display());
        assert!(err.to_string().contains(&remedy), "{err}");
        assert!(!socket.exists());
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("chmod");
    bind(Listen::Unix(socket)).expect("bound");
}

#[tokio::test]
async fn a_socket_of_a_group_is_for_its_users_and_nobody_else() {
    use std::os::unix::fs::MetadataExt;
    let folder = private_folder();
    let socket = folder.path().join("sock");
    let group = fs::metadata(folder.path()).expect("there").gid();
    let listen = || Listen::UnixOfGroup(socket.clone(), group);
    let set_mode = |mode| {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).expect("chmod");
    };
    for wrong in [0o700, 0o770, 0o755, 0o751, 0o1777] {
        set_mode(wrong);
        let err = bind(listen()).expect_err("not just the group's");
        assert!(matches!(err, ListenError::UnsafeFolder { .. }), "{err}");
        assert!(err.to_string().contains("chmod 750"), "{err}");
    }
    for right in [0o750, 0o710] {
        set_mode(right);
        let other = bind(Listen::UnixOfGroup(socket.clone(), group + 1));
        assert!(matches!(other, Err(ListenError::UnsafeFolder { .. })));
        let bound = Server::bind(coordinator(), vec![listen()]).expect("bound");
        assert_eq!(mode(&socket), 0o660);
        assert_eq!(fs::metadata(&socket).expect("there").gid(), group);
        drop(bound);
    }
}

#[tokio::test]
async fn a_path_too_long_for_the_system_is_refused() {
    let folder = private_folder();
    let pad = |length: usize| -> PathBuf {
        let taken = folder.path().as_os_str().len() + 1;
        folder.path().join("s".repeat(length - taken))
    };
    bind(Listen::Unix(pad(107))).expect("107 bytes fit");
    let err = bind(Listen::Unix(pad(108))).expect_err("108 bytes do not");
    assert!(matches!(err, ListenError::PathTooLong { .. }), "{err}");
    assert!(err.to_string().contains("108 bytes"), "{err}");
}

#[tokio::test]
async fn a_socket_left_behind_is_removed_only_on_request() {
    let folder = private_folder();
    let socket = folder.path().join("sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("bound"));
    let err = bind(Listen::Unix(socket.clone())).expect_err("it exists");
    assert!(matches!(err, ListenError::Exists { .. }), "{err}");
    assert!(socket.exists());
    remove_stale_socket(&socket).expect("removed");
    remove_stale_socket(&socket).expect("nothing to remove is no error");
    bind(Listen::Unix(socket.clone())).expect("bound");

    fs::write(&socket, "precious").expect("written");
    remove_stale_socket(&socket).expect_err("not a socket");
    assert_eq!(fs::read(&socket).expect("still there"), b"precious");
}

#[tokio::test]
async fn a_server_does_not_remove_a_socket_that_took_its_place() {
    let folder = private_folder();
    let socket = folder.path().join("sock");
    let listen = vec![Listen::Unix(socket.clone())];
    let first = Server::bind(coordinator(), listen.clone()).expect("bound");
    remove_stale_socket(&socket).expect("removed");
    let second = Server::bind(coordinator(), listen).expect("bound");
    drop(first);
    assert!(socket.exists(), "the successor's socket is gone");
    drop(second);
    assert!(!socket.exists());
}

#[tokio::test]
async fn connections_are_counted() {
    let mut served = Served::start();
    assert_eq!(*served.connections.borrow(), 0);
    let first = channel(&served.endpoint()).await;
    let second = unix_channel(&served.socket).await;
    soon(
        "two connections",
        served.connections.wait_for(|live| *live == 2),
    )
    .await
    .expect("open");
    drop(first);
    soon(
        "one connection",
        served.connections.wait_for(|live| *live == 1),
    )
    .await
    .expect("open");
    drop(second);
    soon(
        "no connection",
        served.connections.wait_for(|live| *live == 0),
    )
    .await
    .expect("open");
    served.stop().await;
}

#[tokio::test]
async fn the_end_ends_open_streams_and_waiting_calls() {
    let served = Served::start();
    let mut client = served.client().await;
    let mut watch = client
        .watch("k", Some(WatchOptions::new()))
        .await
        .expect("a watch");
    soon("its creation", watch.message())
        .await
        .expect("a response");
    let mut observed = client.observe("e").await.expect("a stream");
    for id in [0xa, 0xb] {
        let options = LeaseGrantOptions::new().with_id(id);
        client
            .lease_grant(300, Some(options))
            .await
            .expect("granted");
    }
    let (_keeper, mut renewals) = client.lease_keep_alive(0xa).await.expect("a stream");
    client
        .lock("l", Some(LockOptions::new().with_lease(0xa)))
        .await
        .expect("locked");
    let waiting = tokio::spawn({
        let mut client = client.clone();
        async move {
            client
                .lock("l", Some(LockOptions::new().with_lease(0xb)))
                .await
        }
    });
    until("the call to wait", || {
        let mut client = client.clone();
        async move { client.get("l/b", None).await.expect("get").count() == 1 }
    })
    .await;

    let coordinator = served.coordinator.clone();
    served.stop().await;
    let stopped = (Code::Unavailable, "etcdserver: server stopped".to_owned());
    assert_eq!(
        refusal(soon("the watch's end", watch.message()).await),
        stopped
    );
    assert_eq!(
        refusal(soon("the observer's end", observed.message()).await),
        stopped
    );
    assert_eq!(
        refusal(soon("the renewals' end", renewals.message()).await),
        stopped
    );
    let refused = soon("the call's end", waiting).await.expect("not panicked");
    assert_eq!(refusal(refused), stopped);
    // The entry of the waiting call is removed; the holder keeps its own.
    until("the place to go", || async {
        coordinator.status().keys == 1
    })
    .await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_does_not_hold_up_the_end() {
    let served = Served::start();
    let stream = tokio::net::TcpStream::connect(served.address)
        .await
        .expect("connected");
    let mut connections = served.connections.clone();
    soon("the connection", connections.wait_for(|live| *live == 1))
        .await
        .expect("open");
    served.stop().await;
    drop(stream);
}

#[tokio::test]
async fn the_server_ends_with_its_coordinator() {
    let mut served = Served::start();
    let mut client = served.client().await;
    client.put("k", "v", None).await.expect("put");
    let coordinator = served.coordinator.clone();
    tokio::task::spawn_blocking(move || coordinator.close())
        .await
        .expect("not panicked")
        .expect("closed");
    served.ended().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let served = Served::start();
    let mut silent = tokio::net::TcpStream::connect(served.address)
        .await
        .expect("connected");
    // Whatever the server sends first (its settings), the end must come.
    let ended = soon("the end of the connection", async {
        let mut buffer = [0; 1024];
        loop {
            match silent.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    });
    ended.await;
    let mut connections = served.connections.clone();
    soon("no connection", connections.wait_for(|live| *live == 0))
        .await
        .expect("open");
    served.stop().await;
}

#[tokio::test]
async fn dropping_the_server_cuts_everything() {
    let server = Server::bind(
        coordinator(),
        vec!["127.0.0.1:0".parse().expect("an address")],
    );
    let server = server.expect("bound");
    let Listen::Tcp(address) = server.addresses()[0] else {
        panic!("not TCP")
    };
    let mut connections = server.connections();
    let serving = tokio::spawn(server.serve(std::future::pending()));
    let mut client = Client::connect([format!("http://{address}")], None)
        .await
        .expect("a client");
    let mut watch = client.watch("k", None).await.expect("a watch");
    soon("its creation", watch.message())
        .await
        .expect("a response");
    serving.abort();
    soon("the watch's end", watch.message())
        .await
        .expect_err("cut");
    // The count is dropped with the last connection.
    while soon("no connection", connections.changed()).await.is_ok() {}
    assert_eq!(*connections.borrow(), 0);
    tokio::time::timeout(
        Duration::from_secs(5),
        tokio::net::TcpStream::connect(address),
    )
    .await
    .expect("an answer")
    .expect_err("nobody listens");
}

//! A served coordinator, and ways to talk to a server.

use std::fs::Permissions;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use backend_embedded::server::access::Access;
use backend_embedded::server::{
    BoundServer, Listen, ListenError, MetricsListener, Security, Server,
};
use backend_embedded::{Config, Coordinator, Limits};
use etcd_client::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// Far more than anything here takes. Only a fault uses it up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that must happen.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited {PATIENCE:?} for: {what}"))
}

/// Waits until `condition` holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    soon(what, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Creates a folder that only this user can enter.
pub fn private_folder() -> tempfile::TempDir {
    tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .expect("a folder")
}

/// A coordinator in memory, served on a loopback port and on a Unix socket.
pub struct Served {
    pub coordinator: Coordinator,
    pub address: SocketAddr,
    pub socket: PathBuf,
    pub connections: watch::Receiver<usize>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<Result<(), ListenError>>,
    _folder: tempfile::TempDir,
}

impl Served {
    pub fn start() -> Self {
        Self::with(Limits::default(), |server| server)
    }

    pub fn with(limits: Limits, configure: impl FnOnce(BoundServer) -> BoundServer) -> Self {
        let coordinator = Coordinator::in_memory(limits).expect("a coordinator");
        Self::of(coordinator, Security::default(), configure)
    }

    /// Serves with rules.
    pub fn with_access(access: Access) -> Self {
        let coordinator = Coordinator::in_memory(Limits::default()).expect("a coordinator");
        let security = Security::default().with_access(access);
        Self::of(coordinator, security, |server| server)
    }

    /// Serves a coordinator that is durable in this folder.
    pub fn durable(data: &Path) -> Self {
        Self::durable_with(data, Security::default())
    }

    pub fn durable_with(data: &Path, security: Security) -> Self {
        let coordinator = Coordinator::open(Config::new(data)).expect("a coordinator");
        Self::of(coordinator, security, |server| server)
    }

    fn of(
        coordinator: Coordinator,
        security: Security,
        configure: impl FnOnce(BoundServer) -> BoundServer,
    ) -> Self {
        let folder = private_folder();
        let socket = folder.path().join("sock");
        let listen = vec![
            "127.0.0.1:0".parse().expect("an address"),
            Listen::Unix(socket.clone()),
        ];
        let server = Server::bind_with(coordinator.clone(), listen, security).expect("bound");
        let server = configure(server);
        let Listen::Tcp(address) = server.addresses()[0] else {
            panic!("the first address is not TCP: {:?}", server.addresses());
        };
        let connections = server.connections();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.serve(async {
            let _ = stopped.await;
        }));
        Self {
            coordinator,
            address,
            socket,
            connections,
            stop: Some(stop),
            serving,
            _folder: folder,
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn client(&self) -> Client {
        Client::connect([self.endpoint()], None)
            .await
            .expect("a client")
    }

    pub async fn channel(&self) -> Channel {
        channel(&self.endpoint()).await
    }

    /// Tells the server to end.
    pub fn begin_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Ends the server, and waits until it has ended.
    pub async fn stop(mut self) {
        self.begin_to_stop();
        self.ended().await;
    }

    /// Waits for the end of the server.
    pub async fn ended(&mut self) {
        soon("the server's end", &mut self.serving)
            .await
            .expect("serving did not panic")
            .expect("the socket stays");
    }
}

/// Binds a port for metrics and probes.
pub fn listen_for_metrics() -> (MetricsListener, SocketAddr) {
    let listen = Listen::Tcp(([127, 0, 0, 1], 0).into());
    let metrics = MetricsListener::bind(&listen).expect("a free port");
    let Listen::Tcp(address) = *metrics.address() else {
        panic!("not TCP");
    };
    (metrics, address)
}

/// Returns the status and the body of an answer over HTTP.
pub async fn get_http(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer))
        .await
        .expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status");
    (status.parse().expect("a number"), body.to_owned())
}

/// Opens a plain gRPC channel.
pub async fn channel(endpoint: &str) -> Channel {
    Endpoint::from_shared(endpoint.to_owned())
        .expect("an endpoint")
        .connect()
        .await
        .expect("connected")
}

/// Opens a plain gRPC channel over a Unix socket.
pub async fn unix_channel(path: &Path) -> Channel {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(path).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .expect("connected")
}

/// Connects a client over a Unix socket.
pub async fn client_over(socket: &Path) -> Client {
    let channel = etcd_client::Channel::Tonic(unix_channel(socket).await);
    Client::from_channel(channel, None).await.expect("a client")
}

/// Makes one call with plain messages, which can express what `etcd-client` cannot.
pub async fn call<Q, A>(channel: &Channel, path: &'static str, request: Q) -> Result<A, Status>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.expect("the channel is open");
    let codec = tonic_prost::ProstCodec::<Q, A>::default();
    let path = PathAndQuery::from_static(path);
    let response = soon(
        path.clone().as_str(),
        client.unary(Request::new(request), path, codec),
    )
    .await?;
    Ok(response.into_inner())
}

/// Returns the code and the text of a refusal.
pub fn refusal<T: std::fmt::Debug>(result: Result<T, etcd_client::Error>) -> (Code, String) {
    match result {
        Err(etcd_client::Error::GRpcStatus(status)) => (status.code(), status.message().to_owned()),
        other => panic!("expected a gRPC status, got {other:?}"),
    }
}

/// Returns the path of a program that the tests use.
pub fn required(program: &str, package: &str) -> String {
    match Command::new(program).arg("--version").output() {
        Ok(_) => program.to_owned(),
        Err(err) => panic!("this test needs `{program}` ({err}): apt-get install {package}"),
    }
}

//! TLS: who is let in, who is not and why, and certificates that are replaced meanwhile.

mod refused;
mod replaced;
mod subjects;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use backend_embedded::server::{
    Listen, ListenError, MetricsListener, Security, Server, Tls, TlsFiles,
};
use backend_embedded::{Coordinator, Limits};
use backend_etcd::EtcdBackend;
use etcd_client::Client;
use hyper_util::rt::TokioIo;
use lock_core::{Error, Locks, Options, Release};
use testkit::fixtures::certs::{Ca, Issued};
use testkit::scrape::series;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::transport::Endpoint;

use crate::support::{soon, until};

/// The name in the servers' certificates, and the address that they listen on.
const HOST: &str = "127.0.0.1";

/// A coordinator in memory, on two addresses that speak TLS.
struct SecureServer {
    addresses: [SocketAddr; 2],
    metrics: SocketAddr,
    tls: Tls,
    connections: watch::Receiver<usize>,
    _stop: oneshot::Sender<()>,
    _serving: JoinHandle<Result<(), ListenError>>,
}

impl SecureServer {
    async fn start(files: TlsFiles) -> Self {
        SecureServer::start_with(files, Security::default()).await
    }

    async fn start_with(files: TlsFiles, security: Security) -> Self {
        let tls = Tls::load(files).await.expect("valid files");
        let coordinator = Coordinator::in_memory(Limits::default()).expect("a coordinator");
        let any_port = Listen::Tcp(([127, 0, 0, 1], 0).into());
        let metrics = MetricsListener::bind(&any_port).expect("a free port");
        let listen = vec![any_port.clone(), any_port];
        let security = security.with_tls(tls.clone());
        let server = Server::bind_with(coordinator, listen, security).expect("bound");
        let tcp = |listen: &Listen| match listen {
            Listen::Tcp(address) => *address,
            other => panic!("{other} is not TCP"),
        };
        let addresses = [0, 1].map(|index| tcp(&server.addresses()[index]));
        let metrics_address = tcp(metrics.address());
        let server = server.with_metrics(vec![metrics]);
        let connections = server.connections();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(async {
            let _ = stopped.await;
        }));
        SecureServer {
            addresses,
            metrics: metrics_address,
            tls,
            connections,
            _stop: stop,
            _serving: serving,
        }
    }

    /// Returns the series of a scrape.
    async fn scrape(&self) -> BTreeMap<String, f64> {
        let mut stream = TcpStream::connect(self.metrics).await.expect("it listens");
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", self.metrics);
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        soon("an answer", stream.read_to_string(&mut answer))
            .await
            .expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        series(body)
    }

    /// Returns how many handshakes failed for this reason.
    async fn failed(&self, reason: &str) -> f64 {
        let name = format!("turnlock_server_tls_handshakes_failed_total{{reason=\"{reason}\"}}");
        *self.scrape().await.get(&name).expect("a series")
    }
}

/// Returns the files of a server that demands certificates of this authority.
fn mutual(server: &Issued, clients: &Ca) -> TlsFiles {
    TlsFiles::new(&server.cert, &server.key).with_client_ca(clients.file())
}

/// Returns the URL for a client with this certificate.
fn url(address: SocketAddr, ca: &Ca, client: Option<&Issued>) -> String {
    let identity = client.map(|Issued { cert, key, .. }| format!("&cert={cert}&key={key}"));
    let identity = identity.unwrap_or_default();
    format!("etcds://{address}?ca={}{identity}", ca.file())
}

fn locks(url: &str) -> Locks {
    let config = backend_etcd::Config::from_url(url).expect("a valid URL");
    let backend = EtcdBackend::new(config).expect("a usable URL");
    Locks::new(backend, Options::default()).expect("valid options")
}

async fn works(url: &str) {
    let mutex = locks(url).mutex("x").expect("a valid name");
    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
    let released = soon("release", guard.release()).await.expect("an answer");
    assert_eq!(released, Release::Released);
}

async fn fails(url: &str) -> Error {
    let mutex = locks(url).mutex("x").expect("a valid name");
    let tried = soon("an answer", mutex.try_acquire()).await;
    tried.expect_err("must be refused")
}

/// A client that sees the certificate of the server, and does not repair connections by itself.
#[derive(Clone)]
struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    fn new(ca: &Ca, client: &Issued) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&ca.file())).expect("an authority");
        let key = PrivateKeyDer::from_pem_file(&client.key).expect("a key");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate(&client.cert)], key)
            .expect("a certificate and its key");
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsClient(Arc::new(config))
    }

    async fn connect(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(HOST).expect("a name");
        TlsConnector::from(Arc::clone(&self.0))
            .connect(name, stream)
            .await
    }

    /// Opens a client whose connections are counted: if one is lost, there is another one.
    async fn open(&self, address: SocketAddr, opened: &Arc<AtomicUsize>) -> Client {
        let (client, opened) = (self.clone(), Arc::clone(opened));
        let connector = tower::service_fn(move |_| {
            let client = client.clone();
            opened.fetch_add(1, Ordering::Relaxed);
            async move { client.connect(address).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = soon("a connection", endpoint.connect_with_connector(connector)).await;
        let channel = etcd_client::Channel::Tonic(channel.expect("connected"));
        Client::from_channel(channel, None).await.expect("a client")
    }
}

fn certificate(file: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file).expect("a certificate")
}

/// Returns the certificate that the server showed.
fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().expect("it showed some");
    chain[0].clone().into_owned()
}

#[tokio::test]
async fn locks_work_on_each_address_for_a_client_with_a_certificate() {
    let ca = Ca::new("ours");
    let server = SecureServer::start(mutual(&ca.issue("server", &[HOST]), &ca)).await;
    let client = ca.issue("client", &[]);
    for address in server.addresses {
        works(&url(address, &ca, Some(&client))).await;
    }
    let series = server.scrape().await;
    let expiry = series["turnlock_server_certificate_expiry_timestamp_seconds"];
    assert!(expiry > 4e9, "the year 4096: {expiry}");
    assert_eq!(series["turnlock_server_insecure"], 0.0);
    let failed = |name: &str| name.starts_with("turnlock_server_tls_handshakes_failed");
    let failed: Vec<_> = series.iter().filter(|(name, _)| failed(name)).collect();
    assert!(
        failed.len() >= 10 && failed.iter().all(|(_, value)| **value == 0.0),
        "{failed:?}"
    );
}

#[tokio::test]
async fn a_server_that_demands_nothing_lets_local_clients_in() {
    let ca = Ca::new("ours");
    let files = ca.issue("server", &[HOST]);
    let server = SecureServer::start(TlsFiles::new(&files.cert, &files.key)).await;
    works(&url(server.addresses[0], &ca, None)).await;
}

#[tokio::test]
async fn members_are_named_by_urls_with_tls() {
    let ca = Ca::new("ours");
    let server = SecureServer::start(mutual(&ca.issue("server", &[HOST]), &ca)).await;
    let client = TlsClient::new(&ca, &ca.issue("client", &[]));
    let mut client = client.open(server.addresses[0], &Arc::default()).await;
    let members = client.member_list().await.expect("an answer");
    let urls = members.members()[0].client_urls().to_vec();
    assert_eq!(urls, server.addresses.map(|it| format!("https://{it}")));
}

#[tokio::test]
async fn other_machines_are_let_in_by_certificate_or_by_intention() {
    let ca = Ca::new("ours");
    let files = ca.issue("server", &[HOST]);
    let coordinator = || Coordinator::in_memory(Limits::default()).expect("a coordinator");
    let bind = |security| {
        let listen = Listen::Tcp(([0, 0, 0, 0], 0).into());
        Server::bind_with(coordinator(), vec![listen], security)
    };
    let half = Tls::load(TlsFiles::new(&files.cert, &files.key))
        .await
        .expect("valid");
    let half = Security::default().with_tls(half);
    let error = bind(half.clone()).expect_err("anybody could connect");
    assert!(error.to_string().contains("need no certificate"), "{error}");
    drop(bind(half.insecure()).expect("the user wants it"));
    let whole = Tls::load(mutual(&files, &ca)).await.expect("valid");
    drop(bind(Security::default().with_tls(whole)).expect("bound"));

    let server = bind(Security::default().insecure()).expect("the user wants it");
    let Listen::Tcp(address) = server.addresses()[0] else {
        panic!("not TCP")
    };
    let serving = tokio::spawn(server.serve(std::future::pending()));
    let endpoint = format!("http://127.0.0.1:{}", address.port());
    let client = Client::connect([endpoint], None).await.expect("connected");
    let status = client
        .maintenance_client()
        .status()
        .await
        .expect("an answer");
    let [warning] = &status.0.errors[..] else {
        panic!("{status:?}")
    };
    assert!(
        warning.contains("insecure") && warning.contains("0.0.0.0"),
        "{warning}"
    );
    serving.abort();
}

#[tokio::test]
async fn silent_clients_do_not_keep_others_out() {
    // Each has two descriptors of this process while its handshake is under way.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let room = limit.current.unwrap_or(u64::MAX) / 2;
    let count = usize::try_from(room.saturating_sub(300))
        .unwrap_or(0)
        .min(5000);
    assert!(count > 64, "raise the limit of descriptors: ulimit -n 4096");
    let ca = Ca::new("ours");
    let server = SecureServer::start(mutual(&ca.issue("server", &[HOST]), &ca)).await;
    let client = ca.issue("client", &[]);
    let mut silent = Vec::with_capacity(count);
    for index in 0..count {
        let address = server.addresses[index % 2];
        silent.push(
            soon("a connection", TcpStream::connect(address))
                .await
                .expect("accepted"),
        );
    }
    for address in server.addresses {
        works(&url(address, &ca, Some(&client))).await;
    }
    let mut connections = server.connections.clone();
    soon(
        "all places to be free",
        connections.wait_for(|live| *live == 0),
    )
    .await
    .expect("it serves");
    for mut stream in silent {
        // Nothing, or a reset.
        let end = soon("the end", stream.read(&mut [0; 64])).await;
        assert!(end.is_err() || end.is_ok_and(|read| read == 0));
    }
    let dropped = server.failed("crowded_out").await + server.failed("timeout").await;
    assert_eq!(dropped, count as f64);
    assert!(server.failed("timeout").await > 0.0);
}

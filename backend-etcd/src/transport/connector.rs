//! Making a connection to one member: its socket, TLS and the token.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backend_kit::batched::Batched;
use backend_kit::secret::Credentials;
use etcd_client::{Channel, Client, ConnectOptions};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use lock_core::process::ProcessName;
use lock_core::{Error, ErrorKind};
use tokio::io::AsyncWrite;
use tokio::net::UnixStream;
use tonic::transport;
use tower::{ServiceExt, service_fn};

use super::executor::BackgroundExecutor;
use crate::config::{Config, Connector, Dialer, Endpoint};
use crate::error::{self, Failure, Scope};
use crate::security::Tls;

/// The longest time that a dialer may take. It may have to start a coordinator.
const DIALER_TIMEOUT: Duration = Duration::from_secs(30);
/// etcd closes connections that are pinged more often than every 5 s, or without a stream open.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a new token is asked for. etcd ends a token after five minutes by default.
const TOKEN_REFRESH: Duration = Duration::from_secs(60);

/// A member of the cluster.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) address: Arc<str>,
    target: Target,
}

#[derive(Clone)]
enum Target {
    Tcp(transport::Endpoint),
    Unix(transport::Endpoint, Arc<Path>),
    /// By the user's own means.
    Custom(transport::Endpoint, Arc<dyn Connector>),
}

/// Makes connections as the configuration says.
pub(super) struct MemberConnector {
    connect_timeout: Duration,
    dialer: Option<Dialer>,
    server_uid: Option<u32>,
    credentials: Option<Credentials>,
    /// What may be wrong with a connection that broke before its first answer.
    hint: Option<&'static str>,
}

impl Member {
    pub(super) fn new(endpoint: &Endpoint, config: &Config) -> Result<Self, Error> {
        let address = endpoint.to_string();
        let uri = match endpoint {
            Endpoint::Tcp(..) if config.tls().is_some() => format!("https://{address}"),
            Endpoint::Tcp(..) => format!("http://{address}"),
            // It only sets the authority header.
            Endpoint::Unix(_) => "http://localhost".to_owned(),
        };
        let channel = transport::Endpoint::from_shared(uri)
            .map_err(|error| {
                let text = format!("the coordinator's address {address:?} is not valid");
                Error::new(ErrorKind::Configuration, text).with_source(error)
            })?
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(false)
            .executor(BackgroundExecutor);
        let channel = match config.tls() {
            Some(tls) => tls.apply(channel, config.connect_timeout())?,
            None => channel,
        };
        let target = match (config.connector(), endpoint) {
            (Some(connector), _) => Target::Custom(channel, connector.clone()),
            (None, Endpoint::Tcp(..)) => Target::Tcp(channel),
            (None, Endpoint::Unix(path)) => Target::Unix(channel, path.as_path().into()),
        };
        Ok(Member {
            address: address.into(),
            target,
        })
    }
}

impl MemberConnector {
    pub(super) fn new(config: &Config) -> Self {
        let mut endpoints = config.endpoints().iter();
        let hint = match config.tls().map(Tls::has_identity) {
            None => endpoints
                .any(|e| matches!(e, Endpoint::Tcp(..)))
                .then_some("if it speaks TLS, write etcds://"),
            Some(false) => {
                Some("if it wants a client certificate, give one in the parameters cert and key")
            }
            Some(true) => Some("check that it accepts the certificate in the parameter cert"),
        };
        MemberConnector {
            connect_timeout: config.connect_timeout(),
            dialer: config.dialer().cloned(),
            server_uid: config.server_uid(),
            credentials: config.credentials().cloned(),
            hint,
        }
    }

    /// Whether connections have tokens, which can get out of date.
    pub(super) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Connects to a member. The connection, and the check of a password, may take up to `limit`
    /// each.
    pub(super) async fn connect(
        &self,
        member: &Member,
        limit: Duration,
    ) -> Result<Client, Failure> {
        let Member { address, target } = member.clone();
        let channel = match target {
            Target::Tcp(endpoint) => {
                let mut tcp = HttpConnector::new();
                tcp.enforce_http(false);
                tcp.set_nodelay(true);
                tcp.set_connect_timeout(Some(limit));
                let tcp = tcp.map_response(|stream| batch_writes(stream.into_inner()));
                endpoint.connect_with_connector(tcp).await
            }
            Target::Unix(endpoint, path) => {
                let dialer = self.dialer.clone();
                let (timeout, server_uid) = (self.connect_timeout, self.server_uid);
                let mut first = FirstConnection::default();
                add_process_name(endpoint)
                    .connect_with_connector(service_fn(move |_| {
                        let (path, dialer) = (path.clone(), dialer.clone());
                        let may_dial = first.take();
                        async move {
                            may_dial?;
                            let stream = open_socket(&path, timeout, dialer).await?;
                            check_server(&path, &stream, server_uid)?;
                            Ok::<_, io::Error>(batch_writes(stream))
                        }
                    }))
                    .await
            }
            Target::Custom(endpoint, connector) => {
                let mut first = FirstConnection::default();
                let address = address.clone();
                endpoint
                    .connect_with_connector(service_fn(move |_| {
                        let connecting = first.take().map(|()| connector.connect(&address));
                        async move {
                            let stream = tokio::time::timeout(limit, connecting?).await;
                            stream
                                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                                .map(batch_writes)
                        }
                    }))
                    .await
            }
        };
        match channel {
            Ok(channel) => self.authenticate(&address, channel, limit).await,
            Err(error) => Err(Failure {
                error: error::no_connection(&address, error),
                scope: Scope::Connection,
            }),
        }
    }

    /// Makes a client, with a token if there are credentials.
    async fn authenticate(
        &self,
        address: &str,
        channel: transport::Channel,
        limit: Duration,
    ) -> Result<Client, Failure> {
        // A member that is cut off from the others reports that instead of waiting for them.
        let mut options = ConnectOptions::new().with_require_leader(true);
        if let Some(Credentials { user, password }) = &self.credentials {
            options = options.with_user(user, password.expose());
        }
        let client = Client::from_channel(Channel::Tonic(channel), Some(options));
        let failure = match tokio::time::timeout(limit, client).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(error)) => error::from_client(address, error),
            Err(_) => error::timeout(address, limit),
        };
        Err(self.add_hint(failure))
    }

    /// Adds the likely cause to the failure of a connection on which the server has never answered.
    pub(super) fn add_hint(&self, failure: Failure) -> Failure {
        let Failure { error, scope } = failure;
        let is_broken = scope == Scope::Connection && error.kind() == ErrorKind::Unreachable;
        let error = match self.hint {
            Some(hint) if is_broken => error::add_hint(error, hint),
            _ => error,
        };
        Failure { error, scope }
    }
}

/// Asks for a new token now and then, before the present one ends, for as long as the connection is
/// in use. When that fails, the next request shows it: the server refuses it.
pub(super) fn refresh_tokens(client: &Arc<Client>, limit: Duration) {
    let client = Arc::downgrade(client);
    BackgroundExecutor.spawn(async move {
        loop {
            tokio::time::sleep(TOKEN_REFRESH).await;
            let Some(client) = client.upgrade() else {
                return;
            };
            match tokio::time::timeout(limit, client.refresh_token()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "the server gave no new token"),
                Err(_) => tracing::debug!(?limit, "the server gave no new token in time"),
            }
        }
    });
}

/// Permits one connection. tonic would repair a broken connection by itself, and the repair would
/// count against the time of some request. So only the first connection is made here.
#[derive(Default)]
struct FirstConnection {
    is_made: bool,
}

impl FirstConnection {
    fn take(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.is_made, true) {
            true => Err(io::ErrorKind::NotConnected.into()),
            false => Ok(()),
        }
    }
}

fn batch_writes<T: AsyncWrite>(connection: T) -> TokioIo<Batched<T>> {
    TokioIo::new(Batched::new(connection))
}

/// Adds the name of this process to each request. A coordinator on the same machine can then see
/// later that the process is dead. It believes the name only if the kernel confirms it for the
/// socket.
fn add_process_name(endpoint: transport::Endpoint) -> transport::Endpoint {
    let Some(name) = ProcessName::ours() else {
        return endpoint;
    };
    let agent = format!("turnlock/{} {name}", env!("CARGO_PKG_VERSION"));
    endpoint.clone().user_agent(agent).unwrap_or(endpoint)
}

async fn open_socket(
    path: &Path,
    timeout: Duration,
    dialer: Option<Dialer>,
) -> io::Result<UnixStream> {
    let error = match tokio::time::timeout(timeout, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => return Ok(stream),
        // A dialer cannot change who may open the socket.
        Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            let error = Error::new(
                ErrorKind::Refused,
                format!(
                    "this user may not open the coordinator's socket {}: only members of the socket's group may, if it has one",
                    path.display()
                ),
            )
            .with_source(error);
            return Err(io::Error::other(error));
        }
        Ok(Err(error)) => error,
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    match dialer {
        Some(dialer) => tokio::time::timeout(DIALER_TIMEOUT, dialer())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        None => Err(error),
    }
}

/// Refuses a socket that another user serves. In a folder that this user can write, any process of
/// his could serve it.
fn check_server(path: &Path, stream: &UnixStream, allowed: Option<u32>) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let own = rustix::process::geteuid().as_raw();
    if uid == own || uid == 0 || Some(uid) == allowed {
        return Ok(());
    }
    let error = Error::new(
        ErrorKind::Configuration,
        format!(
            "the socket {} is served by user {uid}, which is neither root nor this user ({own}): if that is right, add server_uid={uid} to the URL",
            path.display()
        ),
    );
    Err(io::Error::other(error))
}

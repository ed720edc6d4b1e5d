//! The configuration: addresses, namespace, time limits and security.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use backend_kit::connection::Connection;
use backend_kit::keyspace::Keyspace;
use backend_kit::secret::Credentials;
use backend_kit::url;
use lock_core::{Error, ErrorKind};
use tokio::net::UnixStream;

use crate::security::{Parameters, Tls};

const DEFAULT_PORT: u16 = 2379;
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// The most addresses of one cluster.
const MAX_ENDPOINTS: usize = 32;

/// Opens the Unix socket of a coordinator when nobody listens on it, and starts a coordinator if
/// necessary.
///
/// It is called on the background thread, so it must not block. It may take 30 s. An I/O error that
/// was made from an [`Error`] reaches the callers as that error. So one that no retry can mend is
/// not tried again.
pub type Dialer =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = io::Result<UnixStream>> + Send>> + Send + Sync>;

/// What resolves to an open connection.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Connection>>> + Send>>;

/// Opens the connections to the members by other means than a plain TCP connection or a Unix socket:
/// through a tunnel, for example, or within the process.
///
/// ```
/// use backend_etcd::{Connecting, Connection, Connector};
/// use tokio::net::TcpStream;
///
/// /// Sends everything to a tunnel's end on this machine.
/// struct Tunnel;
///
/// impl Connector for Tunnel {
///     fn connect(&self, _address: &str) -> Connecting {
///         Box::pin(async {
///             let stream = TcpStream::connect("127.0.0.1:12379").await?;
///             Ok(Box::new(stream) as Box<dyn Connection>)
///         })
///     }
/// }
/// ```
pub trait Connector: Send + Sync {
    /// Connects to the member with this address: `HOST:PORT`, or the path of a Unix socket. The future
    /// runs on the background thread, so it must not block. It is dropped after the connect timeout.
    /// TLS, if it is configured, is spoken over the connection.
    ///
    /// # Errors
    /// Any. An I/O error that was made from an [`Error`] reaches the callers as that error.
    fn connect(&self, address: &str) -> Connecting;
}

/// The addresses of a coordinator, the namespace of the locks there, time limits and security.
///
/// ```
/// # fn main() -> Result<(), lock_core::Error> {
/// let config = backend_etcd::Config::from_url("etcd://etcd1,etcd2,etcd3?namespace=team/a")?;
/// let backend = backend_etcd::EtcdBackend::new(config)?;
/// # let _ = backend;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Config {
    endpoints: Vec<Endpoint>,
    keyspace: Keyspace,
    connect_timeout: Duration,
    request_timeout: Duration,
    dialer: Option<Dialer>,
    connector: Option<Arc<dyn Connector>>,
    server_uid: Option<u32>,
    tls: Option<Tls>,
    credentials: Option<Credentials>,
}

/// One address of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A host (IPv6 without brackets) and a port.
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Endpoint {
    /// Returns whether the connection does not leave this machine.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Endpoint::Unix(_) => true,
            Endpoint::Tcp(host, _) => url::is_loopback(host),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Endpoint::Tcp(host, port) => write!(f, "{host}:{port}"),
            Endpoint::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Config {
    /// Returns the configuration for a cluster with these 1 to 32 members. An address is `host`,
    /// `host:port` or `[IPv6]:port`. The port is 2379 if none is given.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if an address cannot be used. The message names it.
    pub fn tcp<S: AsRef<str>>(addresses: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        let endpoints = addresses
            .into_iter()
            .map(|address| {
                let (host, port) = url::parse_address(address.as_ref(), DEFAULT_PORT)?;
                Ok(Endpoint::Tcp(host, port))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        if endpoints.is_empty() || endpoints.len() > MAX_ENDPOINTS {
            return Err(configuration_error(format!(
                "{} addresses of a coordinator were given: give 1 to {MAX_ENDPOINTS}",
                endpoints.len()
            )));
        }
        Ok(Config::new(endpoints))
    }

    /// Returns the configuration for a coordinator on this machine, behind a Unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Config::new(vec![Endpoint::Unix(path.into())])
    }

    /// Parses `etcd://host1:2379,host2:2379?PARAMETERS`, the same with `etcds://` for TLS, or
    /// `etcd+unix:///path/to/socket?PARAMETERS`. Values and the path may be percent-encoded. Files
    /// must be given by absolute paths and have at most 1 MiB. They are read here, and only once.
    ///
    /// | Parameter | Meaning |
    /// |---|---|
    /// | `namespace` | the namespace of the native locks; `turnlock` if not given |
    /// | `connect_timeout`, `request_timeout` | 50 ms to 60 s, written as `500ms`, or as `2s`, the default |
    /// | `ca` | PEM file of the CAs that may have issued the server's certificate; the system's if not given |
    /// | `cert`, `key` | PEM files of the client certificate and its key; both or neither |
    /// | `server_name` | the name in the server's certificate, if it is not the host's |
    /// | `user` | the user of etcd's authentication |
    /// | `password_file` | the file with the user's password |
    /// | `password_env` | the environment variable with the password; `TURNLOCK_ETCD_PASSWORD` if neither is given |
    /// | `server_uid` | with `etcd+unix://`, the number of a user that may serve the socket, besides this user and root |
    ///
    /// `ca`, `cert`, `key` and `server_name` need `etcds://`. The server's certificate, and the
    /// name in it, are always checked. A file with a key or a password must not be readable for all
    /// users of the machine. The password is sent to the coordinator each time that etcd is asked
    /// for a token: at each connect and once a minute.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if a part of the URL or a file cannot be used. The message
    /// names it and the remedy, and never contains credentials.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| {
            configuration_error(
                "the coordinator's URL has no scheme: write etcd://HOST:PORT, etcds://HOST:PORT \
                 or etcd+unix:///PATH",
            )
        })?;
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (rest, None),
        };
        let mut config = match scheme {
            "etcd" | "etcds" => {
                url::refuse_credentials(rest)?;
                let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
                if !path.is_empty() {
                    return Err(configuration_error(format!(
                        "the coordinator's URL has the path {path:?}: write ?namespace= to choose \
                         where the locks live"
                    )));
                }
                Config::tcp(hosts.split(','))?
            }
            "etcd+unix" => {
                let path = url::decode(place)?;
                if !Path::new(&path).is_absolute() {
                    return Err(configuration_error(format!(
                        "the socket's path {path:?} is not absolute: write etcd+unix:///PATH, \
                         with three slashes"
                    )));
                }
                Config::unix(path)
            }
            _ => {
                return Err(configuration_error(format!(
                    "the scheme {scheme:?} is not one of etcd's: write etcd://HOST:PORT, \
                     etcds://HOST:PORT or etcd+unix:///PATH"
                )));
            }
        };
        let mut security = Parameters::default();
        for (key, value) in url::parse_parameters(query.unwrap_or_default())? {
            config = match key {
                "namespace" => config.with_keyspace(Keyspace::new(&value)?),
                "connect_timeout" => {
                    config.with_connect_timeout(url::parse_duration(key, &value)?)?
                }
                "request_timeout" => {
                    config.with_request_timeout(url::parse_duration(key, &value)?)?
                }
                "server_uid" if scheme == "etcd+unix" => {
                    config.with_server_uid(value.parse().map_err(|_| {
                        configuration_error(format!(
                            "the parameter server_uid is {value:?}: give the number of a user, \
                             such as `id -u` prints"
                        ))
                    })?)
                }
                // The value is not shown: it may be a secret in the wrong place.
                _ => security.take(key, value).map(|()| config).ok_or_else(|| {
                    configuration_error(format!(
                        "the parameter {key:?} is not known: use namespace, connect_timeout, \
                         request_timeout, server_uid (with etcd+unix://), {}",
                        Parameters::NAMES
                    ))
                })?,
            };
        }
        config.tls = security.tls(scheme == "etcds")?;
        config.credentials = security.credentials()?;
        Ok(config)
    }

    fn new(endpoints: Vec<Endpoint>) -> Self {
        Config {
            endpoints,
            keyspace: Keyspace::default(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            dialer: None,
            connector: None,
            server_uid: None,
            tls: None,
            credentials: None,
        }
    }

    /// Sets the namespace of the native locks; `turnlock` if not set.
    #[must_use]
    pub fn with_keyspace(mut self, keyspace: Keyspace) -> Self {
        self.keyspace = keyspace;
        self
    }

    /// Sets how long to wait for one connection: 50 ms to 60 s, 2 s if not set.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if it is out of bounds.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Result<Self, Error> {
        self.connect_timeout = url::check_timeout("connect_timeout", timeout)?;
        Ok(self)
    }

    /// Sets how long to wait for one answer: 50 ms to 60 s, 2 s if not set. Then the request is
    /// tried again, with the next member if there are several. A renewal of a session waits no
    /// longer than a fifth of the session's time to live.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if it is out of bounds.
    pub fn with_request_timeout(mut self, timeout: Duration) -> Result<Self, Error> {
        self.request_timeout = url::check_timeout("request_timeout", timeout)?;
        Ok(self)
    }

    /// Sets what to do when nobody listens on the Unix socket. Not used for addresses on a network.
    #[must_use]
    pub fn with_dialer(mut self, dialer: Dialer) -> Self {
        self.dialer = Some(dialer);
        self
    }

    /// Sets how connections to all members are opened. Then there is no dialer, and it is up to the
    /// connector who serves a Unix socket.
    #[must_use]
    pub fn with_connector(mut self, connector: Arc<dyn Connector>) -> Self {
        self.connector = Some(connector);
        self
    }

    /// Sets a user that may serve the Unix socket, besides this user and root. That user can read
    /// all names of locks and grant any lock. Not used for addresses on a network.
    #[must_use]
    pub fn with_server_uid(mut self, uid: u32) -> Self {
        self.server_uid = Some(uid);
        self
    }

    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    pub(crate) fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    pub(crate) fn dialer(&self) -> Option<&Dialer> {
        self.dialer.as_ref()
    }

    pub(crate) fn connector(&self) -> Option<&Arc<dyn Connector>> {
        self.connector.as_ref()
    }

    pub(crate) fn server_uid(&self) -> Option<u32> {
        self.server_uid
    }

    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("endpoints", &self.endpoints)
            .field("keyspace", &self.keyspace)
            .field("connect_timeout", &self.connect_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("dialer", &self.dialer.is_some())
            .field("connector", &self.connector.is_some())
            .field("server_uid", &self.server_uid)
            .field("tls", &self.tls)
            .field("credentials", &self.credentials)
            .finish()
    }
}

fn configuration_error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(url: &str) -> Vec<String> {
        let config = Config::from_url(url).expect("valid");
        config.endpoints.iter().map(ToString::to_string).collect()
    }

    fn refusal(url: &str) -> String {
        let error = Config::from_url(url).expect_err("the URL is not valid");
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        error.to_string()
    }

    #[test]
    fn addresses_of_all_kinds() {
        assert_eq!(
            addresses("etcd://h1:2379,h2:1,127.0.0.1"),
            ["h1:2379", "h2:1", "127.0.0.1:2379"]
        );
        assert_eq!(
            addresses("etcd://[::1],[fe80::1]:99/"),
            ["[::1]:2379", "[fe80::1]:99"]
        );
        assert_eq!(
            addresses("etcd+unix:///run/a%20b/s.sock?namespace=x"),
            ["/run/a b/s.sock"]
        );
    }

    #[test]
    fn parameters_are_parsed() {
        let config = Config::from_url(
            "etcd://h?namespace=team%2Fa&request_timeout=1500ms&connect_timeout=3s",
        )
        .expect("valid");
        assert_eq!(config.request_timeout, Duration::from_millis(1500));
        assert_eq!(config.connect_timeout, Duration::from_secs(3));
        let name = lock_core::LockName::new("n").expect("valid");
        assert_eq!(config.keyspace.lock(&name).start, b"team/a/n/");
    }

    #[test]
    fn an_error_names_the_fault_and_the_remedy() {
        let cases = [
            ("h:2379", "no scheme"),
            ("http://h:2379", "\"http\" is not one of"),
            ("etcd://", "\"\" has no host"),
            ("etcd://h1,,h2", "\"\" has no host"),
            ("etcd://h1:", "no port between"),
            ("etcd://h1:0", "no port between"),
            ("etcd://h1:65536", "no port between"),
            ("etcd://::1:2379", "more than one ':'"),
            ("etcd://[::1", "no closing bracket"),
            ("etcd://[zz]:1", "not an IPv6"),
            ("etcd://[::1]x", "between the bracket"),
            ("etcd://h 1:1", "a character that no host has"),
            ("etcd://h:1/ns", "the path \"ns\""),
            ("etcd://h?color=red", "\"color\" is not known"),
            ("etcd://h?namespace=", "namespace \"\""),
            ("etcd://h?namespace=a&namespace=b", "given twice"),
            ("etcd://h?request_timeout=2", "\"2\", not a time"),
            ("etcd://h?request_timeout=1ms", "out of bounds"),
            ("etcd://h?connect_timeout=61s", "out of bounds"),
            ("etcd+unix://run/s.sock", "not absolute"),
            ("etcd://h?ca=/x", "\"ca\" is for TLS only"),
            (
                "etcd+unix:///s?server_name=h",
                "\"server_name\" is for TLS only",
            ),
            (
                "etcd+unix:///s?server_uid=root",
                "\"root\": give the number",
            ),
            ("etcd://h?server_uid=0", "\"server_uid\" is not known"),
            ("etcds://h?cert=/x", "both of the parameters"),
            ("etcds://h?server_name=", "\"server_name\" is empty"),
            ("etcds://h?ca=/no/such/file", "\"/no/such/file\""),
            ("etcd://h?password_env=X", "no user"),
            ("etcd://h?user=", "\"user\" is empty"),
            ("etcd://h?user=u&password_env=A%3DB", "\"A=B\""),
            (
                "etcd://h?user=u&password_env=NO_SUCH_VARIABLE",
                "\"NO_SUCH_VARIABLE\"",
            ),
            (
                "etcd://h?user=u&password_env=X&password_file=/x",
                "give one of them",
            ),
        ];
        for (url, expected) in cases {
            let message = refusal(url);
            assert!(message.contains(expected), "{url}: {message}");
        }
        let many = vec!["h"; MAX_ENDPOINTS + 1].join(",");
        assert!(refusal(&format!("etcd://{many}")).contains("33 addresses"));
    }

    #[test]
    fn credentials_never_reach_an_error() {
        for url in [
            "etcd://root:hunter2@h:1",
            "etcd://h/root:hunter2@x",
            "etcd://root:hunter2?z@h",
            "etcd://h?password=hunter2",
            "etcds://root:hunter2@h:1",
        ] {
            let message = refusal(url);
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}

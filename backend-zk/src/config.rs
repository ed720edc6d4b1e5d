//! The configuration: the servers, the layout of their directories, time limits and security.

use std::fmt;
use std::time::Duration;

use backend_kit::url;
use lock_core::{Error, ErrorKind};

use crate::layout::{self, Layout};
use crate::node::Recipe;
use crate::security::{Parameters, Security};

const DEFAULT_PORT: u16 = 2181;
const DEFAULT_NAMESPACE: &str = "turnlock";
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// The most addresses of one ensemble.
const MAX_SERVERS: usize = 32;
/// The shortest session that is safe without knowing the servers' settings. A server notices after
/// `syncLimit` ticks, ten seconds by default, that it lost contact with its peers. And a renewal
/// that is delayed must leave time for the next one.
pub(crate) const SHORT_SESSION: Duration = Duration::from_secs(10);
/// The same limit in ticks of the servers.
pub(crate) const SHORT_SESSION_TICKS: u32 = 5;

/// The address of an ensemble, the layout of the locks on it, time limits and security.
///
/// ```
/// # fn main() -> Result<(), lock_core::Error> {
/// let config = backend_zk::Config::from_url("zk://zk1,zk2,zk3?namespace=team/a")?;
/// let backend = backend_zk::ZkBackend::new(config)?;
/// # let _ = backend;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Config {
    servers: Vec<(String, u16)>,
    chroot: String,
    namespace: String,
    recipe: Recipe,
    connect_timeout: Duration,
    request_timeout: Duration,
    tick_time: Option<Duration>,
    allow_short_sessions: bool,
    security: Security,
}

impl Config {
    /// Parses `zk://host1:2181,host2:2181/chroot?PARAMETERS`, or the same with `zks://` for TLS.
    ///
    /// The URL may have 1 to 32 servers. The port is 2181 if none is given. Values and the chroot
    /// may be percent-encoded. Files must be given by absolute paths and have at most 1 MiB. They
    /// are read here, and only once.
    ///
    /// | Parameter | Meaning |
    /// |---|---|
    /// | `namespace` | the path of the native locks below the chroot; `turnlock` if not given |
    /// | `recipe` | how exclusive entries are named: `mutex` (the default) or `rwlock`, see [`Recipe`] |
    /// | `connect_timeout` | how long to wait for a connection, and how long it may be silent: 50 ms to 60 s, written as `500ms`, or as `2s`, the default |
    /// | `request_timeout` | how long to wait for an answer: 50 ms to 60 s, written as `500ms`, or as `2s`, the default |
    /// | `tick_time` | the `tickTime` of the servers, such as `2s`: a renewal proves a longer life of the session if it is given |
    /// | `allow_short_sessions` | `true` to accept sessions shorter than 10 s or five ticks |
    /// | `ca` | PEM file of the CAs that may have issued the servers' certificates |
    /// | `cert`, `key` | PEM files of the client certificate and its key; both or neither |
    /// | `user` | the user that ZooKeeper knows us as |
    /// | `password_file` | the file with the user's password |
    /// | `password_env` | the environment variable with the password; `TURNLOCK_ZK_PASSWORD` if neither is given |
    /// | `auth` | how the user proves its identity: `digest` (the default) or `sasl` (DIGEST-MD5) |
    ///
    /// `zks://` needs `ca`, and `ca`, `cert` and `key` need `zks://`. The servers' certificates,
    /// and the names in them, are always checked. A file with a key or a password must not be
    /// readable for all users of the machine. With a user or a client certificate, only the creator
    /// of a node may use it. Without, everybody may change it.
    ///
    /// With `zks://`, the client library uses rustls' process-wide provider of cryptography. If the
    /// program has not set one by the first connection, aws-lc-rs becomes it.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if a part of the URL or a file cannot be used. The message
    /// names it and the remedy, and never contains credentials.
    pub fn from_url(text: &str) -> Result<Self, Error> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| {
            configuration_error(
                "the coordinator's URL has no scheme: write zk://HOST:PORT or zks://HOST:PORT",
            )
        })?;
        if !matches!(scheme, "zk" | "zks") {
            return Err(configuration_error(format!(
                "the scheme {scheme:?} is not one of ZooKeeper's: write zk://HOST:PORT or \
                 zks://HOST:PORT"
            )));
        }
        url::refuse_credentials(rest)?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
        let servers = hosts
            .split(',')
            .map(|server| url::parse_address(server, DEFAULT_PORT))
            .collect::<Result<Vec<_>, _>>()?;
        if servers.len() > MAX_SERVERS {
            return Err(configuration_error(format!(
                "{} addresses of servers were given: give 1 to {MAX_SERVERS}",
                servers.len()
            )));
        }
        let mut config = Config {
            servers,
            chroot: parse_chroot(path)?,
            namespace: DEFAULT_NAMESPACE.to_owned(),
            recipe: Recipe::default(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            tick_time: None,
            allow_short_sessions: false,
            security: Security::default(),
        };
        let mut security = Parameters::default();
        for (key, value) in url::parse_parameters(query)? {
            match key {
                "namespace" => config.namespace = parse_namespace(&value)?,
                "recipe" => {
                    config.recipe = parse_choice(
                        key,
                        &value,
                        &[("mutex", Recipe::Mutex), ("rwlock", Recipe::ReadWrite)],
                    )?;
                }
                "connect_timeout" => {
                    config.connect_timeout =
                        url::check_timeout(key, url::parse_duration(key, &value)?)?;
                }
                "request_timeout" => {
                    config.request_timeout =
                        url::check_timeout(key, url::parse_duration(key, &value)?)?;
                }
                "tick_time" => {
                    config.tick_time =
                        Some(url::check_timeout(key, url::parse_duration(key, &value)?)?);
                }
                "allow_short_sessions" => {
                    config.allow_short_sessions =
                        parse_choice(key, &value, &[("true", true), ("false", false)])?;
                }
                // The value is not shown: it may be a secret in the wrong place.
                _ => security.take(key, &value).ok_or_else(|| {
                    configuration_error(format!(
                        "the parameter {key:?} is not known: use namespace, recipe, \
                         connect_timeout, request_timeout, tick_time, allow_short_sessions, {}",
                        Parameters::NAMES
                    ))
                })?,
            }
        }
        config.security = security.read(scheme == "zks")?;
        Ok(config)
    }

    /// Returns the addresses of the servers for messages.
    pub(crate) fn cluster(&self) -> String {
        let servers: Vec<String> = self
            .servers
            .iter()
            .map(|(host, port)| address(host, *port))
            .collect();
        servers.join(",")
    }

    pub(crate) fn hosts(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().map(|(host, _)| &**host)
    }

    /// Returns the host and the port of each server.
    pub(crate) fn servers(&self) -> &[(String, u16)] {
        &self.servers
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new(&self.chroot, &self.namespace, self.recipe)
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    pub(crate) fn tick_time(&self) -> Option<Duration> {
        self.tick_time
    }

    pub(crate) fn security(&self) -> &Security {
        &self.security
    }

    /// Returns a server that would be reached over a network without encryption, if there is one.
    pub(crate) fn find_exposed_host(&self) -> Option<&str> {
        let plain = !self.security.is_encrypted();
        self.hosts().find(|host| plain && !url::is_loopback(host))
    }

    /// Checks that a session is long enough to be safe, unless short ones are allowed.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if it is too short.
    pub(crate) fn check_session(&self, timeout: Duration) -> Result<(), Error> {
        let ticks = self.tick_time.map(|tick| tick * SHORT_SESSION_TICKS);
        let least = ticks.unwrap_or_default().max(SHORT_SESSION);
        if timeout >= least || self.allow_short_sessions {
            return Ok(());
        }
        Err(configuration_error(format!(
            "a session of {timeout:?} is too short to be safe on ZooKeeper: choose a time to live \
             of {least:?} or longer, and let the servers' maxSessionTimeout allow it, or write \
             allow_short_sessions=true in the coordinator's URL"
        )))
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("servers", &self.servers)
            .field("chroot", &self.chroot)
            .field("namespace", &self.namespace)
            .field("recipe", &self.recipe)
            .field("connect_timeout", &self.connect_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("tick_time", &self.tick_time)
            .field("allow_short_sessions", &self.allow_short_sessions)
            .field("security", &self.security)
            .finish()
    }
}

fn configuration_error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

/// Returns the address of a server as it is written.
pub(crate) fn address(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Parses the path that all others are relative to. Returns an empty string, or a path without a
/// slash at its end.
fn parse_chroot(path: &str) -> Result<String, Error> {
    let path = url::decode(path)?;
    if path.is_empty() {
        return Ok(path);
    }
    let path = format!("/{path}");
    layout::check_path(&path).map_err(|why| {
        configuration_error(format!(
            "the chroot {path:?} is not a valid path in ZooKeeper: {why}"
        ))
    })?;
    Ok(path)
}

fn parse_namespace(path: &str) -> Result<String, Error> {
    layout::check_path(&format!("/{path}")).map_err(|why| {
        configuration_error(format!(
            "the namespace {path:?} is not a valid path below the chroot in ZooKeeper: {why}"
        ))
    })?;
    Ok(path.to_owned())
}

fn parse_choice<T: Copy>(key: &str, value: &str, choices: &[(&str, T)]) -> Result<T, Error> {
    let chosen = choices.iter().find(|(name, _)| *name == value);
    chosen.map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        configuration_error(format!(
            "the parameter {key:?} is {value:?}: write {}",
            names.join(" or ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        let error = Config::from_url(url).expect_err("the URL is not valid");
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        error.to_string()
    }

    #[test]
    fn addresses_and_parameters_are_parsed() {
        let config = Config::from_url(
            "zk://h1,h2:99,[::1]/a/b%20c?namespace=team/x&recipe=rwlock&request_timeout=1500ms\
             &tick_time=3s",
        )
        .expect("valid");
        assert_eq!(config.cluster(), "h1:2181,h2:99,[::1]:2181");
        assert_eq!(config.layout().namespace(), "/a/b c/team/x");
        assert_eq!(config.recipe, Recipe::ReadWrite);
        assert_eq!(config.request_timeout, Duration::from_millis(1500));
        assert_eq!(config.tick_time, Some(Duration::from_secs(3)));
        let config = Config::from_url("zk://h/").expect("valid");
        assert_eq!(config.layout().namespace(), "/turnlock");
        assert_eq!(config.recipe, Recipe::Mutex);
    }

    #[test]
    fn short_sessions_must_be_allowed() {
        let check = |url: &str, seconds| {
            let config = Config::from_url(url).expect("valid");
            config.check_session(Duration::from_secs(seconds)).is_ok()
        };
        assert!(check("zk://h", 10) && !check("zk://h", 9));
        assert!(check("zk://h?tick_time=3s", 15) && !check("zk://h?tick_time=3s", 14));
        assert!(check("zk://h?allow_short_sessions=true", 4));
        assert!(!check("zk://h?allow_short_sessions=false", 4));
    }

    #[test]
    fn an_error_names_the_fault_and_the_remedy() {
        let cases = [
            ("h:2181", "no scheme"),
            ("http://h", "\"http\" is not one of"),
            ("zk://", "\"\" has no host"),
            ("zk://h:0", "no port between"),
            ("zk://h/a//b", "the chroot \"/a//b\""),
            ("zk://h/zookeeper", "the chroot \"/zookeeper\""),
            ("zk://h/a/", "the chroot \"/a/\""),
            ("zk://h?namespace=", "namespace \"\""),
            ("zk://h?namespace=../x", "leave '.' and '..' out"),
            ("zk://h?recipe=latch", "write mutex or rwlock"),
            ("zk://h?allow_short_sessions=yes", "write true or false"),
            ("zk://h?color=red", "\"color\" is not known"),
            ("zk://h?tick_time=2", "\"2\", not a time"),
            ("zk://h?connect_timeout=61s", "out of bounds"),
            (
                "zk://h?user=u&password_env=NO_SUCH_VARIABLE",
                "\"NO_SUCH_VARIABLE\"",
            ),
            ("zk://h?password_env=X", "no user"),
            ("zk://h?auth=sasl", "no user"),
            (
                "zk://h?user=u&password_env=PATH&auth=kerberos",
                "write digest or sasl",
            ),
            ("zk://h?user=a:b&password_env=PATH", "contains a ':'"),
            ("zk://h?ca=/x", "\"ca\" is for TLS only"),
            ("zks://h", "give ca=FILE"),
            ("zks://h?ca=/no/such/file&cert=/x", "both of the parameters"),
            ("zks://h?ca=/no/such/file", "\"/no/such/file\""),
        ];
        for (url, expected) in cases {
            let message = refusal(url);
            assert!(message.contains(expected), "{url}: {message}");
        }
        let many = vec!["h"; MAX_SERVERS + 1].join(",");
        assert!(refusal(&format!("zk://{many}")).contains("33 addresses"));
    }

    #[test]
    fn credentials_never_reach_an_error() {
        for url in ["zk://root:hunter2@h:1", "zk://h?password=hunter2"] {
            let message = refusal(url);
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}

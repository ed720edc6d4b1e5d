//! Finds out why no session can be opened over TLS.
//!
//! The client library says only that it reaches no server, and only after it has tried for as long
//! as it may. So handshakes of our own, with the same certificates, name the fault.

use std::sync::Arc;
use std::time::Duration;

use backend_kit::tls::{Remedies, explain};
use futures_util::future::join_all;
use lock_core::{Error, background};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::Config;
use crate::runtime;

/// How long a session may take to open before the servers are asked. A session that opens earlier
/// costs no second connection.
const GRACE: Duration = Duration::from_millis(300);

/// How long a server has, after the handshake, to refuse our certificate. In TLS 1.3 it says so only
/// then. One that accepts it says nothing, since the client speaks first.
const REFUSAL_LIMIT: Duration = Duration::from_secs(1);

/// What the URL can say against a fault of TLS.
const REMEDIES: Remedies = Remedies {
    plain_scheme: "zk://",
    other_name: "use that name in the URL, or have the certificate issued for the name in the URL",
};

/// What a handshake with a server came to.
enum Outcome {
    /// The server and we accept each other.
    Accepted,
    /// One does not accept the other.
    Fault(Error),
    /// No handshake came about, or it ended for another reason.
    Unknown,
}

/// Waits until it is certain that no server accepts a connection over TLS, and returns why. Waits
/// for ever if that is not so.
///
/// # Cancel safety
/// Safe: the handshakes end.
pub(crate) async fn wait_for_fault(config: &Config) -> Error {
    background::sleep(GRACE).await;
    match find_fault(config).await {
        Some(fault) => fault,
        None => std::future::pending().await,
    }
}

/// Returns the fault of the first server that has one, if no server accepts a connection.
///
/// # Cancel safety
/// Safe: the handshakes end.
pub(crate) async fn find_fault(config: &Config) -> Option<Error> {
    // Faulty files were refused when the URL was read.
    let tls = Arc::new(config.security().client_config().ok()??);
    let limit = config.connect_timeout();
    let handshakes = config.servers().iter().map(|(host, port)| {
        let handshake = shake_hands(host, *port, tls.clone());
        async move {
            let outcome = runtime::timeout(limit, handshake).await;
            outcome.unwrap_or(Outcome::Unknown)
        }
    });
    let mut first = None;
    for outcome in join_all(handshakes).await {
        match outcome {
            Outcome::Accepted => return None,
            Outcome::Fault(fault) => first = first.or(Some(fault)),
            Outcome::Unknown => {}
        }
    }
    first
}

async fn shake_hands(host: &str, port: u16, tls: Arc<ClientConfig>) -> Outcome {
    let Ok(name) = ServerName::try_from(host.to_owned()) else {
        return Outcome::Unknown;
    };
    let Ok(stream) = TcpStream::connect((host, port)).await else {
        return Outcome::Unknown;
    };
    let failed = match TlsConnector::from(tls).connect(name, stream).await {
        Err(error) => error,
        Ok(mut stream) => {
            let read = runtime::timeout(REFUSAL_LIMIT, stream.read_u8()).await;
            let Ok(Err(error)) = read else {
                return Outcome::Accepted;
            };
            error
        }
    };
    match explain(&failed, REMEDIES) {
        Some((kind, text)) => {
            let text = format!("ZooKeeper at {} {text}", crate::config::address(host, port));
            Outcome::Fault(Error::new(kind, text).with_source(failed))
        }
        None => Outcome::Unknown,
    }
}

//! How we and the coordinator prove to each other who we are: TLS, and a user with a password.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use backend_kit::secret::{self, Credentials, CredentialsSource, Privacy, Secret};
use lock_core::{Error, ErrorKind};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// The environment variable with the password if no parameter names another place.
const PASSWORD_ENV: &str = "TURNLOCK_ETCD_PASSWORD";

/// The CA that must have issued the server's certificate, the name in it, and our own certificate.
#[derive(Clone)]
pub(crate) struct Tls {
    /// The CAs that may have issued the server's certificate. The system's roots if `None`.
    ca: Option<Secret>,
    identity: Option<(Secret, Secret)>,
    server_name: Option<String>,
}

/// The parameters of a URL that concern security.
#[derive(Default)]
pub(crate) struct Parameters {
    ca: Option<String>,
    cert: Option<String>,
    key: Option<String>,
    server_name: Option<String>,
    credentials: CredentialsSource,
}

impl Parameters {
    pub(crate) const NAMES: &str = "ca, cert, key, server_name, user, password_file, password_env";

    /// Takes a parameter. Returns `None` if it is not one of [`NAMES`](Self::NAMES).
    pub(crate) fn take(&mut self, name: &str, value: String) -> Option<()> {
        let slot = match name {
            "ca" => &mut self.ca,
            "cert" => &mut self.cert,
            "key" => &mut self.key,
            "server_name" => &mut self.server_name,
            _ => return self.credentials.take(name, &value),
        };
        *slot = Some(value);
        Some(())
    }

    /// Reads the TLS files. Refuses them in a URL without TLS, since its user would believe that
    /// the connection is encrypted.
    pub(crate) fn tls(&self, encrypted: bool) -> Result<Option<Tls>, Error> {
        let named = [
            ("ca", &self.ca),
            ("cert", &self.cert),
            ("key", &self.key),
            ("server_name", &self.server_name),
        ];
        if !encrypted {
            return match named.iter().find(|(_, value)| value.is_some()) {
                Some((name, _)) => Err(configuration_error(format!(
                    "the parameter {name:?} is for TLS only: write etcds:// in the URL"
                ))),
                None => Ok(None),
            };
        }
        let ca = self
            .ca
            .as_deref()
            .map(|path| secret::read_pem("ca", path, "CERTIFICATE-----", Privacy::Public))
            .transpose()?;
        let identity = match (&self.cert, &self.key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((
                secret::read_pem("cert", cert, "CERTIFICATE-----", Privacy::Public)?,
                secret::read_pem("key", key, "PRIVATE KEY-----", Privacy::Private)?,
            )),
            _ => {
                return Err(configuration_error(
                    "a client certificate needs both of the parameters \"cert\" and \"key\": give \
                     the other one too",
                ));
            }
        };
        if self.server_name.as_deref() == Some("") {
            return Err(configuration_error(
                "the parameter \"server_name\" is empty: give the name in the server's certificate",
            ));
        }
        Ok(Some(Tls {
            ca,
            identity,
            server_name: self.server_name.clone(),
        }))
    }

    /// Reads the password.
    pub(crate) fn credentials(&self) -> Result<Option<Credentials>, Error> {
        self.credentials.read(PASSWORD_ENV)
    }
}

impl Tls {
    /// Makes the connection to an address an encrypted one, whose handshake may take this long.
    ///
    /// rustls' provider of cryptography is the process-wide default if the program has set one, and
    /// otherwise aws-lc-rs, which is not made the default.
    pub(crate) fn apply(&self, endpoint: Endpoint, handshake: Duration) -> Result<Endpoint, Error> {
        let mut config = ClientTlsConfig::new().timeout(handshake);
        config = match &self.ca {
            Some(pem) => config.ca_certificate(Certificate::from_pem(pem.expose())),
            None => config.with_native_roots(),
        };
        if let Some((cert, key)) = &self.identity {
            config = config.identity(Identity::from_pem(cert.expose(), key.expose()));
        }
        if let Some(name) = &self.server_name {
            config = config.domain_name(name);
        }
        endpoint.tls_config(config).map_err(|error| {
            let cause = std::iter::successors(error.source(), |e| (*e).source())
                .last()
                .map_or_else(|| error.to_string(), ToString::to_string);
            configuration_error(format!(
                "TLS cannot be set up ({cause}): check the parameters ca, cert, key and server_name"
            ))
            .with_source(error)
        })
    }

    /// Returns whether we have a client certificate.
    pub(crate) fn has_identity(&self) -> bool {
        self.identity.is_some()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("ca", &self.ca.is_some())
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}

fn configuration_error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

//! How we and the servers prove to each other who we are: TLS, and a user with a password.

use std::fmt;

use backend_kit::secret::{self, Credentials, CredentialsSource, Privacy, Secret};
use lock_core::{Error, ErrorKind};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use zookeeper_client::{Acls, Connector, SaslOptions, TlsOptions};

/// The environment variable with the password if no parameter names another place.
const PASSWORD_ENV: &str = "TURNLOCK_ZK_PASSWORD";

/// How connections are protected, and which identity they prove.
#[derive(Debug, Clone, Default)]
pub(crate) struct Security {
    tls: Option<Tls>,
    credentials: Option<Credentials>,
    scheme: Scheme,
}

/// How a user proves its identity to the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Scheme {
    /// ZooKeeper's own scheme. The password itself is sent, and the servers accept any user.
    #[default]
    Digest,
    /// SASL with DIGEST-MD5. The servers have a list of their users.
    Sasl,
}

/// The CA that must have issued the servers' certificates, and our own certificate.
#[derive(Clone)]
struct Tls {
    ca: Secret,
    identity: Option<(Secret, Secret)>,
}

/// The parameters of a URL that concern security.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    ca: Option<String>,
    cert: Option<String>,
    key: Option<String>,
    auth: Option<String>,
    credentials: CredentialsSource,
}

impl Parameters {
    pub(crate) const NAMES: &str = "ca, cert, key, auth, user, password_file, password_env";

    /// Takes a parameter. Returns `None` if it is not one of [`NAMES`](Self::NAMES).
    pub(crate) fn take(&mut self, name: &str, value: &str) -> Option<()> {
        let slot = match name {
            "ca" => &mut self.ca,
            "cert" => &mut self.cert,
            "key" => &mut self.key,
            "auth" => &mut self.auth,
            _ => return self.credentials.take(name, value),
        };
        *slot = Some(value.to_owned());
        Some(())
    }

    /// Reads the files and the password. `encrypted` says whether the URL asks for TLS.
    pub(crate) fn read(&self, encrypted: bool) -> Result<Security, Error> {
        let credentials = self.credentials.read(PASSWORD_ENV)?;
        let scheme = match (self.auth.as_deref(), &credentials) {
            (Some(_), None) => {
                return Err(configuration_error(
                    "the parameter \"auth\" is given, but no user: give user=NAME too",
                ));
            }
            (None | Some("digest"), _) => Scheme::Digest,
            (Some("sasl"), _) => Scheme::Sasl,
            (Some(other), _) => {
                return Err(configuration_error(format!(
                    "the parameter \"auth\" is {other:?}: write digest or sasl"
                )));
            }
        };
        if let (Scheme::Digest, Some(Credentials { user, .. })) = (scheme, &credentials)
            && user.contains(':')
        {
            return Err(configuration_error(format!(
                "the user {user:?} contains a ':', which ends the name in ZooKeeper's digest \
                 scheme: choose another user"
            )));
        }
        Ok(Security {
            tls: self.tls(encrypted)?,
            credentials,
            scheme,
        })
    }

    /// Reads the TLS files. Refuses them in a URL without TLS, since its user would believe that
    /// the connection is encrypted.
    fn tls(&self, encrypted: bool) -> Result<Option<Tls>, Error> {
        let named = [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)];
        if !encrypted {
            return match named.iter().find(|(_, value)| value.is_some()) {
                Some((name, _)) => Err(configuration_error(format!(
                    "the parameter {name:?} is for TLS only: write zks:// instead of zk://"
                ))),
                None => Ok(None),
            };
        }
        let certificates =
            |name, path| secret::read_pem(name, path, "CERTIFICATE-----", Privacy::Public);
        let Some(ca) = &self.ca else {
            return Err(configuration_error(
                "the servers' certificates cannot be checked without the CA that issued them: \
                 give ca=FILE",
            ));
        };
        let identity = match (&self.cert, &self.key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((
                certificates("cert", cert)?,
                secret::read_pem("key", key, "PRIVATE KEY-----", Privacy::Private)?,
            )),
            _ => {
                return Err(configuration_error(
                    "a client certificate needs both of the parameters \"cert\" and \"key\": give \
                     the other one too",
                ));
            }
        };
        Ok(Some(Tls {
            ca: certificates("ca", ca)?,
            identity,
        }))
    }
}

impl Security {
    /// Configures a connector for connections to these hosts.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if a host, a certificate or a key cannot be used.
    pub(crate) fn apply<'a>(
        &self,
        mut connector: Connector,
        mut hosts: impl Iterator<Item = &'a str>,
    ) -> Result<Connector, Error> {
        if let Some(tls) = &self.tls {
            if let Some(host) = hosts.find(|host| ServerName::try_from(*host).is_err()) {
                return Err(configuration_error(format!(
                    "no certificate can be issued for the host {host:?}: give the name in the \
                     server's certificate"
                )));
            }
            connector = connector.with_tls(tls.options()?);
        }
        Ok(match (&self.credentials, self.scheme) {
            (None, _) => connector,
            (Some(Credentials { user, password }), Scheme::Sasl) => {
                let password = password.expose().to_owned();
                connector.with_sasl(SaslOptions::digest_md5(user.clone(), password))
            }
            (Some(Credentials { user, password }), Scheme::Digest) => {
                let proof = Secret::new(format!("{user}:{}", password.expose()));
                connector.with_auth("digest", proof.expose().as_bytes())
            }
        })
    }

    /// Returns the settings of a TLS connection of our own, the same as those of the client
    /// library's connections; `None` if connections are not encrypted.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if a certificate or a key cannot be used.
    pub(crate) fn client_config(&self) -> Result<Option<ClientConfig>, Error> {
        let Some(tls) = &self.tls else {
            return Ok(None);
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(parse_certificates("ca", &tls.ca)?);
        ensure_crypto_provider();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let Some((cert, key)) = &tls.identity else {
            return Ok(Some(builder.with_no_client_auth()));
        };
        let (chain, key) = parse_identity(cert, key)?;
        let config = builder.with_client_auth_cert(chain, key);
        config
            .map(Some)
            .map_err(|error| tls_error("cert and key").with_source(error))
    }

    /// Returns whether connections are encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns whether we have an identity that can own nodes.
    pub(crate) fn has_identity(&self) -> bool {
        let certified = self.tls.as_ref().is_some_and(|tls| tls.identity.is_some());
        certified || self.credentials.is_some()
    }

    /// Returns the ACL of the nodes that we make: only their creator may use them, if we have an
    /// identity, and otherwise everybody.
    pub(crate) fn acls(&self) -> Acls<'static> {
        if self.has_identity() {
            Acls::creator_all()
        } else {
            Acls::anyone_all()
        }
    }
}

/// Makes sure that the process has a provider of cryptography.
///
/// The client library has no setting for it. It uses the default of the process. If there is none,
/// rustls installs the only provider that was compiled in, and panics if there are two. So the
/// default is set here, as late as possible: a provider that the program has chosen itself before
/// its first encrypted connection stays.
pub(crate) fn ensure_crypto_provider() {
    if CryptoProvider::get_default().is_none() {
        // An error means that another thread has just set it.
        let _ = aws_lc_rs::default_provider().install_default();
    }
}

impl Tls {
    fn options(&self) -> Result<TlsOptions, Error> {
        let mut options = TlsOptions::new()
            .with_pem_ca(self.ca.expose())
            .map_err(|error| tls_error("ca").with_source(error))?;
        if let Some((cert, key)) = &self.identity {
            check_identity(cert, key)?;
            options = options
                .with_pem_identity(cert.expose(), key.expose())
                .map_err(|error| tls_error("cert and key").with_source(error))?;
        }
        Ok(options)
    }
}

/// The certificates of a TLS connection, as rustls takes them.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Reads the client certificate and its key.
fn parse_identity(cert: &Secret, key: &Secret) -> Result<Identity, Error> {
    let chain = parse_certificates("cert", cert)?;
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
        .map_err(|error| tls_error("key").with_source(error))?;
    Ok((chain, key))
}

fn parse_certificates(
    parameter: &str,
    pem: &Secret,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_slice_iter(pem.expose().as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| tls_error(parameter).with_source(error))
}

/// Checks that the client certificate and the key belong together. The client library would notice
/// only when it connects, and would report that no host can be reached.
fn check_identity(cert: &Secret, key: &Secret) -> Result<(), Error> {
    let (chain, key) = parse_identity(cert, key)?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map(|_| ())
        .map_err(|error| {
            configuration_error(
                "the client certificate and the key of the parameters \"cert\" and \"key\" do not \
                 belong together: give the certificate's own key",
            )
            .with_source(error)
        })
}

fn tls_error(parameters: &str) -> Error {
    configuration_error(format!(
        "TLS cannot be set up: check the files of the parameters {parameters}"
    ))
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("identity", &self.identity.is_some())
            .finish_non_exhaustive()
    }
}

fn configuration_error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

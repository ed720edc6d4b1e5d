//! The files of a certificate, its key and the authorities of clients; and what a connection needs
//! of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backend_kit::secret::{self, Privacy, Secret};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig, version};
use webpki::BorrowedCertRevocationList;

use super::validity::read_not_after;

/// The protocol that a client must speak over TLS, if it names any.
const HTTP2: &[u8] = b"h2";

/// The PEM files of a server's TLS. Paths are absolute, and each file has at most 1 MiB.
///
/// ```
/// use backend_embedded::server::TlsFiles;
///
/// let files = TlsFiles::new("/etc/locks/server.pem", "/etc/locks/server.key")
///     .with_client_ca("/etc/locks/clients-ca.pem")
///     .with_client_crl("/etc/locks/revoked.pem");
/// assert!(files.client_ca.is_some());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The server's certificate, followed by those of intermediate authorities.
    pub cert: PathBuf,
    /// The private key of the certificate. Only its owner and its group may be able to read it.
    pub key: PathBuf,
    /// The certificates of the authorities whose clients are let in. With none, every client is.
    pub client_ca: Option<PathBuf>,
    /// The lists of revoked certificates of clients. If there are any, each authority between a
    /// client and a root needs one: a client whose status is unknown is refused. A list counts on
    /// after the date of its next update.
    pub client_crls: Vec<PathBuf>,
}

impl TlsFiles {
    /// Names the files of a server that lets every client in.
    pub fn new(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        TlsFiles {
            cert: cert.into(),
            key: key.into(),
            client_ca: None,
            client_crls: Vec::new(),
        }
    }

    /// Demands a certificate of each client, from one of the authorities in this file.
    #[must_use]
    pub fn with_client_ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.client_ca = Some(path.into());
        self
    }

    /// Adds a list of revoked certificates of clients.
    #[must_use]
    pub fn with_client_crl(mut self, path: impl Into<PathBuf>) -> Self {
        self.client_crls.push(path.into());
        self
    }

    /// Reads all files. This blocks.
    pub(super) fn read(&self) -> Result<Texts, TlsError> {
        let certificates = "CERTIFICATE-----";
        Ok(Texts {
            cert: read("tls-cert", &self.cert, certificates, Privacy::Public)?,
            key: read("tls-key", &self.key, "PRIVATE KEY-----", Privacy::Private)?,
            client_ca: (self.client_ca.as_deref())
                .map(|path| read("client-ca", path, certificates, Privacy::Public))
                .transpose()?,
            client_crls: (self.client_crls.iter())
                .map(|path| read("client-crl", path, "X509 CRL-----", Privacy::Public))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Makes the settings of connections out of what the files contain.
    pub(super) fn configure(&self, texts: &Texts) -> Result<Configured, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = parse_all::<CertificateDer<'static>>(&self.cert, &texts.cert)?;
        let key = PrivateKeyDer::from_pem_slice(texts.key.expose().as_bytes())
            .map_err(|error| unusable(&self.key, "private key", error))?;
        (provider.key_provider)
            .load_private_key(key.clone_key())
            .map_err(|error| unusable(&self.key, "private key", error))?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(|error| unusable(&self.cert, "certificate", error))?;
        let builder = match self.verifier(texts, provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let not_after = chain.iter().filter_map(|it| read_not_after(it)).min();
        let mut config = builder.with_single_cert(chain, key).map_err(|error| {
            let reason = match error {
                rustls::Error::InconsistentKeys(_) => {
                    format!("is not for the key `{}`", self.key.display())
                }
                other => format!("cannot be used ({other})"),
            };
            TlsError::Unusable {
                path: self.cert.clone(),
                reason: format!("{reason}: give a certificate, and the key that it was issued for"),
            }
        })?;
        config.alpn_protocols = vec![HTTP2.to_vec()];
        // A session that is resumed would not be checked against the present files. Connections
        // last, so a resumption would save little.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Configured {
            config: Arc::new(config),
            not_after,
        })
    }

    /// Makes what checks the certificates of clients, if they have to give any.
    fn verifier(
        &self,
        texts: &Texts,
        provider: Arc<rustls::crypto::CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
        let (Some(path), Some(text)) = (&self.client_ca, &texts.client_ca) else {
            return match self.client_crls.first() {
                Some(path) => Err(TlsError::Unusable {
                    path: path.clone(),
                    reason: "is a list of revoked certificates, but no client needs one: give the \
                             authority of the clients too"
                        .to_owned(),
                }),
                None => Ok(None),
            };
        };
        let mut roots = RootCertStore::empty();
        for authority in parse_all::<CertificateDer<'static>>(path, text)? {
            roots
                .add(authority)
                .map_err(|error| unusable(path, "authority", error))?;
        }
        let mut lists = Vec::new();
        for (path, text) in self.client_crls.iter().zip(&texts.client_crls) {
            for list in parse_all::<CertificateRevocationListDer<'static>>(path, text)? {
                BorrowedCertRevocationList::from_der(&list)
                    .map_err(|error| unusable(path, "list of revoked certificates", error))?;
                lists.push(list);
            }
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .with_crls(lists)
            .build()
            .map_err(|error| {
                unusable(path, "set of authorities and revoked certificates", error)
            })?;
        Ok(Some(verifier))
    }
}

/// Reads a PEM file with this label in it.
fn read(parameter: &str, path: &Path, label: &str, privacy: Privacy) -> Result<Secret, TlsError> {
    let Some(text) = path.to_str() else {
        return Err(TlsError::Unusable {
            path: path.to_owned(),
            reason: "has a name that is not UTF-8: rename it".to_owned(),
        });
    };
    secret::read_pem(parameter, text, label, privacy).map_err(TlsError::Unreadable)
}

/// Parses all parts of a PEM file that have the label of this type.
fn parse_all<T: PemObject>(path: &Path, text: &Secret) -> Result<Vec<T>, TlsError> {
    T::pem_slice_iter(text.expose().as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, "PEM file", error))
}

fn unusable(path: &Path, what: &str, error: impl std::fmt::Display) -> TlsError {
    TlsError::Unusable {
        path: path.to_owned(),
        reason: format!("is no valid {what} ({error}): check it with `openssl`"),
    }
}

/// What the files contain.
#[derive(Debug)]
pub(super) struct Texts {
    cert: Secret,
    key: Secret,
    client_ca: Option<Secret>,
    client_crls: Vec<Secret>,
}

impl Texts {
    fn all(&self) -> impl Iterator<Item = &str> {
        let texts = [&self.cert, &self.key].into_iter();
        let texts = texts.chain(&self.client_ca).chain(&self.client_crls);
        texts.map(Secret::expose)
    }
}

impl PartialEq for Texts {
    fn eq(&self, other: &Self) -> bool {
        self.all().eq(other.all())
    }
}

/// The settings of connections.
#[derive(Debug)]
pub(super) struct Configured {
    pub(super) config: Arc<ServerConfig>,
    /// When the first certificate of the chain ends, in seconds of Unix time.
    pub(super) not_after: Option<i64>,
}

/// Why the files of a server's TLS cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or is a private key that all users can read.
    #[error("{0}")]
    Unreadable(lock_core::Error),
    /// A file does not contain what it should.
    #[error("the file `{}` {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the remedy.
        reason: String,
    },
}

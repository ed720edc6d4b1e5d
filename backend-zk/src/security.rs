//! Who we are to the servers, and who they are to us.

use lock_core::Error;
use lock_core::secret::{Credentials, CredentialsSource, Secret};
use zookeeper_client::{Acls, Connector};

/// Where the password is if no parameter says so.
const PASSWORD_ENV: &str = "TURNLOCK_ZK_PASSWORD";

/// How connections are protected, and what they prove.
#[derive(Debug, Clone, Default)]
pub(crate) struct Security {
    credentials: Option<Credentials>,
}

/// The parameters of a URL that this is about.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    credentials: CredentialsSource,
}

impl Parameters {
    pub(crate) const NAMES: &str = CredentialsSource::NAMES;

    /// Takes a parameter, if it is one of these.
    pub(crate) fn take(&mut self, name: &str, value: &str) -> Option<()> {
        self.credentials.take(name, value)
    }

    pub(crate) fn read(&self, _encrypted: bool) -> Result<Security, Error> {
        Ok(Security {
            credentials: self.credentials.read(PASSWORD_ENV)?,
        })
    }
}

impl Security {
    /// Has connections made as told.
    pub(crate) fn apply(&self, connector: Connector) -> Connector {
        match &self.credentials {
            Some(credentials) => {
                let proof = format!("{}:{}", credentials.user, credentials.password.expose());
                let proof = Secret::new(proof);
                connector.with_auth("digest", proof.expose().as_bytes())
            }
            None => connector,
        }
    }

    /// Whether we have an identity that nodes can belong to.
    pub(crate) fn has_identity(&self) -> bool {
        self.credentials.is_some()
    }

    /// Who may do what with the nodes that we make.
    pub(crate) fn acls(&self) -> Acls<'static> {
        if self.has_identity() {
            Acls::creator_all()
        } else {
            Acls::anyone_all()
        }
    }
}

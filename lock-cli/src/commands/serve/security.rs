//! What protects the server: certificates and rules, from the files that are given.

use std::path::{Path, PathBuf};

use backend_embedded::server::access::Access;
use backend_embedded::server::{BoundServer, Listen, ListenError, Security, Tls, TlsFiles};

use super::tell;
use crate::cli::Serve;
use crate::commands::rules::to_failure;
use crate::exit::{Exit, Failure, with_causes};
use crate::output::announce;

/// The files that protect the server, as they were read last.
pub struct Protection {
    tls: Option<Tls>,
    access: Option<Access>,
}

impl Protection {
    /// Reads the files that are given. `has_tcp` tells whether there is an address that could speak
    /// TLS.
    pub async fn load(args: &Serve, has_tcp: bool) -> Result<Self, Failure> {
        if args.insecure && !has_tcp {
            let message = "--insecure: there is no address that other machines could reach";
            return Err(Failure::new(Exit::Usage, message).hint("give --listen HOST:PORT too"));
        }
        let access = open_access(args)?;
        let tls = load_tls(args, has_tcp).await?;
        Ok(Protection { tls, access })
    }

    /// Returns whether there are files that can be read again.
    pub fn has_files(&self) -> bool {
        self.tls.is_some() || self.access.is_some()
    }

    /// Reads the files again. Says on stderr, or in the log, how that went.
    pub async fn reload(&self) {
        if let Some(access) = &self.access {
            match access.reload() {
                Ok(()) => announce("the rules were read again"),
                Err(error) => tracing::error!(%error, "the former rules stay"),
            }
        }
        if let Some(tls) = &self.tls {
            // The server itself says what is wrong with them.
            match tls.reload().await {
                Ok(true) => {
                    announce("the certificates have changed: new connections get the new ones");
                }
                Ok(false) => announce("the certificates are as before"),
                Err(_) => {}
            }
        }
    }

    /// Returns the same for the server.
    pub fn to_security(&self, args: &Serve) -> Security {
        let mut security = Security::default();
        if args.insecure {
            security = security.insecure();
        }
        if let Some(tls) = &self.tls {
            security = security.with_tls(tls.clone());
        }
        if let Some(access) = &self.access {
            security = security.with_access(access.clone());
        }
        security
    }
}

/// Reads the rules and the users, if there are rules.
fn open_access(args: &Serve) -> Result<Option<Access>, Failure> {
    let Some(rules) = &args.rules else {
        return Ok(None);
    };
    let users = args.users.as_deref().map(to_absolute).transpose()?;
    let access = Access::open(to_absolute(rules)?, users).map_err(to_failure)?;
    Ok(Some(access))
}

/// Reads the certificates, if there are any.
async fn load_tls(args: &Serve, has_tcp: bool) -> Result<Option<Tls>, Failure> {
    let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) else {
        return Ok(None);
    };
    if !has_tcp {
        let message = "--tls-cert: there is no address that could speak TLS";
        return Err(Failure::new(Exit::Usage, message).hint("give --listen HOST:PORT too"));
    }
    let mut files = TlsFiles::new(to_absolute(cert)?, to_absolute(key)?);
    if let Some(path) = &args.client_ca {
        files = files.with_client_ca(to_absolute(path)?);
    }
    for path in &args.client_crl {
        files = files.with_client_crl(to_absolute(path)?);
    }
    let loaded = Tls::load(files).await;
    loaded
        .map(Some)
        .map_err(|error| Failure::new(Exit::Configuration, error.to_string()))
}

fn to_absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::new(Exit::Configuration, format!("{}: {error}", path.display())))
}

/// Makes the failure of an address that cannot be served.
pub fn to_bind_failure(error: ListenError) -> Failure {
    let failure = Failure::new(Exit::Configuration, with_causes(&error));
    match error {
        ListenError::NotLoopback { .. } => failure.hint(
            "give --tls-cert FILE and --tls-key FILE, and --client-ca FILE or --rules FILE; or let \
             everybody in with --insecure",
        ),
        _ => failure,
    }
}

/// Says who can use the TCP addresses.
pub fn tell_reach(args: &Serve, server: &BoundServer) {
    for address in server.addresses() {
        if matches!(address, Listen::Tcp(_)) {
            let reach = server.reach(address);
            tell(args, format!("{address} is open to {reach}"));
        }
    }
}

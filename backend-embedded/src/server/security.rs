//! Who can reach the server, and what they need to be let in.

use std::fmt;
use std::net::SocketAddr;

use super::listen::{Listen, ListenError};
use super::tls::Tls;

/// What protects the TCP addresses of a server. Unix sockets are protected by their folders, and stay
/// without TLS.
///
/// With the default, a server has no TLS, and takes loopback addresses only.
///
/// ```
/// use backend_embedded::server::{Listen, Reach, Security};
///
/// let listen: Listen = "127.0.0.1:2379".parse()?;
/// assert_eq!(Security::default().reach(&listen), Reach::LocalUsers);
/// let listen: Listen = "0.0.0.0:2379".parse()?;
/// assert_eq!(Security::default().reach(&listen), Reach::Anybody);
/// # Ok::<(), backend_embedded::server::ListenError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Security {
    tls: Option<Tls>,
    is_insecure: bool,
}

/// Who can use a coordinator at an address, and so take and break any lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reach {
    /// The user who serves, and root.
    Owner,
    /// The users of the group with this id.
    Group(u32),
    /// Every user of this machine.
    LocalUsers,
    /// Who has a certificate of the clients' authority.
    CertificateHolders,
    /// Everybody whose packets arrive.
    Anybody,
}

impl Security {
    /// Speaks TLS on every TCP address. If [`Tls`] demands certificates of clients, other machines
    /// may reach the server.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Lets everybody in who reaches an address, if that is how it is. The log, the metrics and the
    /// status say so.
    #[must_use]
    pub fn insecure(mut self) -> Self {
        self.is_insecure = true;
        self
    }

    /// Returns who can use the coordinator at this address.
    pub fn reach(&self, listen: &Listen) -> Reach {
        match listen {
            Listen::Unix(_) => Reach::Owner,
            Listen::UnixOfGroup(_, group) => Reach::Group(*group),
            Listen::Tcp(_) if self.demands_certificates() => Reach::CertificateHolders,
            Listen::Tcp(address) if is_loopback(*address) => Reach::LocalUsers,
            Listen::Tcp(_) => Reach::Anybody,
        }
    }

    /// Fails if others can reach this address, and nobody has said that they may.
    pub(super) fn check(&self, listen: &Listen) -> Result<(), ListenError> {
        let Listen::Tcp(address) = *listen else {
            return Ok(());
        };
        if self.is_insecure || self.reach(listen) != Reach::Anybody {
            return Ok(());
        }
        let missing = match self.tls {
            None => "there is no TLS",
            Some(_) => "clients need no certificate",
        };
        Err(ListenError::NotLoopback { address, missing })
    }

    /// Returns what is wrong with the server, for those who ask for its status.
    pub(super) fn warnings(&self, addresses: &[Listen]) -> Vec<String> {
        let open = addresses.iter();
        let open = open.filter(|address| self.reach(address) == Reach::Anybody);
        open.map(|address| format!("insecure: {address} is open to {}", Reach::Anybody))
            .collect()
    }

    pub(super) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    fn demands_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::demands_certificates)
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reach::Owner => f.write_str("this user and root"),
            Reach::Group(group) => write!(f, "the users of group {group}"),
            Reach::LocalUsers => {
                f.write_str("every user of this machine: each can take and break any lock")
            }
            Reach::CertificateHolders => f.write_str(
                "everybody with a certificate of the clients' authority: each can take and break \
                 any lock",
            ),
            Reach::Anybody => f.write_str(
                "everybody who reaches it, from other machines too: each can take and break any lock",
            ),
        }
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    // `to_canonical`: `::ffff:127.0.0.1` is a loopback address too, `::ffff:0.0.0.0` is not.
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> Listen {
        Listen::Tcp(text.parse().expect("an address"))
    }

    #[test]
    fn what_other_machines_could_reach_is_refused() {
        let security = Security::default();
        for text in [
            "0.0.0.0:2379",
            "[::]:2379",
            "192.168.1.1:2379",
            "[fe80::1]:2379",
            "[::ffff:0.0.0.0]:2379",
            "[::ffff:10.0.0.1]:2379",
        ] {
            let listen = tcp(text);
            assert_eq!(security.reach(&listen), Reach::Anybody, "{text}");
            let error = security.check(&listen).expect_err(text);
            assert!(matches!(error, ListenError::NotLoopback { .. }), "{error}");
            let insecure = security.clone().insecure();
            insecure.check(&listen).expect("the user wants it");
            let warnings = insecure.warnings(&[tcp("127.0.0.1:1"), listen]);
            let [warning] = &warnings[..] else {
                panic!("{warnings:?}")
            };
            assert!(
                warning.contains(text) && warning.contains("insecure"),
                "{warning}"
            );
        }
    }

    #[test]
    fn what_stays_on_the_machine_is_taken() {
        for text in [
            "127.0.0.1:2379",
            "127.8.9.10:1",
            "[::1]:0",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert_eq!(Security::default().reach(&tcp(text)), Reach::LocalUsers);
            Security::default().check(&tcp(text)).expect(text);
        }
        let socket = Listen::Unix("/a/b".into());
        assert_eq!(Security::default().reach(&socket), Reach::Owner);
        assert!(
            Security::default()
                .insecure()
                .warnings(&[socket])
                .is_empty()
        );
    }
}

//! Who can reach the server, what they need to be let in, and what they may do then.

use std::fmt;
use std::net::SocketAddr;

use super::access::Access;
use super::listen::{Listen, ListenError};
use super::tls::Tls;

/// What protects a server: TLS on its TCP addresses, and rules. Unix sockets are protected by their
/// folders, and stay without TLS.
///
/// With the default, a server has neither, and takes loopback addresses only.
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
    access: Option<Access>,
    is_insecure: bool,
}

/// Who can use a coordinator at an address. Without rules, they can take and break any lock.
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
    /// The subjects of the rules, as far as the rules go.
    Subjects,
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

    /// Lets clients do what these rules allow, and nothing else. Their files are looked at every few
    /// seconds, and read again when one of them has changed; a file that cannot be used is logged,
    /// and the former rules stay. Without this, whoever can open a connection may do everything.
    ///
    /// With TLS and rules, other machines may reach the server.
    #[must_use]
    pub fn with_access(mut self, access: Access) -> Self {
        self.access = Some(access);
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
            Listen::Tcp(_) if self.access.is_some() => Reach::Subjects,
            Listen::Tcp(_) if self.demands_certificates() => Reach::CertificateHolders,
            Listen::Tcp(address) if is_loopback(*address) => Reach::LocalUsers,
            Listen::Tcp(_) => Reach::Anybody,
        }
    }

    /// Fails if others can reach this address, and nobody has said that they may.
    pub(super) fn check(&self, listen: &Listen) -> Result<(), ListenError> {
        match (listen, self.find_fault(listen)) {
            (Listen::Tcp(address), Some(missing)) if !self.is_insecure => {
                let address = *address;
                Err(ListenError::NotLoopback { address, missing })
            }
            _ => Ok(()),
        }
    }

    /// Returns what is wrong with the server, for those who ask for its status.
    pub(super) fn warnings(&self, addresses: &[Listen]) -> Vec<String> {
        let warn = |address: &Listen| {
            let fault = self.find_fault(address)?;
            Some(match self.access {
                None => format!("insecure: {address} is open to {}", Reach::Anybody),
                Some(_) => format!("insecure: passwords cross the network to {address}: {fault}"),
            })
        };
        addresses.iter().filter_map(warn).collect()
    }

    /// Returns what other machines would need to be kept out by at this address, and is missing.
    fn find_fault(&self, listen: &Listen) -> Option<&'static str> {
        match listen {
            Listen::Tcp(address) if !is_loopback(*address) => {}
            _ => return None,
        }
        match &self.tls {
            None => Some("there is no TLS"),
            Some(_) if self.demands_certificates() || self.access.is_some() => None,
            Some(_) => Some("clients need no certificate"),
        }
    }

    pub(super) fn access(&self) -> Option<&Access> {
        self.access.as_ref()
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
            Reach::Subjects => f.write_str("those whom the rules name, for what the rules say"),
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
    use testkit::fixtures::certs::Ca;

    use super::*;
    use crate::server::TlsFiles;

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

    #[tokio::test]
    async fn rules_protect_where_there_is_tls_and_need_it_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let rules = folder.path().join("rules.toml");
        let rule = "[[rule]]\nsubject = \"user:a\"\nnamespace = \"a\"\nright = \"lock\"\n";
        std::fs::write(&rules, rule).expect("written");
        let access = Access::open(rules, None).expect("they are good");
        let security = Security::default().with_access(access);
        let (local, remote) = (tcp("127.0.0.1:1"), tcp("0.0.0.0:1"));
        assert_eq!(security.reach(&local), Reach::Subjects);
        security.check(&local).expect("nothing leaves the machine");
        let error = security.check(&remote).expect_err("there is no TLS");
        assert!(error.to_string().contains("no TLS"), "{error}");
        let insecure = security.clone().insecure();
        insecure.check(&remote).expect("the user wants it");
        let warnings = insecure.warnings(&[local, remote.clone()]);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("passwords"), "{warnings:?}");

        let ca = Ca::new("ours");
        let server = ca.issue("server", &["localhost"]);
        let files = TlsFiles::new(&server.cert, &server.key);
        let tls = Tls::load(files).await.expect("they are good");
        let alone = Security::default().with_tls(tls.clone());
        alone.check(&remote).expect_err("clients need nothing");
        let both = security.with_tls(tls);
        both.check(&remote).expect("clients need a password");
        assert_eq!(both.reach(&remote), Reach::Subjects);
        assert!(both.warnings(&[remote]).is_empty());
    }
}

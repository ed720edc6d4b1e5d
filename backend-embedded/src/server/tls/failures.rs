//! Why handshakes fail: counted, and said in the log once a minute for each reason.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use tokio_rustls::rustls::{self, CertificateError, InvalidMessage};

use crate::server::log_pace::LogPace;

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Reason {
    /// It took too long.
    Timeout,
    /// A newer one took its place.
    CrowdedOut,
    /// The client does not speak TLS.
    PlainText,
    /// Client and server have no version or cipher in common.
    Incompatible,
    /// The client gave no certificate.
    NoCertificate,
    /// The client's certificate is of another authority.
    UnknownAuthority,
    /// The client's certificate has expired, or is not valid yet.
    Expired,
    /// The client's certificate is revoked.
    Revoked,
    /// The client's certificate is not valid for another reason.
    InvalidCertificate,
    /// The client refused the server's certificate, or left when it had seen it.
    RefusedByClient,
    /// The connection ended before the client had said anything.
    Ended,
    /// Anything else.
    Other,
}

/// Each reason, and its label. The labels are fixed, so a client cannot add any.
const REASONS: [(Reason, &str); 12] = [
    (Reason::Timeout, "timeout"),
    (Reason::CrowdedOut, "crowded_out"),
    (Reason::PlainText, "plain_text"),
    (Reason::Incompatible, "incompatible"),
    (Reason::NoCertificate, "no_certificate"),
    (Reason::UnknownAuthority, "unknown_authority"),
    (Reason::Expired, "expired"),
    (Reason::Revoked, "revoked"),
    (Reason::InvalidCertificate, "invalid_certificate"),
    (Reason::RefusedByClient, "refused_by_client"),
    (Reason::Ended, "ended"),
    (Reason::Other, "other"),
];

impl Reason {
    /// Returns why a handshake failed with this error.
    pub(super) fn of(error: &io::Error) -> Self {
        let cause = error
            .get_ref()
            .map(|cause| cause as &(dyn StdError + 'static));
        let Some(cause) = cause.and_then(|cause| cause.downcast_ref::<rustls::Error>()) else {
            return Reason::Ended;
        };
        match cause {
            rustls::Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => Reason::PlainText,
            rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => {
                Reason::Incompatible
            }
            rustls::Error::NoCertificatesPresented => Reason::NoCertificate,
            rustls::Error::InvalidCertificate(why) => match why {
                // A bad signature means that the authority only has the same name as a known one.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    Reason::UnknownAuthority
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Reason::Expired,
                CertificateError::Revoked => Reason::Revoked,
                _ => Reason::InvalidCertificate,
            },
            rustls::Error::AlertReceived(_) => Reason::RefusedByClient,
            _ => Reason::Other,
        }
    }

    /// Returns what this means, and what the user can do about it.
    fn explain(self) -> &'static str {
        match self {
            Reason::Timeout => "the client did not finish the handshake in time",
            Reason::CrowdedOut => {
                "its handshake was the oldest of too many under way, so a newer one took its place"
            }
            Reason::PlainText => {
                "the client does not speak TLS: it has to write etcds:// or https:// in its URL"
            }
            Reason::Incompatible => {
                "the client has no version, cipher or protocol of TLS in common with this server: \
                 it needs TLS 1.2 or 1.3"
            }
            Reason::NoCertificate => {
                "the client gave no certificate: it needs one from the authority that this server \
                 names as that of its clients"
            }
            Reason::UnknownAuthority => {
                "the client's certificate is not from the authority that this server names as that \
                 of its clients"
            }
            Reason::Expired => {
                "the client's certificate has expired or is not valid yet: renew it, or correct the \
                 clocks"
            }
            Reason::Revoked => "the client's certificate is revoked",
            Reason::InvalidCertificate => "the client's certificate is not valid here",
            Reason::RefusedByClient => {
                "the client refused this server, or left when it had seen the certificate: its own \
                 message says why, such as another name or another authority"
            }
            Reason::Ended => "the connection ended before the client had said anything",
            Reason::Other => "the client broke the rules of TLS",
        }
    }
}

/// The failures of one server.
#[derive(Debug, Default)]
pub(in crate::server) struct HandshakeFailures {
    counts: [AtomicU64; REASONS.len()],
    paces: Mutex<[LogPace; REASONS.len()]>,
}

impl HandshakeFailures {
    /// Counts a failure. Says in the log whose handshake failed, and why.
    pub(super) fn note(&self, client: SocketAddr, reason: Reason, error: Option<&io::Error>) {
        let Some(index) = REASONS.iter().position(|(it, _)| *it == reason) else {
            return;
        };
        let count = self.counts[index].fetch_add(1, Ordering::Relaxed) + 1;
        let (text, label) = (reason.explain(), REASONS[index].1);
        let error = error.map(tracing::field::display);
        if reason == Reason::Ended {
            // That is all that the probes of load balancers do.
            tracing::debug!(%client, reason = label, error, "no TLS: {text}");
        } else if let Some(unlogged) = self.take_turn(index, count, Instant::now()) {
            tracing::warn!(%client, reason = label, error, unlogged, "TLS refused: {text}");
        }
    }

    /// Takes the turn of a line for this reason, as [`LogPace::take_turn`] does.
    fn take_turn(&self, index: usize, count: u64, now: Instant) -> Option<u64> {
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        paces[index].take_turn(count, now)
    }

    /// Returns how many handshakes failed for each reason.
    pub(in crate::server) fn counts(&self) -> [(&'static str, u64); REASONS.len()] {
        std::array::from_fn(|index| {
            let count = self.counts[index].load(Ordering::Relaxed);
            (REASONS[index].1, count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_label_of_its_own() {
        let failures = HandshakeFailures::default();
        let client = SocketAddr::from(([192, 0, 2, 1], 4711));
        for (reason, _) in REASONS {
            failures.note(client, reason, None);
        }
        let counts = failures.counts();
        let labels: std::collections::BTreeSet<_> = counts.iter().map(|(label, _)| label).collect();
        assert_eq!(labels.len(), REASONS.len());
        assert!(counts.iter().all(|(_, count)| *count == 1), "{counts:?}");
    }

    #[test]
    fn each_reason_has_lines_of_its_own() {
        let failures = HandshakeFailures::default();
        let start = Instant::now();
        assert_eq!(failures.take_turn(0, 1, start), Some(0));
        assert_eq!(failures.take_turn(0, 2, start), None);
        assert_eq!(failures.take_turn(1, 1, start), Some(0), "another reason");
    }

    #[test]
    fn errors_are_told_apart() {
        let of =
            |error: rustls::Error| Reason::of(&io::Error::new(io::ErrorKind::InvalidData, error));
        let certificate = |why| of(rustls::Error::InvalidCertificate(why));
        assert_eq!(certificate(CertificateError::Revoked), Reason::Revoked);
        assert_eq!(certificate(CertificateError::Expired), Reason::Expired);
        assert_eq!(
            certificate(CertificateError::UnknownRevocationStatus),
            Reason::InvalidCertificate
        );
        assert_eq!(of(rustls::Error::DecryptError), Reason::Other);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(Reason::of(&reset), Reason::Ended);
    }
}

//! Which failures of a connection come from TLS, and what the user can do about them.

use std::error::Error as StdError;

use lock_core::ErrorKind;
use rustls::{AlertDescription, CertificateError};

use crate::causes::causes;

/// What stands before the name of an alert in rustls 0.23. HTTP/2 keeps only the text of an error.
const ALERT: &str = "received fatal alert: ";

/// What a user can write in a coordinator's URL against a fault of TLS.
#[derive(Debug, Clone, Copy)]
pub struct Remedies {
    /// The scheme of URLs without TLS, such as `etcd://`.
    pub plain_scheme: &'static str,
    /// What to do if the certificate is for another name than that in the URL.
    pub other_name: &'static str,
}

/// The alerts by which a server refuses a client's certificate, or a client without one.
const REFUSALS: [AlertDescription; 8] = [
    AlertDescription::AccessDenied,
    AlertDescription::BadCertificate,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateRequired,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::UnsupportedCertificate,
];

/// Returns the kind of the failure, and the text that follows "the coordinator at ADDRESS". Returns
/// `None` if the failure does not come from TLS.
pub fn explain(
    error: &(dyn StdError + 'static),
    remedies: Remedies,
) -> Option<(ErrorKind, String)> {
    causes(error).find_map(|e| match e.downcast_ref::<rustls::Error>() {
        Some(error) => from_rustls(error, remedies),
        None => from_text(&e.to_string()),
    })
}

fn from_rustls(error: &rustls::Error, remedies: Remedies) -> Option<(ErrorKind, String)> {
    let (kind, text) = match error {
        rustls::Error::InvalidCertificate(why) => {
            (ErrorKind::Configuration, explain_certificate(why, remedies))
        }
        rustls::Error::AlertReceived(alert) => return from_alert(*alert),
        rustls::Error::InvalidMessage(_) => (
            ErrorKind::Configuration,
            format!(
                "does not speak TLS: write {} to connect without TLS, or give the port that speaks \
                 it",
                remedies.plain_scheme
            ),
        ),
        rustls::Error::PeerIncompatible(_) => (
            ErrorKind::Configuration,
            format!("cannot agree on TLS with this client ({error}): let it offer TLS 1.2 or 1.3"),
        ),
        _ => return None,
    };
    Some((kind, text))
}

fn explain_certificate(why: &CertificateError, remedies: Remedies) -> String {
    match why {
        // A bad signature means that the CA only has the same name as one that is trusted.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "has a certificate of a CA that is not trusted: give the file of that CA in the \
             parameter ca"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has a certificate that has expired: renew it, or correct this machine's clock"
                .to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "has a certificate that is not valid yet: correct the clocks".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "has a certificate for another name: {}",
                remedies.other_name
            )
        }
        other => format!("has a certificate that is not valid ({other})"),
    }
}

fn from_alert(alert: AlertDescription) -> Option<(ErrorKind, String)> {
    REFUSALS.contains(&alert).then(|| {
        (
            ErrorKind::Refused,
            format!(
                "refused the TLS connection ({alert:?}): give a client certificate that it \
                 accepts in the parameters cert and key"
            ),
        )
    })
}

/// Finds an alert in the text of an error: HTTP/2 keeps nothing else of an error on its connection.
fn from_text(text: &str) -> Option<(ErrorKind, String)> {
    let (_, alert) = text.split_once(ALERT)?;
    let alert = REFUSALS
        .into_iter()
        .find(|known| alert.starts_with(&format!("{known:?}")))?;
    from_alert(alert)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    const REMEDIES: Remedies = Remedies {
        plain_scheme: "etcd://",
        other_name: "use that name in the URL",
    };

    fn kind(error: impl StdError + 'static) -> Option<ErrorKind> {
        explain(&error, REMEDIES).map(|(kind, _)| kind)
    }

    #[test]
    fn an_alert_is_found_in_an_error_and_in_its_text() {
        let alert = rustls::Error::AlertReceived(AlertDescription::BadCertificate);
        let text = alert.to_string();
        let error = io::Error::new(io::ErrorKind::InvalidData, alert);
        assert_eq!(kind(error), Some(ErrorKind::Refused));
        assert_eq!(kind(io::Error::other(text)), Some(ErrorKind::Refused));
    }

    #[test]
    fn other_failures_do_not_come_from_tls() {
        assert_eq!(kind(io::Error::from(io::ErrorKind::ConnectionReset)), None);
        let alert = rustls::Error::AlertReceived(AlertDescription::InternalError);
        assert_eq!(kind(io::Error::other(alert.to_string())), None);
        assert_eq!(kind(alert), None);
    }
}

//! Which failures of a connection are a matter of TLS, and what to do about them.

use std::error::Error as StdError;

use lock_core::ErrorKind;
use rustls::{AlertDescription, CertificateError};

use super::causes::causes;

/// What an alert of the server's begins with where only the words are left of it.
const ALERT: &str = "received fatal alert: ";
/// The alerts by which a server turns a client's certificate down, or the want of one.
const TURNED_DOWN: [AlertDescription; 8] = [
    AlertDescription::AccessDenied,
    AlertDescription::BadCertificate,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateRequired,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::UnsupportedCertificate,
];

/// The kind of the failure, and what follows "the coordinator at ADDRESS"; `None` if it has nothing
/// to do with TLS.
pub(super) fn explain(error: &(dyn StdError + 'static)) -> Option<(ErrorKind, String)> {
    causes(error).find_map(|e| match e.downcast_ref::<rustls::Error>() {
        Some(error) => of_rustls(error),
        None => of_words(&e.to_string()),
    })
}

fn of_rustls(error: &rustls::Error) -> Option<(ErrorKind, String)> {
    let (kind, text) = match error {
        rustls::Error::InvalidCertificate(why) => (ErrorKind::Configuration, of_certificate(why)),
        rustls::Error::AlertReceived(alert) => return of_alert(*alert),
        rustls::Error::InvalidMessage(_) => (
            ErrorKind::Configuration,
            "does not speak TLS: write etcd:// to do without, or give the port that does"
                .to_owned(),
        ),
        rustls::Error::PeerIncompatible(_) => (
            ErrorKind::Configuration,
            format!("cannot agree with us on TLS ({error}): let it offer TLS 1.2 or 1.3"),
        ),
        _ => return None,
    };
    Some((kind, text))
}

fn of_certificate(why: &CertificateError) -> String {
    match why {
        // The latter is that of a CA with the same name as one that is trusted.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "has a certificate of a CA that is not trusted: give the file of its CA in the parameter ca".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has a certificate that has expired: renew it, or set this machine's clock right".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "has a certificate that is not valid yet: set the clocks right".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "has a certificate for another name: use that name in the URL, or give it in the parameter server_name".to_owned()
        }
        other => format!("has a certificate that is not valid ({other})"),
    }
}

fn of_alert(alert: AlertDescription) -> Option<(ErrorKind, String)> {
    TURNED_DOWN.contains(&alert).then(|| {
        (
            ErrorKind::Refused,
            format!("turns our TLS down ({alert:?}): give a client certificate that it accepts in the parameters cert and key"),
        )
    })
}

/// HTTP/2 keeps only the words of an error on its connection.
fn of_words(text: &str) -> Option<(ErrorKind, String)> {
    let (_, alert) = text.split_once(ALERT)?;
    let alert = TURNED_DOWN
        .into_iter()
        .find(|known| alert.starts_with(&format!("{known:?}")))?;
    of_alert(alert)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn kind(error: impl StdError + 'static) -> Option<ErrorKind> {
        explain(&error).map(|(kind, _)| kind)
    }

    #[test]
    fn an_alert_is_found_in_an_error_and_in_its_words() {
        let alert = rustls::Error::AlertReceived(AlertDescription::BadCertificate);
        let words = alert.to_string();
        let error = io::Error::new(io::ErrorKind::InvalidData, alert);
        assert_eq!(kind(error), Some(ErrorKind::Refused));
        assert_eq!(kind(io::Error::other(words)), Some(ErrorKind::Refused));
    }

    #[test]
    fn other_failures_are_none_of_tls() {
        assert_eq!(kind(io::Error::from(io::ErrorKind::ConnectionReset)), None);
        let alert = rustls::Error::AlertReceived(AlertDescription::InternalError);
        assert_eq!(kind(io::Error::other(alert.to_string())), None);
        assert_eq!(kind(alert), None);
    }
}

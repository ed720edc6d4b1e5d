//! Who a request is from.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::server::tls::Identity;

/// The longest name of a subject, in bytes.
const MAX_NAME_BYTES: usize = 1024;

/// One name of whoever sends requests, as it stands in a file of rules.
///
/// # Examples
/// ```
/// use backend_embedded::server::access::SubjectName;
///
/// let name: SubjectName = "dns:web-1.example.org".parse()?;
/// assert_eq!(name.to_string(), "dns:web-1.example.org");
/// assert!("alice".parse::<SubjectName>().is_err(), "which kind of name?");
/// # Ok::<(), backend_embedded::server::access::SubjectNameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SubjectName {
    /// `user:NAME`, a user of the file of users.
    User(String),
    /// `cn:NAME`, the common name of a client's certificate.
    CommonName(String),
    /// `dns:NAME`, a DNS name of a client's certificate, in lower case.
    Dns(String),
    /// `uri:URI`, a URI of a client's certificate, such as a SPIFFE id.
    Uri(String),
    /// `*`, everybody who has shown who they are.
    Anybody,
}

/// The text is not the name of a subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} names no subject; write user:NAME, or cn:NAME, dns:NAME or uri:URI as a client's \
     certificate has it, or * for everybody who has shown who they are"
)]
pub struct SubjectNameError {
    text: String,
}

impl FromStr for SubjectName {
    type Err = SubjectNameError;

    fn from_str(text: &str) -> Result<Self, SubjectNameError> {
        let malformed = || SubjectNameError {
            text: text.chars().take(80).collect(),
        };
        if text == "*" {
            return Ok(SubjectName::Anybody);
        }
        let (kind, name) = text.split_once(':').ok_or_else(malformed)?;
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
            return Err(malformed());
        }
        match kind {
            "user" => Ok(SubjectName::User(name.to_owned())),
            "cn" => Ok(SubjectName::CommonName(name.to_owned())),
            "dns" => Ok(SubjectName::Dns(name.to_ascii_lowercase())),
            "uri" => Ok(SubjectName::Uri(name.to_owned())),
            _ => Err(malformed()),
        }
    }
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubjectName::User(name) => write!(f, "user:{name}"),
            SubjectName::CommonName(name) => write!(f, "cn:{name}"),
            SubjectName::Dns(name) => write!(f, "dns:{name}"),
            SubjectName::Uri(uri) => write!(f, "uri:{uri}"),
            SubjectName::Anybody => f.write_str("*"),
        }
    }
}

/// Whoever sends requests, with all names that a certificate proves, or with the name of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    names: Vec<SubjectName>,
    /// All names as one text: what leases are noted under.
    text: Arc<str>,
}

impl Subject {
    /// Returns the user of the file of users who has shown its password.
    pub(super) fn user(name: &str) -> Self {
        Subject::new(vec![SubjectName::User(name.to_owned())])
    }

    /// Returns the subject with all of these names.
    pub fn new(names: Vec<SubjectName>) -> Self {
        let text: Vec<_> = names.iter().map(ToString::to_string).collect();
        Subject {
            text: text.join(", ").into(),
            names,
        }
    }

    /// Returns whom a client's certificate names.
    pub(super) fn of_certificate(identity: &Identity) -> Self {
        let Identity {
            common_name,
            dns_names,
            uris,
        } = identity;
        let common_name = common_name.iter().cloned().map(SubjectName::CommonName);
        let dns_names = dns_names.iter().map(|name| name.to_ascii_lowercase());
        let uris = uris.iter().cloned().map(SubjectName::Uri);
        let names = common_name
            .chain(dns_names.map(SubjectName::Dns))
            .chain(uris);
        Subject::new(names.collect())
    }

    pub(super) fn names(&self) -> &[SubjectName] {
        &self.names
    }

    pub(super) fn text(&self) -> &Arc<str> {
        &self.text
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_as_it_is_read() {
        for text in [
            "user:alice",
            "cn:Alice B",
            "dns:a.example.org",
            "uri:spiffe://a/b",
            "*",
        ] {
            let name: SubjectName = text.parse().expect(text);
            assert_eq!(name.to_string(), text);
        }
        let upper: SubjectName = "dns:A.Example.ORG".parse().expect("a name");
        assert_eq!(upper.to_string(), "dns:a.example.org");
    }

    #[test]
    fn a_name_without_its_kind_is_refused() {
        for text in ["", "alice", "user:", "group:x", "user:a\nb", "**"] {
            let err = text.parse::<SubjectName>().expect_err(text);
            assert!(err.to_string().contains("user:NAME"), "{err}");
        }
    }
}

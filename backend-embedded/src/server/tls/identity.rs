//! Who a client is, by its certificate.

use std::fmt;

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::der::{
    Der, IA5_STRING, OBJECT_IDENTIFIER, PRINTABLE_STRING, SEQUENCE, SET, UTF8_STRING,
};

/// The object identifier 2.5.4.3: the attribute "common name".
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// The names in a client's certificate. The server has verified the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) struct Identity {
    /// The common name of the subject, if there is exactly one.
    pub(in crate::server) common_name: Option<String>,
    /// The DNS names among the alternative names of the subject.
    pub(in crate::server) dns_names: Vec<String>,
    /// The URIs among the alternative names of the subject.
    pub(in crate::server) uris: Vec<String>,
}

impl Identity {
    /// Reads the names. Returns `None` if this is no certificate.
    pub(super) fn from_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        Some(Identity {
            common_name: read_common_name(certificate.subject()),
            dns_names: certificate.valid_dns_names().map(str::to_owned).collect(),
            uris: certificate.valid_uri_names().map(str::to_owned).collect(),
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.common_name.iter();
        let names = names.chain(&self.uris).chain(&self.dns_names);
        let names: Vec<_> = names.map(|name| name.escape_debug().to_string()).collect();
        match names.is_empty() {
            true => f.write_str("a certificate without a name"),
            false => f.write_str(&names.join(", ")),
        }
    }
}

/// Reads the common name of a distinguished name. Of two, neither counts: others might take the
/// other one for the name.
fn read_common_name(name: &[u8]) -> Option<String> {
    let mut found = None;
    let mut sets = Der::new(name);
    while !sets.is_empty() {
        let mut attributes = Der::new(sets.take(SET)?);
        while !attributes.is_empty() {
            let mut attribute = Der::new(attributes.take(SEQUENCE)?);
            if attribute.take(OBJECT_IDENTIFIER)? != COMMON_NAME {
                continue;
            }
            let (UTF8_STRING | PRINTABLE_STRING | IA5_STRING, text) = attribute.take_any()? else {
                return None;
            };
            let text = std::str::from_utf8(text).ok()?;
            if text.is_empty() || found.replace(text).is_some() {
                return None;
            }
        }
    }
    found.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes a value that is shorter than 128 bytes.
    fn value(tag: u8, contents: &[u8]) -> Vec<u8> {
        let length = u8::try_from(contents.len()).expect("short");
        [&[tag, length], contents].concat()
    }

    fn attribute(oid: [u8; 3], tag: u8, text: &[u8]) -> Vec<u8> {
        let attribute = [value(OBJECT_IDENTIFIER, &oid), value(tag, text)].concat();
        value(SET, &value(SEQUENCE, &attribute))
    }

    const ORGANIZATION: [u8; 3] = [0x55, 0x04, 0x0a];

    #[test]
    fn the_common_name_is_found_among_others() {
        let organization = attribute(ORGANIZATION, UTF8_STRING, b"example");
        for tag in [UTF8_STRING, PRINTABLE_STRING, IA5_STRING] {
            let name = [organization.clone(), attribute(COMMON_NAME, tag, b"ci")].concat();
            assert_eq!(read_common_name(&name).as_deref(), Some("ci"));
        }
        assert_eq!(read_common_name(&organization), None);
        assert_eq!(read_common_name(b""), None);
    }

    #[test]
    fn a_common_name_that_could_be_taken_for_another_does_not_count() {
        let ci = attribute(COMMON_NAME, UTF8_STRING, b"ci");
        let twice = [ci.clone(), attribute(COMMON_NAME, UTF8_STRING, b"root")].concat();
        assert_eq!(read_common_name(&twice), None);
        // A BMPString, which has two bytes for each character.
        let wide = attribute(COMMON_NAME, 0x1e, b"\0c\0i");
        assert_eq!(read_common_name(&wide), None);
        assert_eq!(
            read_common_name(&attribute(COMMON_NAME, UTF8_STRING, b"")),
            None
        );
        assert_eq!(
            read_common_name(&attribute(COMMON_NAME, UTF8_STRING, b"\xff")),
            None
        );
        assert_eq!(read_common_name(&ci[..ci.len() - 1]), None, "cut off");
    }

    #[test]
    fn names_cannot_forge_a_line_of_the_log() {
        let identity = Identity {
            common_name: Some("ci\nroot".to_owned()),
            dns_names: vec!["a.example".to_owned()],
            uris: vec!["spiffe://example/ci".to_owned()],
        };
        assert_eq!(
            identity.to_string(),
            "ci\\nroot, spiffe://example/ci, a.example"
        );
    }

    #[test]
    fn all_names_of_a_certificate_are_read() {
        use tokio_rustls::rustls::pki_types::pem::PemObject;
        let ca = testkit::fixtures::certs::Ca::new("ours");
        let names = [
            "ci.example",
            "*.build.example",
            "spiffe://example/ci",
            "192.0.2.1",
        ];
        let issued = ca.issue("ci", &names);
        let certificate = CertificateDer::from_pem_file(issued.cert).expect("a certificate");
        let identity = Identity::from_certificate(&certificate).expect("a certificate");
        assert_eq!(identity.common_name.as_deref(), Some("ci"));
        assert_eq!(identity.dns_names, ["ci.example", "*.build.example"]);
        assert_eq!(identity.uris, ["spiffe://example/ci"]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(0_u8.., 0..64)) {
            let _ = read_common_name(&bytes);
            let _ = Identity::from_certificate(&CertificateDer::from(bytes));
        }
    }
}

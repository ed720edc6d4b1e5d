//! What a certificate lets a client do where there are rules.

use backend_embedded::server::Security;
use backend_embedded::server::access::Access;
use lock_core::ErrorKind;
use testkit::fixtures::certs::Ca;

use super::{HOST, SecureServer, fails, mutual, url, works};

const RULES: &str = r#"
[[rule]]
subject = "cn:ci"
namespace = "a"
right = "lock"

[[rule]]
subject = "dns:WEB.example"
namespace = "b"
right = "lock"

[[rule]]
subject = "uri:spiffe://example/ci"
namespace = "c"
right = "lock"

[[rule]]
subject = "user:ci"
namespace = "d"
right = "lock"
"#;

#[tokio::test]
async fn a_client_does_what_the_rules_allow_for_the_names_in_its_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let rules = folder.path().join("rules.toml");
    std::fs::write(&rules, RULES).expect("written");
    let access = Access::open(rules, None).expect("they are good");
    let ca = Ca::new("ours");
    let files = mutual(&ca.issue("server", &[HOST]), &ca);
    let security = Security::default().with_access(access);
    let server = SecureServer::start_with(files, security).await;
    let names: [(&str, &[&str], &str); 3] = [
        ("ci", &["web.example", "spiffe://example/ci"], "abc"),
        ("ci", &[], "a"),
        ("CI", &["ci", "webxexample"], ""),
    ];
    for (common_name, others, allowed) in names {
        let client = ca.issue(common_name, others);
        for namespace in ["a", "b", "c", "d"] {
            let url = url(server.addresses[0], &ca, Some(&client));
            let url = format!("{url}&namespace={namespace}");
            match allowed.contains(namespace) {
                true => works(&url).await,
                false => {
                    let error = fails(&url).await;
                    assert_eq!(error.kind(), ErrorKind::Refused, "{namespace}: {error}");
                }
            }
        }
    }
}

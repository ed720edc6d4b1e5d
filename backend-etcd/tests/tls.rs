//! TLS with a real etcd: a valid set-up works, and an invalid one fails with a clear error and
//! never hangs.

mod support;

use std::time::{Duration, Instant};

use lock_core::{Error, ErrorKind, Release};
use support::{Node, backend, locks};
use testkit::fixtures::certs::{Ca, Issued};
use testkit::waiting::soon;

const TTL: Duration = Duration::from_secs(10);

/// Starts an etcd with this certificate. With a CA, it demands client certificates of that CA.
async fn serve(server: &Issued, clients: Option<&Ca>) -> Node {
    let mut arguments = vec![
        "--cert-file".to_owned(),
        server.cert.clone(),
        "--key-file".to_owned(),
        server.key.clone(),
    ];
    if let Some(ca) = clients {
        arguments.push("--client-cert-auth".to_owned());
        arguments.extend(["--trusted-ca-file".to_owned(), ca.file()]);
    }
    Node::start_with(arguments, true).await
}

async fn works(url: &str) {
    let locks = locks(backend(url), TTL);
    let mutex = locks.mutex("x").expect("valid");
    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
    assert_eq!(
        soon("release", guard.release()).await.expect("an answer"),
        Release::Released
    );
}

async fn fails(url: &str) -> Error {
    let locks = locks(backend(url), TTL);
    let mutex = locks.mutex("x").expect("valid");
    let started = Instant::now();
    let error = mutex.try_acquire().await.expect_err("must fail");
    let took = started.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}: {error}");
    error
}

#[tokio::test]
async fn both_sides_show_certificates_and_locks_work() {
    let ca = Ca::new("ours");
    let server = ca.issue("server", &["127.0.0.1"]);
    let client = ca.issue("client", &[]);
    let etcd = serve(&server, Some(&ca)).await;
    let (address, file) = (etcd.tls_address(), ca.file());
    let Issued { cert, key, .. } = &client;
    works(&format!(
        "etcds://{address}?ca={file}&cert={cert}&key={key}"
    ))
    .await;

    let error = fails(&format!("etcds://{address}?ca={file}")).await;
    assert!(
        matches!(error.kind(), ErrorKind::Refused | ErrorKind::Unreachable),
        "{error}"
    );
    assert!(error.to_string().contains("cert and key"), "{error}");

    // A certificate that the server's CA did not issue.
    let other = Ca::new("theirs");
    let Issued { cert, key, .. } = other.issue("foreign", &[]);
    let error = fails(&format!(
        "etcds://{address}?ca={file}&cert={cert}&key={key}"
    ))
    .await;
    assert!(
        matches!(error.kind(), ErrorKind::Refused | ErrorKind::Unreachable),
        "{error}"
    );
    assert!(error.to_string().contains("parameter"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_is_not_to_be_trusted_is_named_as_such() {
    let ca = Ca::new("ours");
    let server = ca.issue("server", &["127.0.0.1"]);
    let etcd = serve(&server, None).await;
    let address = etcd.tls_address();
    for other in [Ca::new("theirs"), Ca::new("ours")] {
        let error = fails(&format!("etcds://{address}?ca={}", other.file())).await;
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains("not trusted"), "{error}");
    }
    works(&format!("etcds://{address}?ca={}", ca.file())).await;
    let default = rustls::crypto::CryptoProvider::get_default();
    assert!(
        default.is_none(),
        "the program's choice of a provider must stay free"
    );
}

#[tokio::test]
async fn an_expired_certificate_is_named_as_such() {
    let ca = Ca::new("ours");
    let server = ca.issue_expired("server", &["127.0.0.1"]);
    let etcd = serve(&server, None).await;
    let error = fails(&format!("etcds://{}?ca={}", etcd.tls_address(), ca.file())).await;
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(error.to_string().contains("has expired"), "{error}");
    assert!(error.to_string().contains(&etcd.tls_address()), "{error}");
}

#[tokio::test]
async fn a_member_with_a_bad_certificate_is_passed_over() {
    let ca = Ca::new("ours");
    let bad = serve(&ca.issue_expired("bad", &["127.0.0.1"]), None).await;
    let good = serve(&ca.issue("good", &["127.0.0.1"]), None).await;
    let members = format!("{},{}", bad.tls_address(), good.tls_address());
    works(&format!("etcds://{members}?ca={}", ca.file())).await;
    assert!(
        good.keys("").await.is_empty() && good.revision().await > 1,
        "it was the good one that did the work"
    );
}

#[tokio::test]
async fn a_certificate_for_another_name_works_only_by_that_name() {
    let ca = Ca::new("ours");
    let server = ca.issue("server", &["etcd.example"]);
    let etcd = serve(&server, None).await;
    let url = format!("etcds://{}?ca={}", etcd.tls_address(), ca.file());
    let error = fails(&url).await;
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(error.to_string().contains("server_name"), "{error}");
    works(&format!("{url}&server_name=etcd.example")).await;
    let error = fails(&format!("{url}&server_name=etcd.invalid")).await;
    assert!(error.to_string().contains("another name"), "{error}");
}

#[tokio::test]
async fn plain_text_and_tls_do_not_mix() {
    let ca = Ca::new("ours");
    let server = ca.issue("server", &["127.0.0.1"]);
    let etcd = serve(&server, None).await;
    let error = fails(&format!("etcd://{}", etcd.tls_address())).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("etcds://"), "{error}");

    let error = fails(&format!("etcds://{}?ca={}", etcd.address(), ca.file())).await;
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Configuration | ErrorKind::Unreachable
        ),
        "{error}"
    );
    assert!(error.to_string().contains("TLS"), "{error}");
}

#[test]
fn files_that_cannot_be_used_are_refused_before_anything_is_sent() {
    let ca = Ca::new("ours");
    let a = ca.issue("a", &["127.0.0.1"]);
    let b = ca.issue("b", &["127.0.0.1"]);
    for (url, words) in [
        (format!("etcds://h?ca={}", a.key), "CERTIFICATE"),
        (
            format!("etcds://h?cert={}&key={}", a.key, b.key),
            "CERTIFICATE",
        ),
        (
            format!("etcds://h?ca={}&cert={}&key={}", ca.file(), a.cert, b.key),
            "key",
        ),
        (
            format!("etcds://h?ca={}&server_name=a%20b", ca.file()),
            "server_name",
        ),
    ] {
        let config = backend_etcd::Config::from_url(&url);
        let error = config
            .and_then(backend_etcd::EtcdBackend::new)
            .expect_err("must be refused");
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        let text = error.to_string();
        assert!(text.contains(words) && !text.contains("BEGIN"), "{text}");
    }
}

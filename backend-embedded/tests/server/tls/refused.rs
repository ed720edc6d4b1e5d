//! Who is refused, and what both sides are told.

use super::*;

/// The first message of a client that speaks TLS 1.1 at most.
const HELLO_OF_TLS_1_1: &[u8] = &[
    22, 3, 1, 0, 47, // a record of a handshake, with 47 bytes
    1, 0, 0, 43, // a hello with 43 bytes
    3, 2, // TLS 1.1
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, // random bytes
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    0, // no session
    0, 4, 0xc0, 0x13, 0, 0x2f, // two ciphers
    1, 0, // no compression
];

#[tokio::test]
async fn each_client_that_may_not_in_reads_why_and_is_counted() {
    let (ca, other) = (Ca::new("ours"), Ca::new("theirs"));
    let files = mutual(&ca.issue("server", &[HOST]), &ca);
    let revoked = ca.issue("revoked", &[]);
    let server = SecureServer::start(files.with_client_crl(ca.revoke(&[&revoked]))).await;
    let address = server.addresses[0];
    let (foreign, expired) = (
        other.issue("foreign", &[]),
        ca.issue_expired("expired", &[]),
    );
    for (client, reason, told) in [
        (None, "no_certificate", "CertificateRequired"),
        (Some(&foreign), "unknown_authority", "UnknownCA"),
        (Some(&expired), "expired", "CertificateExpired"),
        (Some(&revoked), "revoked", "CertificateRevoked"),
    ] {
        let before = server.failed(reason).await;
        let error = fails(&url(address, &ca, client)).await;
        let text = error.to_string();
        assert!(text.contains(told), "{reason}: {text}");
        assert!(text.contains("parameters cert and key"), "{reason}: {text}");
        assert!(server.failed(reason).await > before, "{reason}");
    }
    works(&url(address, &ca, Some(&ca.issue("client", &[])))).await;
}

#[tokio::test]
async fn a_server_that_is_not_to_be_trusted_is_refused_by_its_clients() {
    let (ca, other) = (Ca::new("ours"), Ca::new("theirs"));
    let client = ca.issue("client", &[]);
    for (server, trusted, told) in [
        (ca.issue("named", &["locks.example"]), &ca, "another name"),
        (ca.issue_expired("expired", &[HOST]), &ca, "has expired"),
        (ca.issue("server", &[HOST]), &other, "not trusted"),
    ] {
        let server = SecureServer::start(mutual(&server, &ca)).await;
        let error = fails(&url(server.addresses[0], trusted, Some(&client))).await;
        assert!(error.to_string().contains(told), "{error}");
        until("the server to know", || async {
            server.failed("refused_by_client").await > 0.0
        })
        .await;
    }
}

#[tokio::test]
async fn plain_text_and_old_versions_are_refused_with_an_alert() {
    let ca = Ca::new("ours");
    let server = SecureServer::start(mutual(&ca.issue("server", &[HOST]), &ca)).await;
    let address = server.addresses[0];
    let error = fails(&format!("etcd://{address}")).await;
    assert!(error.to_string().contains("etcds://"), "{error}");
    assert!(server.failed("plain_text").await > 0.0);

    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(HELLO_OF_TLS_1_1).await.expect("sent");
    let mut answer = Vec::new();
    soon("the alert", stream.read_to_end(&mut answer))
        .await
        .expect("an answer");
    // A fatal alert, `handshake_failure`: the client has no signature of TLS 1.2.
    assert_eq!((answer[0], &answer[5..]), (21, &[2, 40][..]), "{answer:?}");
    assert_eq!(server.failed("incompatible").await, 1.0);
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_on_each_address() {
    let ca = Ca::new("ours");
    let files = mutual(&ca.issue("server", &[HOST]), &ca);
    let (bad, good) = (ca.issue("bad", &[]), ca.issue("good", &[]));
    let server = SecureServer::start(files.with_client_crl(ca.revoke(&[]))).await;
    let client = TlsClient::new(&ca, &bad);
    for address in server.addresses {
        let mut stream = client.connect(address).await.expect("not revoked yet");
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .expect("sent");
        stream.read_u8().await.expect("the server speaks HTTP/2");
        let (_, session) = stream.get_ref();
        // A session that is resumed would not be checked.
        let kind = session.handshake_kind();
        assert_eq!(kind, Some(tokio_rustls::rustls::HandshakeKind::Full));
    }
    ca.revoke(&[&bad]);
    assert!(
        server.tls.reload().await.expect("valid"),
        "it is another list"
    );
    for address in server.addresses {
        let error = fails(&url(address, &ca, Some(&bad))).await;
        assert!(error.to_string().contains("CertificateRevoked"), "{error}");
        works(&url(address, &ca, Some(&good))).await;
    }
}

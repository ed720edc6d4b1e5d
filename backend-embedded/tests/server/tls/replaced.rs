//! Certificates that are replaced while the server runs.

use std::fs;

use super::*;

const CLIENTS: usize = 64;

#[tokio::test]
async fn certificates_are_replaced_under_load_and_no_connection_is_lost() {
    let ca = Ca::new("ours");
    let files = ca.issue("server", &[HOST]);
    let server = SecureServer::start(mutual(&files, &ca)).await;
    let client = TlsClient::new(&ca, &ca.issue("client", &[]));
    let (opened, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (stop, stopped) = watch::channel(false);
    let mut loads = Vec::new();
    for index in 0..CLIENTS {
        let address = server.addresses[index % 2];
        let mut client = client.open(address, &opened).await;
        let (done, stopped) = (Arc::clone(&done), stopped.clone());
        loads.push(tokio::spawn(async move {
            while !*stopped.borrow() {
                let key = format!("k{index}");
                soon("a put", client.put(key, "v", None))
                    .await
                    .expect("the connection lasts");
                done.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let progress = |count: usize| {
        let done = Arc::clone(&done);
        async move {
            let aim = done.load(Ordering::Relaxed) + count;
            until("the load to go on", || async {
                done.load(Ordering::Relaxed) >= aim
            })
            .await;
        }
    };
    let mut former = certificate(&files.cert);
    for round in 0..3 {
        progress(4 * CLIENTS).await;
        let seen = shown(
            &client
                .connect(server.addresses[0])
                .await
                .expect("connected"),
        );
        assert_eq!(seen, former);
        let next = ca.issue(&format!("next{round}"), &[HOST]);
        fs::copy(&next.cert, &files.cert).expect("copied");
        let half = server.tls.reload().await.expect_err("another key's");
        assert!(half.to_string().contains("is not for the key"), "{half}");
        fs::copy(&next.key, &files.key).expect("copied");
        assert!(server.tls.reload().await.expect("valid"));
        former = certificate(&next.cert);
        for address in server.addresses {
            let seen = shown(&client.connect(address).await.expect("connected"));
            assert_eq!(seen, former, "new connections get the new one");
        }
        progress(4 * CLIENTS).await;
    }
    stop.send(true).expect("they listen");
    for load in loads {
        load.await.expect("no put failed");
    }
    assert_eq!(
        opened.load(Ordering::Relaxed),
        CLIENTS,
        "each had one connection"
    );
}

#[tokio::test]
async fn a_bad_new_file_keeps_the_old_one() {
    let ca = Ca::new("ours");
    let files = ca.issue("server", &[HOST]);
    let client = ca.issue("client", &[]);
    let revoked = ca.revoke(&[]);
    let authority = ca.file();
    let all = mutual(&files, &ca).with_client_crl(&revoked);
    let server = SecureServer::start(all).await;
    let address = server.addresses[0];
    let url = url(address, &ca, Some(&client));
    let mode = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(&files.key, mode).expect("allowed");
    };
    for (file, words) in [
        (&files.cert, "CERTIFICATE"),
        (&files.key, "PRIVATE KEY"),
        (&authority, "CERTIFICATE"),
        (&revoked, "X509 CRL"),
    ] {
        let good = fs::read(file).expect("there");
        for bad in [
            "half a file".to_owned(),
            format!("-----BEGIN {words}-----\nAAAA\n-----END {words}-----\n"),
        ] {
            fs::write(file, &bad).expect("written");
            let error = server
                .tls
                .reload()
                .await
                .expect_err("not valid")
                .to_string();
            assert!(error.contains(file.as_str()), "{error}");
            assert!(
                !error.contains("half a file") && !error.contains("AAAA"),
                "{error}"
            );
        }
        fs::write(file, good).expect("written");
        assert!(!server.tls.reload().await.expect("as it was"));
    }
    mode(0o644);
    let error = server
        .tls
        .reload()
        .await
        .expect_err("open to all")
        .to_string();
    assert!(error.contains("chmod o="), "{error}");
    works(&url).await;
    mode(0o600);
    fs::remove_file(&files.cert).expect("removed");
    server.tls.reload().await.expect_err("absent");
    works(&url).await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_at_the_start() {
    let ca = Ca::new("ours");
    let (a, b) = (ca.issue("a", &[HOST]), ca.issue("b", &[HOST]));
    let revoked = ca.revoke(&[]);
    for (files, words) in [
        (TlsFiles::new(&a.cert, &b.key), "is not for the key"),
        (TlsFiles::new(&a.key, &a.key), "CERTIFICATE"),
        (TlsFiles::new("server.pem", &a.key), "absolute"),
        (
            TlsFiles::new(&a.cert, &a.key).with_client_crl(&revoked),
            "authority of the clients",
        ),
        (
            TlsFiles::new(&a.cert, &a.key).with_client_ca(&revoked),
            "CERTIFICATE",
        ),
        (mutual(&a, &ca).with_client_crl(ca.file()), "X509 CRL"),
    ] {
        let error = Tls::load(files).await.expect_err(words).to_string();
        assert!(error.contains(words) && !error.contains("BEGIN"), "{error}");
    }
}

//! TLS with a real ZooKeeper: a valid set-up works, and an invalid one fails with a clear error and
//! never hangs.

mod support;

use std::fs;
use std::time::{Duration, Instant};

use backend_zk::{Config, ZkBackend};
use lock_core::{Error, ErrorKind, LockName, Release};
use support::{acquire, eventually, locks, name, process, soon};
use testkit::fixtures::certs::{Ca, Issued, private};
use testkit::fixtures::free_port;
use testkit::fixtures::zk::{Ensemble, Settings};
use zookeeper_client::Client;

const TTL: Duration = Duration::from_secs(10);

/// A server that speaks TLS on one port and plain text on another.
struct Secure {
    ensemble: Ensemble,
    port: u16,
}

/// Starts a ZooKeeper with this certificate. With a CA, it demands client certificates of that CA.
fn serve(server: &Issued, clients: Option<&Ca>) -> Secure {
    let port = free_port();
    // The server wants both in one file.
    let read = |file: &str| fs::read_to_string(file).expect("readable");
    let both = server.key.replace(".key", ".both.pem");
    private(&both, &(read(&server.key) + &read(&server.cert)));
    let mut properties = vec![
        "zookeeper.serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory".to_owned(),
        format!("zookeeper.ssl.keyStore.location={both}"),
    ];
    match clients {
        Some(ca) => properties.push(format!("zookeeper.ssl.trustStore.location={}", ca.file())),
        None => properties.push("zookeeper.ssl.clientAuth=none".to_owned()),
    }
    let ensemble = Ensemble::start(Settings {
        properties,
        config: vec![
            format!("secureClientPort={port}"),
            "secureClientPortAddress=127.0.0.1".to_owned(),
        ],
        ..Settings::default()
    });
    Secure { ensemble, port }
}

impl Secure {
    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

async fn works(url: &str) {
    let guard = acquire(&process(url, TTL), &name("x")).await;
    assert_eq!(
        soon("release", guard.release()).await.expect("an answer"),
        Release::Released
    );
}

async fn fails(url: &str) -> Error {
    let mutex = process(url, TTL).mutex("x").expect("valid");
    let started = Instant::now();
    let error = mutex.try_acquire().await.expect_err("must fail");
    let took = started.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}: {error}");
    error
}

/// Checks that the error has this text.
fn names(error: &Error, text: &str) {
    assert!(error.to_string().contains(text), "{error}");
}

#[tokio::test]
async fn both_sides_show_certificates_and_the_nodes_belong_to_the_clients() {
    let ca = Ca::new("ours");
    let server = ca.issue("server", &["127.0.0.1"]);
    let zookeeper = serve(&server, Some(&ca));
    let url = format!("zks://{}?ca={}", zookeeper.address(), ca.file());
    let with = |issued: &Issued| format!("{url}&cert={}&key={}", issued.cert, issued.key);
    // In a namespace of its own, since the nodes of the sessions belong to their creators, too.
    let client = with(&ca.issue("client", &[])) + "&namespace=clients";
    works(&client).await;

    // Neither a client without TLS nor one with another certificate can remove a held entry.
    let holder = process(&with(&ca.issue("holder", &[])), TTL);
    let lock = LockName::raw("/jobs").expect("valid");
    let guard = acquire(&holder, &lock).await;
    let queue = holder.queue(&lock).await.expect("listed");
    let node = String::from_utf8_lossy(&queue.entries[0].id.key).into_owned();
    let stranger = Client::connect(&zookeeper.ensemble.connection_string()).await;
    let stranger = stranger.expect("the open door");
    let deleted = stranger.delete(&node, None).await;
    assert_eq!(deleted, Err(zookeeper_client::Error::NoAuth));
    let other = process(&with(&ca.issue("other", &[])), TTL);
    let error = other.mutex(lock).expect("valid").try_acquire().await;
    assert_eq!(error.expect_err("refused").kind(), ErrorKind::Refused);
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);

    // No certificate, and one that the server's CA did not issue.
    let theirs = Ca::new("theirs");
    let foreign = with(&theirs.issue("foreign", &[]));
    for url in [&url, &foreign] {
        let error = fails(url).await;
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        names(&error, "give a client certificate that it accepts");
        names(&error, &zookeeper.address());
    }
}

#[tokio::test]
async fn a_server_that_is_not_to_be_trusted_is_not_used() {
    let ca = Ca::new("ours");
    let others = [Ca::new("theirs"), Ca::new("ours")];
    let good = serve(&ca.issue("good", &["127.0.0.1"]), None);
    for other in &others {
        let url = format!("zks://{}?ca={}", good.address(), other.file());
        let error = fails(&url).await;
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        names(&error, "a CA that is not trusted: give the file of that CA");
    }
    works(&format!("zks://{}?ca={}", good.address(), ca.file())).await;
    let expired = serve(&ca.issue_expired("expired", &["127.0.0.1"]), None);
    let foreign = serve(&ca.issue("foreign", &["zk.example"]), None);
    for (bad, fault) in [
        (&expired, "has a certificate that has expired"),
        (&foreign, "has a certificate for another name"),
    ] {
        let url = format!("zks://{}?ca={}", bad.address(), ca.file());
        let error = fails(&url).await;
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        names(&error, fault);
        names(&error, &bad.address());
        // A server that is down is no server that is accepted.
        let both = format!("127.0.0.1:{},{}", free_port(), bad.address());
        names(
            &fails(&format!("zks://{both}?ca={}", ca.file())).await,
            fault,
        );
        // The client skips it and uses a server that it can trust.
        let both = format!("{},{}", bad.address(), good.address());
        works(&format!("zks://{both}?ca={}", ca.file())).await;
        assert!(bad.ensemble.sessions().is_empty());
    }
}

#[tokio::test]
async fn a_limited_wait_ends_with_the_fault_and_not_with_the_limit() {
    let ca = Ca::new("ours");
    let server = serve(&ca.issue("server", &["127.0.0.1"]), None);
    let other = Ca::new("theirs");
    // The client library would try for longer than the wait.
    let url = format!(
        "zks://{}?ca={}&connect_timeout=60s",
        server.address(),
        other.file()
    );
    let mutex = process(&url, TTL).mutex("x").expect("valid");
    let error = mutex.acquire_timeout(Duration::from_secs(20)).await;
    names(&error.expect_err("must fail"), "a CA that is not trusted");
}

#[tokio::test]
async fn plain_text_and_tls_do_not_mix() {
    let ca = Ca::new("ours");
    let zookeeper = serve(&ca.issue("server", &["127.0.0.1"]), None);
    let error = fails(&format!("zk://{}", zookeeper.address())).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("zks://"), "{error}");
    let plain = zookeeper.ensemble.connection_string();
    let error = fails(&format!("zks://{plain}?ca={}", ca.file())).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("TLS"), "{error}");
    // None of this harms the server.
    works(&zookeeper.ensemble.url()).await;
    let open = locks(&zookeeper.ensemble.url(), TTL);
    eventually("it serves", async || open.queue(&name("x")).await.is_ok()).await;
}

#[test]
fn files_that_cannot_be_used_are_refused_before_anything_is_sent() {
    let ca = Ca::new("ours");
    let (a, b) = (ca.issue("a", &["127.0.0.1"]), ca.issue("b", &["127.0.0.1"]));
    for (url, words) in [
        (format!("zks://h?ca={}", a.key), "CERTIFICATE"),
        (
            format!("zks://h?ca={}&cert={}&key={}", ca.file(), a.cert, b.key),
            "do not belong together",
        ),
        (
            format!("zks://a..b?ca={}", ca.file()),
            "no certificate can be issued for the host",
        ),
    ] {
        let error = Config::from_url(&url).and_then(ZkBackend::new);
        let error = error.expect_err("must be refused");
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        let text = error.to_string();
        assert!(text.contains(words) && !text.contains("BEGIN"), "{text}");
    }
}

//! Tests the metrics and the probes, and that a client that asks for them delays no other client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use backend_embedded::server::{Listen, ListenError, MetricsListener};
use backend_embedded::{Config, Coordinator, Limits};
use etcd_client::{LockOptions, PutOptions, Txn, TxnOp};
use testkit::scrape::{check_with_promtool, series};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{Served, get_http, listen_for_metrics, private_folder, soon, until};

/// A coordinator in memory with metrics.
fn serve(limits: Limits) -> (Served, SocketAddr) {
    let (metrics, address) = listen_for_metrics();
    let served = Served::with(limits, |server| server.with_metrics(vec![metrics]));
    (served, address)
}

async fn scrape(address: SocketAddr) -> BTreeMap<String, f64> {
    let (status, text) = get_http(address, "/metrics").await;
    assert_eq!(status, 200, "{text}");
    series(&text)
}

#[tokio::test]
async fn every_fixed_series_is_there_from_the_start() {
    let (_served, address) = serve(Limits::default());
    let (status, text) = get_http(address, "/metrics").await;
    assert_eq!(status, 200);
    check_with_promtool(&text);
    let series = scrape(address).await;
    for (name, value) in &series {
        let is_set = ["turnlock_server_limit{", "turnlock_build_info{"];
        let is_set = is_set.iter().any(|start| name.starts_with(start));
        assert!(is_set == (*value != 0.0), "{name} is {value}");
        assert!(!name.starts_with("etcd_"), "nobody asked for {name}");
    }
    for name in [
        "turnlock_server_locks{state=\"contended\"}",
        "turnlock_server_waiters",
        "turnlock_server_longest_queue",
        "turnlock_server_longest_hold_seconds{state=\"held\"}",
        "turnlock_server_longest_hold_seconds{state=\"contended\"}",
        "turnlock_server_longest_wait_seconds",
        "turnlock_server_leases",
        "turnlock_server_connections",
        "turnlock_server_limit{resource=\"leases\"}",
        "turnlock_server_refused_total{reason=\"pending_requests\"}",
        "turnlock_server_refused_total{reason=\"connections\"}",
        "turnlock_server_leases_expired_total",
        "turnlock_server_late_seconds_total",
        "turnlock_server_writes_refused",
        "turnlock_server_commit_duration_seconds_count",
        "turnlock_server_slowest_commit_seconds",
        "turnlock_server_commits_failed_total",
        "turnlock_server_fsync_duration_seconds_count{file=\"journal\"}",
        "turnlock_server_fsync_duration_seconds_count{file=\"tables\"}",
        "turnlock_server_journal_bytes",
        "grpc_server_handled_total{grpc_type=\"unary\",grpc_service=\"etcdserverpb.KV\",\
         grpc_method=\"Txn\",grpc_code=\"Unavailable\"}",
        "grpc_server_handling_seconds_count{grpc_type=\"bidi_stream\",\
         grpc_service=\"etcdserverpb.Watch\",grpc_method=\"Watch\"}",
    ] {
        assert!(series.contains_key(name), "no {name} in {text}");
    }
}

#[tokio::test]
async fn locks_leases_and_calls_are_counted() {
    let limits = Limits::default().with_leases(2);
    let (served, address) = serve(limits);
    let mut client = served.client().await;
    let lease = client.lease_grant(60, None).await.expect("granted").id();
    for (key, lease) in [
        ("n/a/write/1", lease),
        ("n/a/write/2", lease),
        ("n/b/read/1", lease),
    ] {
        let options = PutOptions::new().with_lease(lease);
        client.put(key, "", Some(options)).await.expect("stored");
    }
    client
        .put("n/c/write/none", "", None)
        .await
        .expect("stored");
    client.lease_grant(60, None).await.expect("granted");
    client
        .lease_grant(60, None)
        .await
        .expect_err("one too many");
    client.lease_revoke(12345).await.expect_err("not found");

    let series = scrape(address).await;
    for (name, expected) in [
        ("turnlock_server_locks{state=\"held\"}", 1.0),
        ("turnlock_server_locks{state=\"contended\"}", 1.0),
        ("turnlock_server_waiters", 1.0),
        ("turnlock_server_longest_queue", 1.0),
        ("turnlock_server_leases", 2.0),
        ("turnlock_server_limit{resource=\"leases\"}", 2.0),
        ("turnlock_server_connections", 1.0),
        ("turnlock_server_refused_total{reason=\"leases\"}", 1.0),
        ("turnlock_server_keys", 4.0),
    ] {
        assert_eq!(series[name], expected, "{name}");
    }
    let handled = |method: &str, code: &str| {
        let (service, method) = method.split_once('/').expect("a method");
        let labels = format!(
            "grpc_type=\"unary\",grpc_service=\"etcdserverpb.{service}\",grpc_method=\"{method}\""
        );
        series[&format!("grpc_server_handled_total{{{labels},grpc_code=\"{code}\"}}")]
    };
    assert_eq!(handled("KV/Put", "OK"), 4.0);
    assert_eq!(handled("Lease/LeaseGrant", "OK"), 2.0);
    assert_eq!(handled("Lease/LeaseGrant", "ResourceExhausted"), 1.0);
    assert_eq!(handled("Lease/LeaseRevoke", "NotFound"), 1.0);
    check_with_promtool(&get_http(address, "/metrics").await.1);
}

#[tokio::test]
async fn a_lease_that_nobody_renews_is_seen_to_run_out() {
    const REMAINING: &str = "turnlock_server_lease_remaining_ratio";
    let (served, address) = serve(Limits::default());
    assert!(!scrape(address).await.contains_key(REMAINING));
    let mut client = served.client().await;
    client.lease_grant(2, None).await.expect("granted");
    let mut last = f64::INFINITY;
    while let Some(&remaining) = scrape(address).await.get(REMAINING) {
        assert!(remaining <= last && remaining <= 1.0, "{remaining}");
        last = remaining;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(last < 0.5, "{last}");
    let series = scrape(address).await;
    assert_eq!(series["turnlock_server_leases_expired_total"], 1.0);
}

/// Puts an entry of a contender into the queue of a lock.
async fn enqueue(client: &mut etcd_client::Client, key: &str, lease: i64) {
    let options = PutOptions::new().with_lease(lease);
    client.put(key, "", Some(options)).await.expect("stored");
}

#[tokio::test]
async fn holds_and_waits_have_an_age() {
    const WAIT: &str = "turnlock_server_longest_wait_seconds";
    const HELD: &str = "turnlock_server_longest_hold_seconds{state=\"held\"}";
    const CONTENDED: &str = "turnlock_server_longest_hold_seconds{state=\"contended\"}";
    let begun = Instant::now();
    let (served, address) = serve(Limits::default());
    let mut client = served.client().await;
    let lease = client.lease_grant(600, None).await.expect("granted").id();
    enqueue(&mut client, "n/a/write/1", lease).await;
    until("the hold grows old", || async {
        scrape(address).await[HELD] > 1.0
    })
    .await;
    enqueue(&mut client, "n/a/write/2", lease).await;
    until("the wait grows old", || async {
        scrape(address).await[WAIT] > 1.0
    })
    .await;
    let ages = scrape(address).await;
    assert_eq!(ages[HELD], 0.0);
    assert!(ages[CONTENDED] > ages[WAIT] + 0.5, "{ages:?}");
    assert!(ages[CONTENDED] < begun.elapsed().as_secs_f64());

    // Whoever waited holds from the next scrape on.
    client.delete("n/a/write/1", None).await.expect("deleted");
    let released = Instant::now();
    let ages_then = scrape(address).await;
    assert_eq!((ages_then[WAIT], ages_then[CONTENDED]), (0.0, 0.0));
    let least = ages[WAIT];
    until("its hold grows older than its wait was", || async {
        let held = scrape(address).await[HELD];
        assert!(held <= released.elapsed().as_secs_f64());
        held > least
    })
    .await;
}

/// A scrape reads all locks. It must stay cheap, and must not make others wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_locks_are_counted_beside_the_requests() {
    const LOCKS: usize = 10_000;
    let (served, address) = serve(Limits::default());
    let mut client = served.client().await;
    let lease = client.lease_grant(600, None).await.expect("granted").id();
    let numbers: Vec<usize> = (0..LOCKS).collect();
    for chunk in numbers.chunks(100) {
        let put = |number: &usize| {
            let options = PutOptions::new().with_lease(lease);
            TxnOp::put(format!("n/lock-{number}/write/1"), "", Some(options))
        };
        let txn = Txn::new().and_then(chunk.iter().map(put).collect::<Vec<_>>());
        client.txn(txn).await.expect("stored");
    }
    let mut writer = served.client().await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writing = tokio::spawn(async move {
        let (mut count, mut slowest) = (0, Duration::ZERO);
        while !*stopped.borrow() {
            let begun = Instant::now();
            writer.put("other", "", None).await.expect("stored");
            slowest = slowest.max(begun.elapsed());
            count += 1;
        }
        (count, slowest)
    });
    let mut took = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        let series = scrape(address).await;
        took.push(begun.elapsed());
        assert_eq!(
            series["turnlock_server_locks{state=\"held\"}"],
            LOCKS as f64
        );
    }
    stop.send_replace(true);
    let (writes, slowest) = writing.await.expect("all of them");
    took.sort();
    println!("a scrape took {:?}, at most {:?}", took[10], took[19]);
    println!("{writes} writes meanwhile, the slowest took {slowest:?}");
    assert!(writes > took.len(), "{writes} writes in {took:?}");
    assert!(took[10] < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn an_etcd_s_names_are_there_if_they_are_asked_for() {
    let (metrics, address) = listen_for_metrics();
    let limits = Limits::default().with_store_bytes(1 << 20);
    let served = Served::with(limits, |server| {
        server.with_metrics(vec![metrics]).with_etcd_metric_names()
    });
    let mut client = served.client().await;
    client.put("key", "value", None).await.expect("stored");
    let series = scrape(address).await;
    for (name, value) in [
        ("etcd_server_has_leader", 1.0),
        ("etcd_server_is_leader", 1.0),
        ("etcd_mvcc_db_total_size_in_bytes", 8.0),
        ("etcd_server_quota_backend_bytes", 1048576.0),
        ("etcd_server_proposals_failed_total", 0.0),
        (
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"}",
            0.0,
        ),
        (
            "etcd_disk_backend_commit_duration_seconds_bucket{le=\"+Inf\"}",
            0.0,
        ),
        ("turnlock_server_keys", 1.0),
    ] {
        assert_eq!(series.get(name), Some(&value), "{name}");
    }
    check_with_promtool(&get_http(address, "/metrics").await.1);
}

#[tokio::test]
async fn commits_and_the_disk_are_shown_for_a_durable_store() {
    let folder = private_folder();
    let coordinator = Coordinator::open(Config::new(folder.path())).expect("a coordinator");
    let (metrics, address) = listen_for_metrics();
    let listen = vec![Listen::Tcp(([127, 0, 0, 1], 0).into())];
    let server = backend_embedded::server::Server::bind(coordinator, listen).expect("bound");
    let Listen::Tcp(grpc) = server.addresses()[0] else {
        panic!("not TCP");
    };
    let server = server.with_metrics(vec![metrics]);
    let serving = tokio::spawn(server.serve(std::future::pending()));
    let mut client = etcd_client::Client::connect([grpc.to_string()], None)
        .await
        .expect("a client");
    client.put("a", "b", None).await.expect("stored");
    let series = scrape(address).await;
    assert!(series["turnlock_server_commit_duration_seconds_count"] >= 1.0);
    assert!(series["turnlock_server_disk_free_bytes"] > 0.0);
    assert!(series["turnlock_server_store_bytes"] > 0.0);
    assert!(series["turnlock_server_journal_bytes"] >= 4096.0);
    let commits = series["turnlock_server_commit_duration_seconds_sum"];
    let syncs = series["turnlock_server_fsync_duration_seconds_sum{file=\"journal\"}"];
    assert!(0.0 < syncs && syncs <= commits, "{syncs} of {commits} s");
    let slowest = series["turnlock_server_slowest_commit_seconds"];
    assert!(
        0.0 < slowest && slowest <= commits,
        "{slowest} of {commits} s"
    );
    let syncs = series["turnlock_server_fsync_duration_seconds_count{file=\"journal\"}"];
    assert_eq!(
        syncs,
        series["turnlock_server_commit_duration_seconds_count"]
    );
    assert_eq!(series["turnlock_server_commits_failed_total"], 0.0);
    check_with_promtool(&get_http(address, "/metrics").await.1);
    serving.abort();
}

#[tokio::test]
async fn probes_answer_and_other_paths_do_not() {
    let (_served, address) = serve(Limits::default());
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(
            get_http(address, path).await,
            (200, "ok\n".to_owned()),
            "{path}"
        );
    }
    assert_eq!(get_http(address, "/").await.0, 404);
}

#[tokio::test]
async fn grpc_health_says_whether_writes_are_taken() {
    let (served, _) = serve(Limits::default());
    let mut health = HealthClient::new(served.channel().await);
    let ask = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    for service in ["", "etcdserverpb.KV"] {
        let answer = health.check(ask(service)).await.expect("known");
        assert_eq!(answer.get_ref().status(), ServingStatus::Serving);
    }
    let error = health.check(ask("nobody")).await.expect_err("unknown");
    assert_eq!(error.code(), Code::NotFound);
    let watch = health.watch(ask("")).await.expect("a stream");
    let mut watch = watch.into_inner();
    let first = soon("the first", watch.message()).await.expect("a message");
    assert_eq!(first.expect("one").status(), ServingStatus::Serving);
    served.stop().await;
}

/// Those who connect and say nothing keep nobody else from being served.
#[tokio::test]
async fn scrapers_that_hang_delay_neither_locks_nor_each_other_for_long() {
    let (served, address) = serve(Limits::default());
    let mut hanging = Vec::new();
    for number in 0..40 {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        if number % 2 == 0 {
            let half = b"GET /metrics HTTP/1.1\r\nHos";
            stream.write_all(half).await.expect("sent");
        } else {
            // A whole request, whose answer is never read.
            let whole = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
            stream.write_all(whole).await.expect("sent");
        }
        hanging.push(stream);
    }
    let mut client = served.client().await;
    let lease = client.lease_grant(2, None).await.expect("granted").id();
    let (mut keeper, mut stream) = client.lease_keep_alive(lease).await.expect("a stream");
    let begun = Instant::now();
    let mut rounds = 0;
    while begun.elapsed() < Duration::from_secs(4) {
        keeper.keep_alive().await.expect("sent");
        let renewed = soon("a renewal", stream.message())
            .await
            .expect("a message");
        assert!(renewed.expect("one").ttl() > 0, "the lease expired");
        let options = LockOptions::new().with_lease(lease);
        let lock = client.lock("a", Some(options)).await.expect("the lock");
        client.unlock(lock.key()).await.expect("released");
        rounds += 1;
    }
    assert!(rounds > 10, "only {rounds} rounds in {:?}", begun.elapsed());
    until("a scrape is answered", || async {
        get_http(address, "/metrics").await.0 == 200
    })
    .await;
    drop(hanging);
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let (_metrics, address) = listen_for_metrics();
    let error = MetricsListener::bind(&Listen::Tcp(address)).expect_err("taken");
    assert!(matches!(&error, ListenError::Io { .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

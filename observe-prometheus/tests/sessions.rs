//! Tests the metrics of sessions, on a served coordinator behind a network that can go silent.

mod support;

use std::time::Duration;

use backend_embedded::server::{Listen, Server};
use backend_embedded::{Coordinator, Limits};
use backend_etcd::EtcdBackend;
use conformance::Link;
use lock_core::{Locks, Options};
use observe_prometheus::LockMetrics;

use self::support::{Scraped, open};
use testkit::scrape::check_with_promtool;

const REMAINING: &str = "turnlock_session_remaining_ratio{backend=\"etcd\"}";

/// Serves a coordinator for the rest of the test, and returns a link to it.
fn serve() -> Link {
    let coordinator = Coordinator::in_memory(Limits::default()).expect("a coordinator");
    let listen = Listen::Tcp(([127, 0, 0, 1], 0).into());
    let server = Server::bind(coordinator, vec![listen]).expect("a free port");
    let Listen::Tcp(address) = server.addresses()[0].clone() else {
        panic!("not TCP");
    };
    tokio::spawn(server.serve(std::future::pending()));
    Link::new(vec![address.to_string()], |addresses| {
        let config = backend_etcd::Config::tcp(addresses).expect("valid addresses");
        EtcdBackend::new(config).expect("a valid configuration")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_margin_falls_between_scrapes_while_no_renewal_happens() {
    let link = serve();
    let scraped = Scraped::new(LockMetrics::new());
    let options = Options::default().with_ttl(Duration::from_secs(5));
    let options = options.with_observer(scraped.metrics.observer("etcd"));
    let locks = Locks::new(link.backend(), options).expect("valid options");
    assert!(
        !scraped.series().contains_key(REMAINING),
        "absent without a session"
    );
    let guard = locks.mutex("a").unwrap().acquire().await.unwrap();
    let all = scraped.value(REMAINING);
    assert!(all > 0.0 && all <= 1.0, "{all}");
    assert_eq!(
        scraped.value("turnlock_sessions_opened_total{backend=\"etcd\"}"),
        1.0
    );
    let renewals = |result: &str| {
        let name = "turnlock_session_renewal_duration_seconds_count";
        scraped.value(&format!("{name}{{backend=\"etcd\",result=\"{result}\"}}"))
    };
    let is_renewed = async {
        while renewals("ok") == 0.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let is_renewed = tokio::time::timeout(Duration::from_secs(60), is_renewed).await;
    assert!(is_renewed.is_ok(), "no renewal is counted");
    let margins = "turnlock_session_renewal_margin_ratio_count{backend=\"etcd\"}";
    assert_eq!(scraped.value(margins), renewals("ok"));

    link.silence();
    // One that is on its way may still be acknowledged.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = renewals("ok");
    let mut last = f64::INFINITY;
    let mut scrapes = 0;
    while let Some(&remaining) = scraped.series().get(REMAINING) {
        assert!(remaining < last, "{remaining} after {last}");
        last = remaining;
        scrapes += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        scrapes > 3 && last < 0.3,
        "{scrapes} scrapes, down to {last}"
    );
    assert_eq!(renewals("ok"), before);
    assert!(renewals("timeout") > 0.0);
    scraped
        .wait_for("turnlock_holds_lost_total{reason=\"expired\"}", 1.0)
        .await;
    scraped
        .wait_for(
            "turnlock_sessions_ended_total{backend=\"etcd\",reason=\"expired\"}",
            1.0,
        )
        .await;
    drop(guard);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_counted_by_their_state() {
    let link = serve();
    let scraped = Scraped::new(LockMetrics::new());
    let observer = scraped.metrics.observer("etcd");
    let ttl = Duration::from_secs(10);
    let options = Options::default().with_ttl(ttl).with_observer(observer);
    let locks = Locks::new(link.backend(), options).expect("valid options");
    let guard = locks.mutex("a").unwrap().acquire().await.unwrap();
    let local = open(scraped.metrics.observer("embedded"), ttl).await;
    let other = local.mutex("a").unwrap().acquire().await.unwrap();
    let state = |backend: &str, state: &str| {
        format!("turnlock_sessions{{backend=\"{backend}\",state=\"{state}\"}}")
    };
    assert_eq!(scraped.value(&state("etcd", "held")), 1.0);
    assert_eq!(scraped.value(&state("embedded", "held")), 1.0);
    link.silence();
    scraped.wait_for(&state("etcd", "jeopardy"), 1.0).await;
    assert_eq!(scraped.value(&state("etcd", "held")), 0.0);
    check_with_promtool(&scraped.text());
    assert_eq!(scraped.value(&state("embedded", "jeopardy")), 0.0);
    link.resume();
    drop((guard, other));
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_are_counted_by_operation_and_kind() {
    let link = serve();
    let scraped = Scraped::new(LockMetrics::new());
    let options = Options::default().with_observer(scraped.metrics.observer("etcd"));
    let locks = Locks::new(link.backend(), options).expect("valid options");
    let guard = locks.mutex("a").unwrap().acquire().await.unwrap();
    let retries = "turnlock_retries_total{backend=\"etcd\",op=\"acquire\",kind=\"unreachable\"}";
    let open = "turnlock_breakers_open{backend=\"etcd\"}";
    assert_eq!((scraped.value(retries), scraped.value(open)), (0.0, 0.0));
    link.silence();
    let lock = locks.mutex("b").unwrap();
    let acquiring = tokio::spawn(async move { lock.acquire().await });
    let retried = async {
        while scraped.value(retries) == 0.0 || scraped.value(open) == 0.0 {
            // No request is answered, whichever connection it takes, so each try ends with a cut.
            link.cut();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let retried = tokio::time::timeout(Duration::from_secs(60), retried).await;
    assert!(retried.is_ok(), "no retry in {:#?}", scraped.series());
    assert_eq!(scraped.value(open), 1.0);
    link.resume();
    scraped.wait_for(open, 0.0).await;
    acquiring.abort();
    drop(guard);
}

//! Tests the metrics of locks on the embedded coordinator in memory.

mod support;

use std::time::Duration;

use lock_core::AcquireOptions;
use observe_prometheus::{LockMetrics, MAX_LOCK_LABELS, collapse_ids};

use self::support::{Scraped, open};
use testkit::scrape::check_with_promtool;

const LONG: Duration = Duration::from_secs(30);

fn acquires(mode: &str, outcome: &str, contended: bool) -> String {
    format!(
        "turnlock_acquire_duration_seconds_count{{mode=\"{mode}\",outcome=\"{outcome}\",\
         contended=\"{contended}\"}}"
    )
}

fn holds(mode: &str, end: &str) -> String {
    format!("turnlock_hold_duration_seconds_count{{mode=\"{mode}\",end=\"{end}\"}}")
}

#[test]
fn every_fixed_series_is_there_from_the_start_with_0() {
    let scraped = Scraped::new(LockMetrics::new());
    scraped.metrics.observer("embedded");
    let mut series = scraped.series();
    series.retain(|name, value| {
        let is_version = name.starts_with("turnlock_build_info{version=");
        assert_eq!(*value, if is_version { 1.0 } else { 0.0 }, "{name}");
        !is_version
    });
    for (family, count) in [
        // Times the buckets, +Inf, sum and count.
        ("turnlock_acquire_duration_seconds", 2 * 7 * 2 * (17 + 3)),
        ("turnlock_waiting", 2),
        ("turnlock_held", 2),
        ("turnlock_hold_duration_seconds", 2 * 6 * (19 + 3)),
        ("turnlock_holds_lost_total", 5),
        ("turnlock_oldest_wait_seconds", 1),
        ("turnlock_sessions{", 2),
        ("turnlock_session_renewal_margin_ratio", 11 + 3),
        ("turnlock_session_renewal_duration_seconds", 3 * (14 + 3)),
        ("turnlock_sessions_opened_total", 1),
        ("turnlock_sessions_ended_total", 5),
        ("turnlock_retries_total", 12 * 2),
        ("turnlock_breakers_open", 1),
    ] {
        let found = series.keys().filter(|name| name.starts_with(family));
        assert_eq!(found.count(), count, "{family}");
        series.retain(|name, _| !name.starts_with(family));
    }
    assert!(series.is_empty(), "not listed here: {series:?}");
    check_with_promtool(&scraped.text());
}

#[tokio::test]
async fn acquires_and_holds_are_counted_by_how_they_end() {
    let scraped = Scraped::new(LockMetrics::new());
    let locks = open(scraped.metrics.observer("embedded"), LONG).await;
    let held = locks.mutex("a").unwrap().acquire().await.unwrap();
    assert_eq!(scraped.value("turnlock_held{mode=\"exclusive\"}"), 1.0);
    assert_eq!(scraped.value(&acquires("exclusive", "granted", false)), 1.0);

    let lock = locks.mutex("a").unwrap();
    assert!(lock.try_acquire().await.unwrap().is_none());
    let timed = AcquireOptions::new().timeout(Duration::from_millis(20));
    assert!(lock.acquire_with(timed).await.unwrap().is_none());
    let dropped = tokio::time::timeout(Duration::from_millis(20), lock.acquire()).await;
    assert!(dropped.is_err());
    for (outcome, contended) in [("busy", false), ("timeout", true), ("cancelled", true)] {
        let of = |contended| scraped.value(&acquires("exclusive", outcome, contended));
        assert_eq!(of(contended) + of(!contended), 1.0, "{outcome}");
    }

    let waiting = tokio::spawn(async move { lock.acquire().await });
    scraped
        .wait_for("turnlock_waiting{mode=\"exclusive\"}", 1.0)
        .await;
    let young = scraped.value("turnlock_oldest_wait_seconds");
    tokio::time::sleep(Duration::from_millis(5)).await;
    let old = scraped.value("turnlock_oldest_wait_seconds");
    assert!(old > young, "{young} and then {old}");
    let _ = held.release().await.unwrap();
    drop(waiting.await.unwrap().unwrap());
    assert_eq!(scraped.value("turnlock_waiting{mode=\"exclusive\"}"), 0.0);
    assert_eq!(scraped.value("turnlock_oldest_wait_seconds"), 0.0);
    // It may have come when the lock was free again.
    let granted = |contended| scraped.value(&acquires("exclusive", "granted", contended));
    assert_eq!(granted(false) + granted(true), 2.0);

    let reader = locks.rwlock("b").unwrap().read().await.unwrap();
    assert_eq!(scraped.value("turnlock_held{mode=\"shared\"}"), 1.0);
    let _ = reader.release().await.unwrap();
    assert_eq!(scraped.value("turnlock_held{mode=\"shared\"}"), 0.0);
    assert_eq!(scraped.value("turnlock_held{mode=\"exclusive\"}"), 0.0);
    assert_eq!(scraped.value(&holds("exclusive", "released")), 1.0);
    assert_eq!(scraped.value(&holds("exclusive", "dropped")), 1.0);
    assert_eq!(scraped.value(&holds("shared", "released")), 1.0);
}

#[tokio::test]
async fn an_acquire_that_had_to_wait_is_counted_as_contended() {
    let scraped = Scraped::new(LockMetrics::new());
    let locks = open(scraped.metrics.observer("embedded"), LONG).await;
    let contended = acquires("exclusive", "granted", true);
    let name = "a".parse().unwrap();
    let mut rounds = 0;
    while scraped.value(&contended) == 0.0 {
        rounds += 1;
        assert!(rounds < 1000, "never");
        let held = locks.mutex("a").unwrap().acquire().await.unwrap();
        let lock = locks.mutex("a").unwrap();
        let waiting = tokio::spawn(async move { lock.acquire().await });
        while locks.queue(&name).await.unwrap().entries.len() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // By now it knows that it has to wait, unless it is slow.
        let _ = held.release().await.unwrap();
        drop(waiting.await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn a_loss_is_counted_with_its_reason() {
    let scraped = Scraped::new(LockMetrics::new());
    let locks = open(scraped.metrics.observer("embedded"), LONG).await;
    let guard = locks.mutex("a").unwrap().acquire().await.unwrap();
    let queue = locks.queue(&"a".parse().unwrap()).await.unwrap();
    let entry = queue.entries[0].id.clone();
    locks.evict(&"a".parse().unwrap(), &entry).await.unwrap();
    let lost = |reason| format!("turnlock_holds_lost_total{{reason=\"{reason}\"}}");
    scraped.wait_for(&lost("entry_gone"), 1.0).await;
    scraped
        .wait_for("turnlock_held{mode=\"exclusive\"}", 0.0)
        .await;
    drop(guard);

    let guard = locks.mutex("b").unwrap().acquire().await.unwrap();
    locks.close().await.unwrap();
    scraped.wait_for(&lost("closed"), 1.0).await;
    assert_eq!(scraped.value(&lost("entry_gone")), 1.0);
    assert_eq!(scraped.value(&holds("exclusive", "lost")), 2.0);
    drop(guard);
    assert_eq!(scraped.value(&holds("exclusive", "lost")), 2.0);
    assert_eq!(scraped.value("turnlock_held{mode=\"exclusive\"}"), 0.0);
}

#[tokio::test]
async fn ten_thousand_names_make_no_more_than_the_most_values() {
    let metrics = LockMetrics::with_lock_label(|name| name.as_str().to_owned());
    let scraped = Scraped::new(metrics);
    let other = "turnlock_held{mode=\"exclusive\",lock=\"_other\"}";
    assert_eq!(scraped.value(other), 0.0, "from the start");
    let locks = open(scraped.metrics.observer("embedded"), LONG).await;
    for number in 0..10_000 {
        let lock = locks.mutex(format!("lock/{number}")).unwrap();
        let _ = lock.acquire().await.unwrap().release().await.unwrap();
    }
    let series = scraped.series();
    let held: Vec<_> = series
        .iter()
        .filter(|(name, _)| name.starts_with("turnlock_held{mode=\"exclusive\""))
        .collect();
    assert_eq!(held.len(), MAX_LOCK_LABELS + 1);
    assert!(held.iter().all(|(_, value)| **value == 0.0));
    let granted = |lock: &str| {
        let end = format!("outcome=\"granted\",contended=\"false\",lock=\"{lock}\"}}");
        let name = format!("turnlock_acquire_duration_seconds_count{{mode=\"exclusive\",{end}");
        series[&name]
    };
    assert_eq!(granted("lock/0"), 1.0);
    assert_eq!(granted("_other"), (10_000 - MAX_LOCK_LABELS) as f64);
    // One that has no value of its own, and is not remembered, begins and ends on the same series.
    let guard = locks.mutex("lock/9999").unwrap().acquire().await.unwrap();
    assert_eq!(scraped.value(other), 1.0);
    drop(guard);
    assert_eq!(scraped.value(other), 0.0);
    check_with_promtool(&scraped.text());
}

#[tokio::test]
async fn locks_of_one_label_share_their_series_and_strange_names_are_escaped() {
    let scraped = Scraped::new(LockMetrics::with_lock_label(collapse_ids));
    let locks = open(scraped.metrics.observer("embedded"), LONG).await;
    let one = locks.mutex("orders/1").unwrap().acquire().await.unwrap();
    let two = locks.mutex("orders/2").unwrap().acquire().await.unwrap();
    assert_eq!(
        scraped.value("turnlock_held{mode=\"exclusive\",lock=\"orders/*\"}"),
        2.0
    );
    let name = "a\"} x\\ \u{202e}";
    let strange = locks.mutex(name).unwrap().acquire().await.unwrap();
    assert_eq!(
        scraped.value("turnlock_held{mode=\"exclusive\",lock=\"a\\\"} x\\\\ \u{202e}\"}"),
        1.0
    );
    check_with_promtool(&scraped.text());
    drop((one, two, strange));
}

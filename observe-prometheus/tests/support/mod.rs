//! Scrapes, and what is read from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backend_embedded::EmbeddedBackend;
use lock_core::observe::Observer;
use lock_core::{Locks, Options};
use observe_prometheus::prometheus_client::encoding::prometheus_text;
use observe_prometheus::{LockMetrics, Registry};
use testkit::scrape;

/// Metrics in a registry.
pub struct Scraped {
    pub metrics: LockMetrics,
    registry: Registry,
}

impl Scraped {
    pub fn new(metrics: LockMetrics) -> Self {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        Scraped { metrics, registry }
    }

    /// Returns the text of a scrape.
    pub fn text(&self) -> String {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry).expect("a string takes any text");
        text
    }

    /// Returns the value of each series of a scrape.
    pub fn series(&self) -> BTreeMap<String, f64> {
        scrape::series(&self.text())
    }

    /// Returns the value of a series.
    pub fn value(&self, series: &str) -> f64 {
        let all = self.series();
        let value = all.get(series);
        *value.unwrap_or_else(|| panic!("no {series} in {all:#?}"))
    }

    /// Waits until a series has a value.
    pub async fn wait_for(&self, series: &str, expected: f64) {
        let reached = async {
            while self.value(series) != expected {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
        assert!(
            reached.is_ok(),
            "{series} is {} and not {expected}",
            self.value(series)
        );
    }
}

/// Returns the locks of a new coordinator in memory, with this observer.
pub async fn open(observer: Arc<dyn Observer>, ttl: Duration) -> Locks {
    let backend = EmbeddedBackend::open("embedded:memory").await;
    let options = Options::default().with_ttl(ttl).with_observer(observer);
    Locks::new(backend.expect("a coordinator in memory"), options).expect("valid options")
}
